//! Settings of packed weights in `config.json`: GPTQ, AWQ and compressed-tensors.

use serde_json::{Map, Value, json};

use super::json::shown;
use super::keys::Keys;
use super::{CONFIG_NAME, MXFP4, QUANTISED_KEY};
use crate::format::packed::{Layout, Scheme};
use crate::model::packing::{EXPRESSION, LINEAR, Method, Packing};
use crate::{Error, Result};

/// Key of the name of the method.
pub(super) const METHOD_KEY: &str = "quant_method";

/// Names of the methods that pack matrices.
const METHODS: [(&str, Method); 3] =
    [("compressed-tensors", Method::CompressedTensors), ("gptq", Method::Gptq), ("awq", Method::Awq)];

/// Key of the groups of modules of compressed-tensors, each with a scheme.
const GROUPS_KEY: &str = "config_groups";

/// Key of the modules of a group.
const TARGETS_KEY: &str = "targets";

/// Key of the modules that compressed-tensors does not pack.
const IGNORED_KEY: &str = "ignore";

/// Key of the modules that AWQ does not pack.
const NOT_CONVERTED_KEY: &str = "modules_to_not_convert";

/// Key of the settings of single modules of GPTQ. A name that begins with [`NOT_PACKED`] is of modules that are not packed.
const DYNAMIC_KEY: &str = "dynamic";

/// See [`DYNAMIC_KEY`].
const NOT_PACKED: &str = "-:";

/// Key of the bits of a code in the settings of GPTQ and AWQ, and of the number of columns of a group in those of all.
const BITS_KEY: &str = "bits";

/// See [`BITS_KEY`].
const GROUP_KEY: &str = "group_size";

/// Names of the layouts of compressed-tensors that are read.
const FORMATS: [(&str, Layout); 3] =
    [("pack-quantized", Layout::Rows), ("int-quantized", Layout::Bytes), ("naive-quantized", Layout::Bytes)];

/// What the name of a module has before the number of a layer.
const BEFORE_NUMBER: &str = "layers.";

/// Returns the error that the setting `what` of packed weights is refused with.
fn refused(what: String) -> Error {
    Error::Unsupported(format!("{CONFIG_NAME}: {QUANTISED_KEY}: {what}"))
}

/// Returns the error for a setting that is missing or senseless.
fn senseless(what: String) -> Error {
    Error::Format(format!("{CONFIG_NAME}: {QUANTISED_KEY}: {what}; download the file again"))
}

