//! Pre-tokenizers of byte-level BPE, which cut a text before any merge, by llama.cpp's names.
//!
//! The names, and whether a piece that is in the vocabulary skips the merges, are those of llama.cpp's
//! `src/llama-vocab.cpp`. The regular expressions are those of the models' own `tokenizer.json`, from which
//! llama.cpp adapted its expressions.

use serde_json::Value as Json;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// A pre-tokenizer and its names.
pub(super) struct PreTokenizer {
    /// Values of `tokenizer.ggml.pre`; the first one is written.
    names: &'static [&'static str],
    /// Regular expressions, each applied to the pieces that the expressions before it left. Matches and the
    /// text between matches become pieces.
    splits: &'static [&'static str],
    /// Whether a piece that is in the vocabulary becomes one token, whatever the merges make of it.
    pub ignore_merges: bool,
    /// Whether texts begin with BOS if the file does not say.
    pub adds_bos: bool,
}

/// GPT-2's expression. Its branch `|\s+` matches what no other branch does: one space before something else.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Expression that makes every digit a piece of its own.
const DIGIT: &str = r"\p{N}";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Expression of Bloom and its relatives.
const WORDS: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

static TABLE: [PreTokenizer; 14] = [
    plain(&["gpt-2", "phi-2", "olmo", "mpt", "mellum", "trillion", "exaone4"], &[GPT2]),
    plain(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[DIGIT, GPT2],
    ),
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "midm-2.0", "lfm2"],
        splits: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
    },
    plain(&["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], &[LLAMA3]),
    plain(&["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"], &[QWEN2]),
    plain(&["qwen35"], &[QWEN3_5]),
    PreTokenizer { names: &["tekken"], splits: &[TEKKEN], ignore_merges: true, adds_bos: true },
    plain(&["gpt-4o", "llama4", "kanana2"], &[GPT4O]),
    plain(&["seed-coder"], &[SEED_CODER]),
    plain(
        &["deepseek-coder"],
        &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u{800}-一가-\u{d7ff}]+", DIGIT],
    ),
    plain(&["deepseek-v3", "hunyuan-dense"], &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK_V3]),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], &[WORDS]),
    plain(&["viking"], &[WORDS, DIGIT]),
    // llama.cpp's pre-tokenizer for files that name none; no model's own.
    plain(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
];

const fn plain(names: &'static [&'static str], splits: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { names, splits, ignore_merges: false, adds_bos: false }
}

/// Returns the pre-tokenizer that llama.cpp calls `name`.
pub(super) fn by_name(name: &str) -> Option<&'static PreTokenizer> {
    TABLE.iter().find(|pre| pre.names.contains(&name))
}

/// Returns llama.cpp's name for a `pre_tokenizer` of `tokenizer.json`; `None` if it has none.
pub(super) fn name_of(json: &Json, ignore_merges: bool) -> Option<&'static str> {
    let steps = match json.get("pretokenizers") {
        Some(steps) => steps.as_array()?.as_slice(),
        None => std::slice::from_ref(json),
    };
    let mut splits = Vec::new();
    for step in steps {
        splits.extend(split_of(step)?);
    }
    let pre = TABLE.iter().find(|pre| pre.splits == splits && pre.ignore_merges == ignore_merges)?;
    pre.names.first().copied()
}

/// Whether a `pre_tokenizer` of `tokenizer.json` writes bytes as letters.
pub(super) fn is_byte_level(json: &Json) -> bool {
    let is = |step: &Json| step.get("type").and_then(Json::as_str) == Some("ByteLevel");
    is(json) || json.get("pretokenizers").and_then(Json::as_array).is_some_and(|steps| steps.iter().any(is))
}

/// Returns the regular expressions that a step of a `pre_tokenizer` amounts to; `None` for an unknown step.
fn split_of(step: &Json) -> Option<Vec<&str>> {
    let flag = |name| step.get(name).and_then(Json::as_bool);
    match step.get("type")?.as_str()? {
        "ByteLevel" if flag("add_prefix_space") == Some(false) => {
            // Older files lack `use_regex`, which is on by default.
            Some(if flag("use_regex").unwrap_or(true) { vec![GPT2] } else { Vec::new() })
        }
        "Digits" if flag("individual_digits") == Some(true) => Some(vec![DIGIT]),
        "Split" => {
            let regex = step.get("pattern")?.get("Regex")?.as_str()?;
            let behaviour = (step.get("behavior")?.as_str()?, flag("invert")?);
            // Removing the text outside matches cuts as isolating matches does, if no text lies between
            // matches.
            let cuts = behaviour == ("Isolated", false)
                || (behaviour == ("Removed", true) && regex.ends_with(r"|\s+"));
            cuts.then(|| vec![regex])
        }
        _ => None,
    }
}

impl PreTokenizer {
    /// Builds the Hugging Face pre-tokenizer.
    ///
    /// # Errors
    /// A message that follows the key `tokenizer.ggml.pre`, if a regular expression is invalid.
    pub fn build(&self) -> Result<PreTokenizerWrapper, String> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        let (last, before) = match self.splits.split_last() {
            // The byte-level step applies GPT-2's expression itself.
            Some((last, before)) if *last == GPT2 => (true, before),
            _ => (false, self.splits),
        };
        for regex in before {
            if *regex == DIGIT {
                steps.push(Digits::new(true).into());
                continue;
            }
            let pattern = SplitPattern::Regex((*regex).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            steps.push(split.map_err(|e| format!("names a pre-tokenizer that fails ({e})"))?.into());
        }
        let bytes = ByteLevel::new(false, true, last).into();
        if steps.is_empty() {
            return Ok(bytes);
        }
        steps.push(bytes);
        Ok(Sequence::new(steps).into())
    }
}
