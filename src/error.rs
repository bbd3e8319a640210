//! Error type of the whole engine, with variants by who must act.

use std::fmt::{self, Write};

/// Error of the engine. The message is one sentence that names the file, tensor or layer and says what to do.
///
/// The variants answer "who must act", not "which function failed": a user reads the message, a program
/// matches on the variant or on [`Error::kind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes could not be read or written: the disk, the network or the browser must act.
    #[error("{}", OneLine(.0))]
    Source(String),
    /// A file contradicts its own format: whoever made the file must act.
    #[error("{}", OneLine(.0))]
    Format(String),
    /// A well-formed model is not handled by this engine: we must act.
    #[error("{}", OneLine(.0))]
    Unsupported(String),
    /// Tensors have an element type or shape that does not fit the configuration, or sizes do not fit one
    /// another.
    #[error("{}", OneLine(.0))]
    Shape(String),
    /// Arithmetic has no meaningful result, as with a NaN weight or identical points.
    #[error("{}", OneLine(.0))]
    Numeric(String),
    /// The accelerator failed or went away.
    #[error("{}", OneLine(.0))]
    Device(String),
    /// More memory, storage or text is needed than there is.
    #[error("{}", OneLine(.0))]
    Limit(String),
    /// An option is out of range or contradicts another: the caller must act.
    #[error("{}", OneLine(.0))]
    Usage(String),
    /// The user stopped the run. What was being written was removed.
    #[error("cancelled")]
    Cancelled,
    /// The program has a fault, found before it could give a wrong number: we must act.
    #[error("{}; this is a fault of Laminate itself: please report it with what you did", OneLine(.0))]
    Internal(String),
}

/// A message in one line: names in it may come from a damaged file, and have any characters. Those that are no text, such
/// as line breaks and the codes by which a terminal is controlled, are escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

impl Error {
    /// Returns the variant's name in lower case, stable across versions, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Source(_) => "source",
            Error::Format(_) => "format",
            Error::Unsupported(_) => "unsupported",
            Error::Shape(_) => "shape",
            Error::Numeric(_) => "numeric",
            Error::Device(_) => "device",
            Error::Limit(_) => "limit",
            Error::Usage(_) => "usage",
            Error::Cancelled => "cancelled",
            Error::Internal(_) => "internal",
        }
    }

    /// Returns the same error about the tensor `name`, which the encoders that it comes from do not know.
    #[must_use]
    pub fn in_tensor(self, name: &str) -> Self {
        match self {
            Error::Numeric(what) => Error::Numeric(format!("tensor {name}: {what}")),
            Error::Shape(what) => Error::Shape(format!("tensor {name}: {what}")),
            other => other,
        }
    }

    /// Makes an [`Error::Internal`]; `what` says in a clause what is wrong.
    pub fn internal(what: impl Into<String>) -> Self {
        Error::Internal(what.into())
    }

    /// Returns the exit code of the command line: 2 for bad usage, 1 for a run that failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// Conversion of a missing value into an [`Error::Internal`], where a default would give wrong numbers.
pub trait OrInternal<T> {
    /// Returns the value.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is none; `what` says in a clause what is missing.
    fn or_internal(self, what: &str) -> Result<T>;
}

impl<T> OrInternal<T> for Option<T> {
    fn or_internal(self, what: &str) -> Result<T> {
        self.ok_or_else(|| Error::internal(what))
    }
}

/// Result of the engine's functions.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_a_file_calls_its_parts() {
        let error = Error::Format("m.gguf: key a\nb\u{1b}[31mé is unknown".to_owned());
        assert_eq!(error.to_string(), "m.gguf: key a\\nb\\u{1b}[31mé is unknown");
        assert!(Error::internal("x\ny").to_string().starts_with("x\\ny; this is a fault"));
    }
}