impl Keys<'_> {
    /// Reads which matrices are packed and how; `None` if none are, or if experts are in MXFP4.
    pub(super) fn packing(&self) -> Result<Option<Packing>> {
        let Some(settings) = self.present(QUANTISED_KEY) else { return Ok(None) };
        let Value::Object(settings) = settings else {
            return Err(senseless(format!("it is {}, not an object", shown(settings))));
        };
        let name = settings.get(METHOD_KEY).and_then(Value::as_str).unwrap_or("unnamed");
        if name == MXFP4 {
            return Ok(None);
        }
        let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = METHODS.iter().map(|(known, _)| *known).collect();
            return Err(Error::Unsupported(format!(
                "{CONFIG_NAME}: its weights are quantised ({name}), which is not supported; {} are: use one of them, or the \
                 original F32, F16 or BF16 weights",
                known.join(", ")
            )));
        };
        let keys = Keys(settings);
        let packing = match method {
            Method::CompressedTensors => keys.compressed_tensors()?,
            Method::Gptq => keys.gptq()?,
            Method::Awq => keys.awq()?,
        };
        Ok(Some(Packing { declared: Some(settings.clone()), ..packing }))
    }

    fn gptq(&self) -> Result<Packing> {
        let format = self.word("checkpoint_format")?.or(self.word("format")?).unwrap_or("gptq");
        let less_one = match format {
            "gptq" => true,
            "gptq_v2" => false,
            other => return Err(refused(format!("format {other} is not supported; gptq and gptq_v2 are"))),
        };
        if let Some(word) = self.word("pack_dtype")?.filter(|word| *word != "int32") {
            return Err(refused(format!("codes in words of type {word} are not supported; int32 is")));
        }
        let mut ignored = Vec::new();
        let of_modules = self.present(DYNAMIC_KEY).and_then(Value::as_object).into_iter().flatten();
        for (pattern, settings) in of_modules {
            match pattern.strip_prefix(NOT_PACKED) {
                Some(pattern) => ignored.push(pattern.to_owned()),
                None => {
                    return Err(refused(format!(
                        "{DYNAMIC_KEY} gives the modules {pattern} settings of their own ({}), which is not supported; use \
                         a model of one setting",
                        shown(settings)
                    )));
                }
            }
        }
        let scheme = Scheme {
            layout: Layout::Gptq { less_one },
            bits: self.bits(BITS_KEY, &[4, 8])?,
            group: self.group(GROUP_KEY)?,
            symmetric: self.flag_or("sym", true)?,
        };
        Ok(Packing {
            method: Method::Gptq,
            schemes: vec![(vec![LINEAR.to_owned()], scheme)],
            ignored,
            rounds_activations: false,
            declared: None,
        })
    }

    fn awq(&self) -> Result<Packing> {
        let version = self.word("version")?.or(self.word("format")?).unwrap_or("gemm");
        if !version.eq_ignore_ascii_case("gemm") {
            return Err(refused(format!("version {version} of AWQ is not supported; gemm is")));
        }
        if !self.flag_or("zero_point", true)? {
            return Err(refused("AWQ without zero points is not supported".to_owned()));
        }
        let either = |key: &'static str, old: &'static str| if self.0.contains_key(key) { key } else { old };
        let scheme = Scheme {
            layout: Layout::Awq,
            bits: self.bits(either(BITS_KEY, "w_bit"), &[4])?,
            group: self.group(either(GROUP_KEY, "q_group_size"))?,
            symmetric: false,
        };
        Ok(Packing {
            method: Method::Awq,
            schemes: vec![(vec![LINEAR.to_owned()], scheme)],
            ignored: self.patterns(NOT_CONVERTED_KEY)?,
            rounds_activations: false,
            declared: None,
        })
    }

    fn compressed_tensors(&self) -> Result<Packing> {
        if self.present("kv_cache_scheme").is_some() {
            return Err(refused("a quantised cache of keys and values is not supported".to_owned()));
        }
        for key in ["sparsity_config", "transform_config"] {
            let is_empty = |value: &Value| {
                let object = value.as_object();
                object.is_some_and(|object| {
                    object.is_empty() || object.get("format").and_then(Value::as_str) == Some("dense")
                })
            };
            if self.present(key).is_some_and(|value| !is_empty(value)) {
                return Err(refused(format!("{key} is not supported")));
            }
        }
        let format = self.word("format")?;
        let groups = self.present(GROUPS_KEY).and_then(Value::as_object);
        let groups = groups.filter(|groups| !groups.is_empty());
        let groups = groups.ok_or_else(|| senseless(format!("it lacks {GROUPS_KEY}")))?;
        let (mut schemes, mut rounds_activations) = (Vec::new(), false);
        for (name, group) in groups {
            let Value::Object(group) = group else {
                return Err(refused(format!("{name} is named by a preset, which is not supported")));
            };
            let keys = Keys(group);
            rounds_activations |= keys.dynamic_activations(name)?;
            if keys.present("output_activations").is_some() {
                return Err(refused(format!("{name} quantises outputs, which is not supported")));
            }
            let format = keys.word("format")?.or(format).unwrap_or("unnamed");
            let Some((_, layout)) = FORMATS.iter().find(|(known, _)| *known == format) else {
                let known: Vec<&str> = FORMATS.iter().map(|(known, _)| *known).collect();
                return Err(refused(format!("format {format} is not supported; {} are", known.join(", "))));
            };
            let Some(Value::Object(weights)) = keys.present("weights") else {
                return Err(refused(format!("{name} quantises no weights, which is not supported")));
            };
            let targets = keys.patterns(TARGETS_KEY)?;
            schemes.push((targets, Keys(weights).scheme(name, *layout)?));
        }
        Ok(Packing {
            method: Method::CompressedTensors,
            schemes,
            ignored: self.patterns(IGNORED_KEY)?,
            rounds_activations,
            declared: None,
        })
    }

    /// Returns whether activations are rounded, each token by itself; any other rounding is refused.
    fn dynamic_activations(&self, group: &str) -> Result<bool> {
        let Some(Value::Object(inputs)) = self.present("input_activations") else { return Ok(false) };
        let keys = Keys(inputs);
        let kind = keys.word("type")?.unwrap_or("int");
        if kind != "int" {
            return Err(refused(format!("{group}: activations of type {kind} are not supported; int is")));
        }
        if keys.present("dynamic") != Some(&Value::Bool(true)) {
            return Err(refused(format!(
                "{group}: activations with stored scales are not supported; dynamic ones are"
            )));
        }
        Ok(true)
    }

    /// Reads the scheme of the weights of a group of compressed-tensors.
    fn scheme(&self, name: &str, layout: Layout) -> Result<Scheme> {
        let kind = self.word("type")?.unwrap_or("int");
        if kind != "int" {
            return Err(refused(format!("{name}: weights of type {kind} are not supported; int is")));
        }
        match self.present("actorder") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::String(order)) if ["weight", "static"].contains(&order.as_str()) => {}
            Some(order) => {
                return Err(refused(format!(
                    "{name}: actorder {} is not supported; weight is, and so are weights without an order",
                    shown(order)
                )));
            }
        }
        let group = self.group(GROUP_KEY)?;
        let group = match self.word("strategy")? {
            Some("channel") => None,
            Some("group") if group.is_some() => group,
            Some("group") => return Err(senseless(format!("{name}: groups without a {GROUP_KEY}"))),
            None => group,
            Some(other) => {
                return Err(refused(format!(
                    "{name}: scales by strategy {other} are not supported; group and channel are"
                )));
            }
        };
        Ok(Scheme {
            layout,
            bits: self.bits("num_bits", &[4, 8])?,
            group,
            symmetric: self.flag_or("symmetric", true)?,
        })
    }

    fn word(&self, key: &str) -> Result<Option<&str>> {
        let value = self.present(key);
        value
            .map(|value| {
                value.as_str().ok_or_else(|| senseless(format!("{key} is {}, not a word", shown(value))))
            })
            .transpose()
    }

    fn bits(&self, key: &str, known: &[u32]) -> Result<u32> {
        let value = self.present(key).ok_or_else(|| senseless(format!("it lacks {key}")))?;
        let found = known.iter().copied().find(|bits| value.as_u64() == Some(u64::from(*bits)));
        found.ok_or_else(|| {
            let known: Vec<String> = known.iter().map(u32::to_string).collect();
            let are = if known.len() == 1 { "is" } else { "are" };
            refused(format!("{key} {} is not supported; {} {are}", shown(value), known.join(" and ")))
        })
    }

    /// Reads the number of columns of a group; `None` for whole rows.
    fn group(&self, key: &str) -> Result<Option<usize>> {
        match self.present(key).map(|value| (value, value.as_i64())) {
            None | Some((_, Some(-1))) => Ok(None),
            Some((_, Some(group))) if group > 0 => Ok(usize::try_from(group).ok()),
            Some((value, _)) => Err(senseless(format!("{key} is {}, not a number of columns", shown(value)))),
        }
    }

    fn patterns(&self, key: &str) -> Result<Vec<String>> {
        let list = match self.present(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            Some(_) => None,
        };
        let list = list.ok_or_else(|| senseless(format!("{key} is not a list of names")))?;
        Ok(list.into_iter().map(str::to_owned).collect())
    }
}

