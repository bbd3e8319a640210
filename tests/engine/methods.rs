//! Selection rules and operators against an independent torch version, `tests/methods/make_methods.py`, whose
//! results are stored beside it.

use std::path::PathBuf;

use laminate::files::source::open_path;
use laminate::format::element::Element;
use laminate::internals::analysis::layers::LayerAnalysis;
use laminate::internals::evaluate::reference::Reference;
use laminate::internals::forward::context::Context;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::forward::stream::Stream;
use laminate::internals::methods::Resources;
use laminate::internals::methods::operators::build;
use laminate::internals::methods::selection::Selector;
use laminate::internals::model::architectures::by_gguf;
use laminate::internals::model::tensors::{Role, TensorId};
use laminate::internals::model::weights::fetch::LayerFetch;
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::internals::quality::Scores;
use laminate::plan::{Operator, Selection};
use laminate::protocol::events::Stage;
use laminate::protocol::text::PointRule;
use laminate::{Accelerator, CalibrationOptions, MergePlan, Model, PlanOptions, Silent, WriteOptions, demo};
use serde_json::Value;

use crate::common::{cpu, data, numbers, run};

/// A model with its states on the text of the stored results.
struct Case {
    model: Model,
    accelerator: Accelerator,
    sequences: Sequences,
    stream: Stream,
    analysis: LayerAnalysis,
    scores: Scores,
    expected: Value,
}

/// What is computed stays in `f32`.
const OUTPUT: WriteOptions = WriteOptions {
    dtype: Some(Element::F32),
    pack: None,
    max_shard_bytes: u64::MAX,
    container: None,
    name: None,
};

impl Case {
    fn new(model: Model, text: &str, file: &str, points: PointRule) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/methods").join(file);
        let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let [count, tokens] = ["sequences", "tokens"].map(|key| expected[key].as_u64().unwrap() as usize);
        let ids = model.tokenizer.encode(text).unwrap();
        let sequences = Sequences::cut(&model.config, &ids, count, tokens).unwrap();
        let bytes: Vec<u8> = sequences.ids().iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(
            u64::from(crc32fast::hash(&bytes)),
            expected["ids_crc32"].as_u64().unwrap(),
            "other tokens"
        );

