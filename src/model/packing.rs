//! Which matrices of a Hugging Face model are packed, and in which scheme, as its settings say.

use regex::Regex;
use serde_json::{Map, Value};

use crate::format::packed::Scheme;

/// Program by which the weights were quantised, which decides how settings and tensors are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// compressed-tensors, which LLM Compressor writes.
    CompressedTensors,
    /// GPTQ, as AutoGPTQ and GPTQModel write it.
    Gptq,
    /// AWQ, as AutoAWQ writes it.
    Awq,
}

impl Method {
    /// Returns the name by which users know the method.
    pub fn name(self) -> &'static str {
        match self {
            Method::CompressedTensors => "compressed-tensors",
            Method::Gptq => "GPTQ",
            Method::Awq => "AWQ",
        }
    }
}

/// What the settings of a model say about its packed matrices. A matrix is called by the name of its module: that of its
/// weight tensor without the last part.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// Program by which the weights were quantised.
    pub method: Method,
    /// Schemes, each with the patterns of the matrices that have it; the class of all matrices is called `Linear`.
    pub schemes: Vec<(Vec<String>, Scheme)>,
    /// Patterns of the matrices that are not packed.
    pub ignored: Vec<String>,
    /// Whether the settings tell to round activations too, to 8 bits, each token by itself.
    pub rounds_activations: bool,
    /// The settings as the files declare them, kept to write those of a compressed model; `None` for settings that are
    /// made anew, whose patterns are of the new model already.
    pub(crate) declared: Option<Map<String, Value>>,
}

/// Class of the modules that can be packed, as settings call it.
pub const LINEAR: &str = "Linear";

/// Beginning of a pattern of compressed-tensors that is a regular expression.
pub const EXPRESSION: &str = "re:";

/// What the settings say about a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is packed in this scheme.
    Packed(Scheme),
    /// It is not packed.
    Plain,
    /// A pattern that is not understood may be of it; if it is packed, then in this scheme, where there is only one.
    Unknown(Option<Scheme>),
}

/// Patterns of a [`Packing`], compiled.
pub struct Matcher {
    schemes: Vec<(Vec<Pattern>, Scheme)>,
    ignored: Vec<Pattern>,
    says_all: bool,
}

enum Pattern {
    Name(String),
    Class,
    Expression(Regex),
    Ending(String),
    NotUnderstood,
}

impl Packing {
    /// Compiles the patterns.
    pub fn matcher(&self) -> Matcher {
        let compile = |patterns: &[String]| patterns.iter().flat_map(|p| self.method.compiled(p)).collect();
        let schemes = self.schemes.iter().map(|(targets, scheme)| (compile(targets), *scheme)).collect();
        // GPTQ packs what its programs know of each family of models, and its settings need not say it.
        let says_all = self.method != Method::Gptq;
        Matcher { schemes, ignored: compile(&self.ignored), says_all }
    }
}

impl Method {
    /// Compiles a pattern as the method's programs read it.
    fn compiled(self, pattern: &str) -> Vec<Pattern> {
        let expression = |text: String| Regex::new(&text).map_or(Pattern::NotUnderstood, Pattern::Expression);
        match self {
            Method::CompressedTensors => vec![match pattern.strip_prefix(EXPRESSION) {
                Some(text) => expression(format!("^(?:{text})")),
                None if pattern == LINEAR => Pattern::Class,
                None => Pattern::Name(pattern.to_owned()),
            }],
            Method::Gptq if pattern == LINEAR => vec![Pattern::Class],
            Method::Gptq => vec![expression(format!("^(?:{pattern})"))],
            Method::Awq if pattern == LINEAR => vec![Pattern::Class],
            // From the start up to a border between modules, or the end.
            Method::Awq => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
                let own =
                    if pattern.chars().all(is_name) { regex::escape(pattern) } else { pattern.to_owned() };
                let border = if pattern.ends_with('.') { "" } else { r"(?:\.|$)" };
                vec![expression(format!("^(?:{own}){border}")), Pattern::Ending(pattern.to_owned())]
            }
        }
    }
}