impl Packing {
    /// Makes the settings of a model whose matrices are packed in `scheme`, a scheme of compressed-tensors or of GPTQ, but
    /// for the modules `ignored`. Where codes are bytes, activations are rounded too.
    pub(crate) fn of_output(scheme: Scheme, ignored: Vec<String>) -> Self {
        Self {
            method: match scheme.layout {
                Layout::Gptq { .. } => Method::Gptq,
                Layout::Awq => Method::Awq,
                Layout::Rows | Layout::Bytes => Method::CompressedTensors,
            },
            schemes: vec![(vec![LINEAR.to_owned()], scheme)],
            ignored,
            rounds_activations: scheme.layout == Layout::Bytes,
            declared: None,
        }
    }

    /// Returns the value of the settings for the model that has one layer for each entry of `groups`: patterns that name a
    /// layer name the layer that its tensors went to. `None` if no matrix is packed any more.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the pattern, if an expression picks layers by their numbers.
    pub(super) fn settings(&self, groups: &[Vec<usize>], n_layers: usize) -> Result<Option<Value>> {
        let Some(mut object) = self.declared.clone() else { return Ok(Some(self.new_settings())) };
        let unchanged = groups.len() == n_layers
            && groups.iter().enumerate().all(|(layer, group)| group.as_slice() == [layer]);
        if unchanged {
            return Ok(Some(object.into()));
        }
        if let Some(Value::Object(of_modules)) = object.get(DYNAMIC_KEY) {
            of_modules.keys().try_for_each(|pattern| refuse_numbers(pattern))?;
        }
        for key in [IGNORED_KEY, NOT_CONVERTED_KEY] {
            if let Some(Value::Array(patterns)) = object.get_mut(key) {
                *patterns = renumbered(patterns, groups)?;
            }
        }
        if let Some(Value::Object(of_groups)) = object.get_mut(GROUPS_KEY) {
            let mut empty = Vec::new();
            for (name, group) in of_groups.iter_mut() {
                if let Some(Value::Array(targets)) = group.get_mut(TARGETS_KEY) {
                    *targets = renumbered(targets, groups)?;
                    if targets.is_empty() {
                        empty.push(name.clone());
                    }
                }
            }
            of_groups.retain(|name, _| !empty.contains(name));
            if of_groups.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(object.into()))
    }