        let accelerator = cpu();
        let options = CalibrationOptions { points, ..CalibrationOptions::default() };
        let mut analysis = LayerAnalysis::new(&options, sequences.has_bos()).unwrap();
        let storage = OUTPUT.storage(&model);
        let (stream, scores) = {
            let context = Context { storage, ..Context::new(&model, &accelerator, &sequences, &Silent) };
            let layers = (0..model.config.n_layers).map(NewLayer::original).collect();
            let mut stream = run(Stream::open(&context, layers)).unwrap();
            run(analysis.measure(&context, Stage::Capture, &mut stream, 0, None)).unwrap();
            let scores = run(context.score(stream.last().unwrap(), None)).unwrap();
            (stream, scores)
        };
        Self { model, accelerator, sequences, stream, analysis, scores, expected }
    }

    fn context(&self) -> Context<'_> {
        let context = Context::new(&self.model, &self.accelerator, &self.sequences, &Silent);
        Context { storage: self.storage(), ..context }
    }

    fn storage(&self) -> Storage {
        OUTPUT.storage(&self.model)
    }

    /// The plan that removes the layers which are not the first of a stored run.
    fn plan(&self, operator: Operator) -> MergePlan {
        let runs = self.expected["runs"].as_array().unwrap();
        let removed: Vec<(usize, f64)> = runs
            .iter()
            .flat_map(|run| run.as_array().unwrap().iter().skip(1))
            .map(|layer| (layer.as_u64().unwrap() as usize, 0.6))
            .collect();
        MergePlan::absorbing(self.model.config.n_layers, operator, &removed, |_| 0.6).unwrap()
    }

    fn check_selections(&self) {
        let context = self.context();
        let reference = Reference::new(&context, &OUTPUT, &self.stream, &self.scores).unwrap();
        let resources = Resources::default();
        let mut selector = Selector::new(&reference, &resources, &self.analysis, 0);
        let expected = self.expected["selection"].as_object().unwrap();
        for (name, expected) in expected {
            let selection: Selection = name.parse().unwrap();
            let lists: Vec<&Value> = match selection {
                Selection::Angular => expected.as_object().unwrap().values().map(|v| &v["removed"]).collect(),
                Selection::GreedyNll | Selection::GreedyKl => vec![&expected["removed"]],
                _ => {
                    let removed = expected.get("removed").unwrap_or(expected);
                    removed.as_object().unwrap().values().collect()
                }
            };
            for list in lists {
                let list: Vec<usize> = numbers(list).into_iter().map(|x| x as usize).collect();
                let searched = expected["sequences"].as_u64().map_or(0, |n| n as usize);
                let options = PlanOptions {
                    remove: Some(list.len()),
                    selection,
                    operator: Operator::Drop,
                    one_shot: true,
                    release_massive: true,
                    search_tokens: searched * self.sequences.tokens(),
                    ..PlanOptions::default()
                };
                let (plan, _) = run(selector.plan(&options, false)).unwrap();
                let mut gone: Vec<usize> =
                    plan.groups.iter().flat_map(|group| group.iter().skip(1)).copied().collect();
                let mut wanted = list.clone();
                gone.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(gone, wanted, "{name}");
                if matches!(selection, Selection::GreedyNll | Selection::GreedyKl) {
                    let order = run(selector.removed(&options)).unwrap();
                    assert_eq!(order, list, "{name}");
                }
            }
        }
    }

    fn check_operator(&self, name: &str) {
        let operator: Operator = name.parse().unwrap();
        let expected = &self.expected["operators"][name];
        let context = self.context();
        let plan = self.plan(operator);
        let layers = run(build(&context, &Resources::default(), &plan, &self.stream)).unwrap().layers;

        for tensor in expected["tensors"].as_array().unwrap() {
            let tensor_name = tensor[0].as_str().unwrap();
            let id = TensorId::parse(
                laminate::format::Container::Safetensors,
                by_gguf("llama", false).unwrap(),
                tensor_name,
            )
            .unwrap();
            let TensorId::Layer(layer, role) = id else { panic!("{tensor_name}") };
            let mut values = self.tensor(&layers[layer], role);
            let norm = match role {
                Role::Query | Role::Key | Role::Value => Some(Role::AttentionNorm),
                Role::Gate | Role::Up => Some(Role::MlpNorm),
                // Ours keeps the norms of the layer that stays where torch folds them in.
                Role::AttentionNorm | Role::MlpNorm if operator == Operator::Flatten => continue,
                _ => None,
            };
            if let Some(norm) = norm.filter(|_| operator == Operator::Flatten) {
                let norm = self.tensor(&layers[layer], norm);
                values
                    .chunks_mut(norm.len())
                    .for_each(|row| row.iter_mut().zip(&norm).for_each(|(w, n)| *w *= n));
            }
            let [norm, sum, dot] = [2, 3, 4].map(|i| tensor[i].as_f64().unwrap());
            let ours = values.iter().map(|x| f64::from(*x));
            let our_norm = ours.clone().map(|x| x * x).sum::<f64>().sqrt();
            let close = |what: &str, ours: f64, theirs: f64, scale: f64| {
                assert!(
                    (ours - theirs).abs() <= 1e-3 * scale,
                    "{name} {tensor_name}: {what} {ours} {theirs}"
                );
            };
            close("norm", our_norm, norm, norm);
            // A sum of n numbers and a product with numbers up to a half, of a vector of that norm.
            close("sum", ours.clone().sum(), sum, norm * (values.len() as f64).sqrt() * 0.1);
            close("dot", ours.clone().zip(draws()).map(|(x, r)| x * r).sum(), dot, norm);
            let rms = norm / (values.len() as f64).sqrt();
            for (x, y) in ours.zip(numbers(&tensor[5])) {
                close("value", x, y, rms.max(y.abs()));
            }
        }

        let output = OUTPUT;
        let reference = Reference::new(&context, &output, &self.stream, &self.scores).unwrap();
        let quality = run(reference.quality_of(layers)).unwrap();
        let [kl, perplexity] = ["kl", "ppl"].map(|key| expected[key].as_f64().unwrap());
        let ours = quality.kl.unwrap();
        assert!((ours - kl).abs() < 0.01 * kl + 1e-5, "{name}: KL {ours}, not {kl}");
        let ratio = quality.perplexity / perplexity - 1.0;
        // What has collapsed amplifies rounding.
        let tolerance = if kl > 5.0 { 1e-2 } else { 1e-3 };
        assert!(ratio.abs() < tolerance, "{name}: perplexity {} not {perplexity}", quality.perplexity);
    }

    fn tensor(&self, layer: &NewLayer, role: Role) -> Vec<f32> {
        let tensors = run(LayerFetch::start(&self.model, layer, self.storage()).unwrap().finish()).unwrap();
        let (_, stored) = tensors.tensors.into_iter().find(|(each, _)| *each == role).unwrap();
        stored.to_f32().unwrap()
    }
}

/// The numbers that stored products are with: a linear congruential generator, from -0.5 to 0.5.
fn draws() -> impl Iterator<Item = f64> {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(12_345u32), next).map(|x| f64::from(x) / 4_294_967_296.0 - 0.5)
}

const OPERATORS: [&str; 7] = ["drop", "average", "laco", "scale", "flatten", "refit", "replaceme"];

fn planted() -> Case {
    Case::new(run(demo::open()).unwrap(), demo::TEXT, "planted.json", PointRule::Last)
}

#[test]
fn selections_on_the_planted_model_are_those_of_torch() {
    planted().check_selections();
}

#[test]
fn operators_on_the_planted_model_give_the_weights_of_torch() {
    let case = planted();
    for name in OPERATORS {
        case.check_operator(name);
    }
}

/// The sample that `npm run sample` fetches; these tests pass over it where it is not there.
fn sample() -> Option<Case> {
    let cache = std::env::var_os("LAMINATE_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/laminate")))?;
    let path = cache.join("sample/SmolLM2-135M-Instruct.Q4_1.gguf");
    let sources = open_path(&path).ok()?;
    let model = run(Model::open("SmolLM2-135M-Instruct", &sources)).unwrap();
    let text = std::fs::read_to_string(data("wikitext2-excerpt.txt")).unwrap();
    Some(Case::new(model, &text, "smollm2.json", PointRule::Tokens(8)))
}

#[test]
fn selections_on_the_sample_are_those_of_torch() {
    if let Some(case) = sample() {
        case.check_selections();
    }
}

#[test]
fn operators_on_the_sample_give_the_weights_of_torch() {
    if let Some(case) = sample() {
        for name in OPERATORS {
            case.check_operator(name);
        }
    }
}
