//! Enums whose variants have a name each, the same on the command line and in JSON.

/// Declares an enum whose variants each have a name, used on the command line and in JSON.
macro_rules! named {
    ($(#[$about:meta])* $enum:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        #[cfg_attr(test, derive(ts_rs::TS))]
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum $enum {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl $enum {
            /// All variants, in the order of this documentation.
            pub const ALL: &[$enum] = &[$($enum::$variant),*];

            /// Returns the name on the command line and in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)*
                }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $enum {
            type Err = $crate::error::Error;

            fn from_str(name: &str) -> $crate::error::Result<Self> {
                $enum::ALL.iter().copied().find(|each| each.name() == name).ok_or_else(|| {
                    let names: Vec<_> = $enum::ALL.iter().map(|each| each.name()).collect();
                    $crate::error::Error::Usage(format!("unknown {} \"{name}\": use one of {}", $what, names.join(", ")))
                })
            }
        }
    };
}

pub(crate) use named;
