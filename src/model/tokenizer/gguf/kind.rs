//! Kinds of tokens.

/// Kind of a token. The numbers are those of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Kind {
    Normal = 1,
    /// Replaces characters that the vocabulary cannot spell.
    Unknown = 2,
    /// Marks structure, such as the beginning of a text, and has no text of its own.
    Control = 3,
    /// Is matched in a text before any other step.
    UserDefined = 4,
    Unused = 5,
    /// One byte of a character without a piece, such as `<0x0A>`.
    Byte = 6,
}

impl Kind {
    /// Returns the kind that the file means by `number` for `token`; `None` for an unknown number.
    pub fn of(token: &str, number: i64) -> Option<Self> {
        Some(match number {
            // 0 is llama.cpp's "undefined".
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

    /// Whether a text can contain tokens of this kind.
    pub fn has_text(self) -> bool {
        !matches!(self, Kind::Control | Kind::Unknown | Kind::Byte)
    }
}

/// Tokens that end a text or mark a gap in code. llama.cpp treats them as control tokens even if the file
/// calls them user-defined, as Phi-3's file does with `</s>`.
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
