//! Kinds of tokens.

/// What a token is; the numbers are the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Kind {
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// Has no text.
    Control = 3,
    /// Is found in a text before anything else happens to it.
    UserDefined = 4,
    Unused = 5,
    /// `<0x0A>`: a byte of a character without a piece.
    Byte = 6,
}

impl Kind {
    /// What the file means by the number it has for `token`.
    pub fn of(token: &str, number: i64) -> Option<Self> {
        Some(match number {
            // llama.cpp's "undefined".
            0 | 1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 if CONTROL_TOKENS.contains(&token) => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }

    /// Whether a text can contain it.
    pub fn has_text(self) -> bool {
        !matches!(self, Kind::Control | Kind::Unknown | Kind::Byte)
    }
}

/// Tokens that end a text or mark a gap in code: control tokens to llama.cpp even where the file calls them
/// user-defined, as that of Phi-3 does with `</s>`.
const CONTROL_TOKENS: [&str; 44] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<|file_sep|>",
];