    /// Makes the settings of the layout of GPTQ, whose programs know which modules of an architecture are packed.
    fn gptq_settings(scheme: Scheme) -> Value {
        let format = if scheme.layout == (Layout::Gptq { less_one: true }) { "gptq" } else { "gptq_v2" };
        json!({
            METHOD_KEY: "gptq", BITS_KEY: scheme.bits, GROUP_KEY: scheme.group.map_or(json!(-1), |group| json!(group)),
            "desc_act": false, "sym": scheme.symmetric, "checkpoint_format": format, "pack_dtype": "int32",
            "lm_head": false,
        })
    }

    fn new_settings(&self) -> Value {
        if let (Method::Gptq, [(_, scheme)]) = (self.method, self.schemes.as_slice()) {
            return Self::gptq_settings(*scheme);
        }
        let activations = match self.rounds_activations {
            true => json!({
                "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true,
            }),
            false => Value::Null,
        };
        let groups: Map<String, Value> = self
            .schemes
            .iter()
            .enumerate()
            .map(|(number, (targets, scheme))| {
                let strategy = if scheme.group.is_some() { "group" } else { "channel" };
                let weights = json!({
                    "num_bits": scheme.bits, "type": "int", "symmetric": scheme.symmetric, "strategy": strategy,
                    GROUP_KEY: scheme.group, "dynamic": false, "actorder": Value::Null,
                });
                let format = FORMATS.iter().find(|(_, layout)| *layout == scheme.layout).map(|(name, _)| *name);
                let group = json!({
                    TARGETS_KEY: targets, "weights": weights, "input_activations": activations,
                    "output_activations": Value::Null, "format": format,
                });
                (format!("group_{number}"), group)
            })
            .collect();
        let format = groups.values().next().and_then(|group| group.get("format")).cloned();
        json!({
            METHOD_KEY: "compressed-tensors", "format": format, "quantization_status": "compressed",
            GROUPS_KEY: groups, IGNORED_KEY: self.ignored,
        })
    }
}

/// Returns the patterns of the model that has one layer for each entry of `groups`: the names of tensors of the first layer
/// of an entry become those of the new layer.
fn renumbered(patterns: &[Value], groups: &[Vec<usize>]) -> Result<Vec<Value>> {
    let mut new = Vec::new();
    for pattern in patterns {
        let Some(text) = pattern.as_str() else { continue };
        let Some((before, number, after)) = layer_in(text) else {
            refuse_numbers(text)?;
            new.push(pattern.clone());
            continue;
        };
        for (place, group) in groups.iter().enumerate() {
            if group.first() == Some(&number) {
                new.push(format!("{before}{place}{after}").into());
            }
        }
    }
    Ok(new)
}