impl Pattern {
    /// Returns whether the pattern is of the matrix `module`; `None` if that is not known.
    fn is_of(&self, module: &str) -> Option<bool> {
        match self {
            Pattern::Name(name) => Some(name == module),
            Pattern::Class => Some(true),
            Pattern::Expression(expression) => Some(expression.is_match(module)),
            Pattern::Ending(end) => Some(module.ends_with(end.as_str())),
            Pattern::NotUnderstood => None,
        }
    }
}

impl Matcher {
    /// Returns what the settings say about the matrix `module`.
    pub fn says(&self, module: &str) -> Said {
        let any = |patterns: &[Pattern]| {
            let found: Vec<Option<bool>> = patterns.iter().map(|pattern| pattern.is_of(module)).collect();
            if found.contains(&Some(true)) { Some(true) } else { (!found.contains(&None)).then_some(false) }
        };
        let only = match self.schemes.as_slice() {
            [(_, scheme)] => Some(*scheme),
            _ => None,
        };
        match any(&self.ignored) {
            Some(true) => return Said::Plain,
            None => return Said::Unknown(only),
            Some(false) => {}
        }
        // What names a module comes before what names its class.
        let is_class = |(patterns, _): &&(Vec<Pattern>, Scheme)| {
            patterns.iter().any(|pattern| matches!(pattern, Pattern::Class))
        };
        let by_name = self.schemes.iter().filter(|each| !is_class(each));
        for (patterns, scheme) in by_name.chain(self.schemes.iter().filter(is_class)) {
            match any(patterns) {
                Some(true) if self.says_all => return Said::Packed(*scheme),
                Some(true) => return Said::Unknown(Some(*scheme)),
                None => return Said::Unknown(only),
                Some(false) => {}
            }
        }
        Said::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::packed::Layout;

    fn packing(method: Method, targets: &[&str], ignored: &[&str]) -> Packing {
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(32), symmetric: true };
        let owned = |patterns: &[&str]| patterns.iter().map(|each| (*each).to_owned()).collect();
        Packing {
            method,
            schemes: vec![(owned(targets), scheme)],
            ignored: owned(ignored),
            rounds_activations: false,
            declared: None,
        }
    }

    #[test]
    fn patterns_mean_what_the_programs_mean() {
        let says = |packing: &Packing, module: &str| match packing.matcher().says(module) {
            Said::Packed(_) => "packed",
            Said::Plain => "plain",
            Said::Unknown(_) => "unknown",
        };
        let ours = packing(
            Method::CompressedTensors,
            &[LINEAR],
            &["lm_head", "re:.*mlp.gate$", "model.layers.1.mlp.up_proj"],
        );
        for (module, said) in [
            ("lm_head", "plain"),
            ("model.layers.1.mlp.gate", "plain"),
            ("model.layers.1.mlp.gate_proj", "packed"),
            ("model.layers.1.mlp.up_proj", "plain"),
            ("model.layers.11.mlp.up_proj", "packed"),
        ] {
            assert_eq!(says(&ours, module), said, "{module}");
        }
        let named = packing(Method::CompressedTensors, &["re:.*q_proj"], &["re:.*(?<=x)y"]);
        assert_eq!(says(&named, "model.layers.0.self_attn.q_proj"), "unknown");
        let named = packing(Method::CompressedTensors, &["re:.*q_proj"], &[]);
        assert_eq!(says(&named, "model.layers.0.self_attn.q_proj"), "packed");
        assert_eq!(says(&named, "model.layers.0.self_attn.k_proj"), "plain");
        let awq = packing(Method::Awq, &[LINEAR], &["gate", "model.layers.0.mlp", "model.layers.2."]);
        for (module, said) in [
            ("model.layers.5.mlp.gate", "plain"),
            ("model.layers.5.mlp.gate_proj", "packed"),
            ("model.layers.0.mlp.up_proj", "plain"),
            ("model.layers.2.mlp.up_proj", "plain"),
            ("model.layers.20.mlp.up_proj", "packed"),
        ] {
            assert_eq!(says(&awq, module), said, "{module}");
        }
        let gptq = packing(Method::Gptq, &[LINEAR], &[r".*\.layers\.1\..*"]);
        assert_eq!(says(&gptq, "model.layers.1.mlp.up_proj"), "plain");
        assert_eq!(says(&gptq, "model.layers.11.mlp.up_proj"), "unknown");
    }
}