/// Splits the name of a module of a layer at the number of the layer; `None` for other names and for expressions.
fn layer_in(name: &str) -> Option<(&str, usize, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.starts_with(EXPRESSION) || !name.chars().all(is_name) {
        return None;
    }
    let at = name.find(BEFORE_NUMBER)? + BEFORE_NUMBER.len();
    let (before, rest) = name.split_at_checked(at)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at_checked(digits)?;
    Some((before, number.parse().ok()?, after)).filter(|_| after.is_empty() || after.starts_with('.'))
}

/// Refuses an expression that picks layers by their numbers, which change.
fn refuse_numbers(pattern: &str) -> Result<()> {
    let stem = BEFORE_NUMBER.trim_end_matches('.');
    let picks = pattern.find(stem).and_then(|at| pattern.get(at + stem.len()..)).is_some_and(|rest| {
        let rest = rest.trim_start_matches(['\\', '.']);
        rest.starts_with(|c: char| c.is_ascii_digit() || c == '(' || c == '[') && !rest.starts_with("[0-9]+")
    });
    if picks {
        return Err(refused(format!(
            "{pattern} picks layers by their numbers, which cannot be changed in an expression; write the model with \
             --dtype f16 or bf16, or as a .gguf file"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    fn packing(settings: Value) -> Result<Packing> {
        let json = json!({ "model_type": "llama", "hidden_size": 64, QUANTISED_KEY: settings });
        Config::parse(json.to_string().as_bytes()).map(|config| config.packing.unwrap())
    }

    fn compressed(group: Value) -> Value {
        let mut settings = json!({
            "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
            "config_groups": { "group_0": {
                "targets": ["Linear"],
                "weights": { "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": true },
            } },
        });
        let inner = settings["config_groups"]["group_0"].as_object_mut().unwrap();
        for (key, value) in group.as_object().unwrap() {
            match value {
                Value::Object(edits) if inner.contains_key(key) => {
                    inner[key].as_object_mut().unwrap().extend(edits.clone());
                }
                other => drop(inner.insert(key.clone(), other.clone())),
            }
        }
        settings
    }

    #[test]
    fn settings_of_all_methods_are_read() {
        let scheme = |settings| packing(settings).unwrap().schemes[0].1;
        let gptq =
            json!({ "quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "sym": false });
        let expected =
            Scheme { layout: Layout::Gptq { less_one: true }, bits: 4, group: Some(128), symmetric: false };
        assert_eq!(scheme(gptq), expected);
        let second =
            json!({ "quant_method": "gptq", "bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2" });
        let expected =
            Scheme { layout: Layout::Gptq { less_one: false }, bits: 8, group: None, symmetric: true };
        assert_eq!(scheme(second), expected);
        let awq = json!({ "quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM" });
        assert_eq!(scheme(awq), Scheme { layout: Layout::Awq, bits: 4, group: Some(64), symmetric: false });
        let rows = Scheme { layout: Layout::Rows, bits: 4, group: Some(32), symmetric: true };
        assert_eq!(scheme(compressed(json!({}))), rows);
        let bytes = json!({
            "weights": { "num_bits": 8, "strategy": "channel", "group_size": null }, "format": "int-quantized",
            "input_activations": { "dynamic": true, "num_bits": 8, "type": "int", "strategy": "token" },
        });
        let packing = packing(compressed(bytes)).unwrap();
        assert!(packing.rounds_activations);
        assert_eq!(
            packing.schemes[0].1,
            Scheme { layout: Layout::Bytes, bits: 8, group: None, symmetric: true }
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let weights = |edits: Value| compressed(json!({ "weights": edits }));
        for (settings, expected) in [
            (json!({ "quant_method": "hqq" }), "quantised (hqq)"),
            (json!({ "quant_method": "gptq", "bits": 3 }), "bits 3 is not supported; 4 and 8 are"),
            (json!({ "quant_method": "gptq" }), "lacks bits"),
            (json!({ "quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin" }), "format marlin"),
            (json!({ "quant_method": "gptq", "bits": 4, "group_size": 0 }), "group_size is 0"),
            (
                json!({ "quant_method": "gptq", "bits": 4, "dynamic": { "+:.*up_proj": { "bits": 8 } } }),
                "up_proj settings of their own",
            ),
            (json!({ "quant_method": "awq", "bits": 8, "group_size": 64 }), "bits 8 is not supported; 4 is"),
            (json!({ "quant_method": "awq", "bits": 4, "version": "gemv" }), "version gemv"),
            (json!({ "quant_method": "awq", "bits": 4, "zero_point": false }), "without zero points"),
            (json!({ "quant_method": "compressed-tensors" }), "lacks config_groups"),
            (compressed(json!({ "format": "marlin-24" })), "format marlin-24"),
            (weights(json!({ "num_bits": 3 })), "num_bits 3"),
            (weights(json!({ "type": "float" })), "weights of type float"),
            (weights(json!({ "actorder": "group" })), "actorder \"group\""),
            (weights(json!({ "strategy": "block" })), "strategy block"),
            (weights(json!({ "group_size": null })), "groups without a group_size"),
            (
                compressed(json!({ "input_activations": { "dynamic": false } })),
                "activations with stored scales",
            ),
            (compressed(json!({ "input_activations": { "type": "float" } })), "activations of type float"),
            (compressed(json!({ "output_activations": { "num_bits": 8 } })), "quantises outputs"),
            (json!(7), "not an object"),
        ] {
            let message = packing(settings.clone()).unwrap_err().to_string();
            assert!(message.contains(expected), "{settings}: {message}");
        }
    }

    #[test]
    fn patterns_go_with_their_layers() {
        let settings = json!({
            "quant_method": "awq", "bits": 4, "group_size": 32,
            "modules_to_not_convert": ["lm_head", "model.layers.1.mlp", "model.layers.10.self_attn.q_proj"],
        });
        let packing = packing(settings).unwrap();
        let groups = [vec![0], vec![10, 11], vec![1]];
        let new = packing.settings(&groups, 12).unwrap().unwrap();
        assert_eq!(
            new["modules_to_not_convert"],
            json!(["lm_head", "model.layers.2.mlp", "model.layers.1.self_attn.q_proj"])
        );
        let same = packing.settings(&[vec![0], vec![1]], 2).unwrap().unwrap();
        assert_eq!(same, Value::Object(packing.declared.clone().unwrap()));
    }

    #[test]
    fn expressions_that_pick_layers_are_refused_where_layers_go() {
        for (pattern, goes) in [
            ("re:.*layers\\.3\\..*", false),
            ("re:model.layers.(1|2).mlp.*", false),
            ("re:.*mlp.gate$", true),
            ("re:model\\.layers\\.[0-9]+\\.mlp\\.gate", true),
            ("re:.*layers.*gate", true),
        ] {
            let mut settings = compressed(json!({}));
            settings["ignore"] = json!([pattern]);
            let packing = packing(settings).unwrap();
            assert_eq!(packing.settings(&[vec![0]], 2).is_ok(), goes, "{pattern}");
            assert!(packing.settings(&[vec![0], vec![1]], 2).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn new_settings_are_read_again() {
        let scheme = Scheme { layout: Layout::Rows, bits: 4, group: Some(64), symmetric: true };
        let made = Packing::of_output(scheme, vec!["lm_head".to_owned()]);
        let read = packing(made.settings(&[vec![0]], 2).unwrap().unwrap()).unwrap();
        assert_eq!((read.schemes, read.ignored), (made.schemes, made.ignored));
        let scheme = Scheme { layout: Layout::Bytes, bits: 8, group: None, symmetric: true };
        let made = Packing::of_output(scheme, vec!["lm_head".to_owned()]);
        let read = packing(made.settings(&[vec![0]], 2).unwrap().unwrap()).unwrap();
        assert_eq!((read.schemes, read.rounds_activations), (made.schemes, true));
        for symmetric in [true, false] {
            let layout = Layout::Gptq { less_one: true };
            let made =
                Packing::of_output(Scheme { layout, bits: 4, group: Some(128), symmetric }, Vec::new());
            let read = packing(made.settings(&[vec![0]], 2).unwrap().unwrap()).unwrap();
            assert_eq!((read.schemes, read.method), (made.schemes, Method::Gptq));
        }
    }
}
