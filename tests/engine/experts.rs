//! Removal and matching of experts: what stays is a copy, what is measured is what is written, the scores are those of
//! a naive computation, and experts are found again in any order.

use std::collections::BTreeMap;

use laminate::files::source::open_path;
use laminate::format::Container;
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, decode};
use laminate::internals::forward::context::Context;
use laminate::internals::forward::runner::Runner;
use laminate::internals::forward::sequences::sequences;
use laminate::internals::forward::states::to_host;
use laminate::internals::forward::stream::Stream;
use laminate::internals::methods::work::{Task, Work};
use laminate::internals::methods::{FIT_BYTES, Resources, experts, operators, outcome, selection};
use laminate::internals::model::rope::RopeScaling;
use laminate::internals::model::tensors::{Role, TensorId};
use laminate::internals::model::weights::new_experts::{ExpertPart, NewExperts};
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::internals::model::weights::storage::Storage;
use laminate::internals::model::weights::whole::Reads;
use laminate::internals::write::write_model;
use laminate::plan::{Alpha, ExpertSelection, MergePlan, Operator, Selection};
use laminate::protocol::events::Stage;
use laminate::protocol::plan::PlanReport;
use laminate::{
    CalibrationOptions, Error, Method, Model, PlanOptions, RunOptions, Session, Silent, TextOptions,
    WriteOptions,
};

use crate::common::{Files, MemoryFolder, MemoryParts, cpu, data, open_files, run, sources};

/// Models with four experts in each layer that has any, of which two serve a token.
const FIXTURES: [&str; 7] =
    ["mixtral", "qwen2moe", "qwen3moe", "granitemoe", "jamba", "gptoss", "gptoss_mxfp4"];

/// Models with biased experts.
const BIASED: [&str; 2] = ["gptoss", "gptoss_mxfp4"];

const CONTAINERS: [Container; 2] = [Container::Safetensors, Container::Gguf];

fn hugging_face(name: &str) -> Files {
    let folder = data(&format!("architectures/{name}/hf"));
    let names = [
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "config.json",
    ];
    names.map(|file| (file.to_owned(), std::fs::read(folder.join(file)).unwrap())).into()
}

fn from_hugging_face(name: &str) -> Model {
    open_files(&hugging_face(name)).unwrap()
}

/// The model of a GGUF file, which is made of the folder where there is none.
fn from_gguf(name: &str) -> Model {
    let path = data(&format!("architectures/{name}/model.gguf"));
    if path.exists() {
        return run(Model::open(name, &open_path(&path).unwrap())).unwrap();
    }
    let model = from_hugging_face(name);
    let plan = MergePlan::unmerged(model.config.n_layers);
    let dtype = (name != "gptoss_mxfp4").then_some(Element::F32);
    reopened(&write(model, &plan, &stored(Container::Gguf, dtype)).unwrap())
}

/// Computes the positions of GPT-OSS as its GGUF files say them, if the model of a folder is to be written as one.
fn rounded(mut model: Model, container: Container) -> Model {
    if let (Container::Gguf, RopeScaling::Yarn(yarn)) = (container, &mut model.config.ropes[0].scaling) {
        yarn.rounds = true;
    }
    model
}

/// The model of a GGUF file whose weights are in blocks.
fn in_blocks(name: &str) -> Model {
    let model = from_hugging_face(name);
    let plan = MergePlan::unmerged(model.config.n_layers);
    let output = stored(Container::Gguf, Some(Element::Block(BlockType::Q8_0)));
    reopened(&write(model, &plan, &output).unwrap())
}

fn both(name: &str) -> [Model; 2] {
    [from_hugging_face(name), from_gguf(name)]
}

fn stored(container: Container, dtype: Option<Element>) -> WriteOptions {
    WriteOptions { container: Some(container), dtype: dtype.map(Into::into), ..WriteOptions::default() }
}

fn calibration() -> CalibrationOptions {
    CalibrationOptions { samples: 24, tokens: 16, ..CalibrationOptions::default() }
}

/// The plan that keeps the experts `kept` of each layer that has experts.
fn keeping(model: &Model, kept: &[usize]) -> MergePlan {
    let has = |layer: usize| model.tensor(TensorId::Layer(layer, Role::Router)).is_some();
    let n_layers = model.config.n_layers;
    let kept = (0..n_layers).map(|layer| if has(layer) { kept.to_vec() } else { Vec::new() }).collect();
    MergePlan { operator: Operator::Drop, kept_experts: kept, ..MergePlan::unmerged(n_layers) }
}

fn write(model: Model, plan: &MergePlan, output: &WriteOptions) -> laminate::Result<Files> {
    let mut folder = MemoryFolder::default();
    run(Session::new(model, cpu()).write(plan, output, &mut folder, &Silent))?;
    let files = folder.state.borrow().files.clone();
    Ok(files)
}

fn reopened(files: &Files) -> Model {
    run(Model::open("written", &sources(files))).unwrap()
}

fn bytes(model: &Model, id: TensorId) -> (Element, Vec<u8>) {
    let entry = model.entry(id).unwrap();
    (entry.element, run(Reads::default().start(model, entry).unwrap()).unwrap())
}

fn values(model: &Model, id: TensorId) -> Vec<f64> {
    let (element, bytes) = bytes(model, id);
    decode("a test", element, &bytes).unwrap().into_iter().map(f64::from).collect()
}

/// All tensors by name.
fn tensors(model: &Model) -> BTreeMap<String, (Element, Vec<u8>)> {
    model.tensors().iter().map(|entry| (entry.name.clone(), bytes(model, entry.id))).collect()
}

#[test]
fn removing_no_expert_changes_no_byte() {
    for name in FIXTURES {
        for open in [from_hugging_face, from_gguf] {
            for container in CONTAINERS {
                let (model, output) = (open(name), stored(container, None));
                let unmerged = MergePlan::unmerged(model.config.n_layers);
                let all = keeping(&model, &[0, 1, 2, 3]);
                let without = write(model, &unmerged, &output).unwrap();
                let with = write(open(name), &all, &output).unwrap();
                assert_eq!(tensors(&reopened(&without)), tensors(&reopened(&with)), "{name}, {container:?}");
                if container == Container::Safetensors {
                    for file in ["model.safetensors", "config.json"] {
                        assert_eq!(without[file], with[file], "{name}, {file}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_stays_is_a_copy_in_every_kind_of_file() {
    let kept = [1, 3];
    for name in FIXTURES {
        let unmerged = MergePlan::unmerged(from_gguf(name).config.n_layers);
        for (from, open) in [
            ("a folder", &(|| from_hugging_face(name)) as &dyn Fn() -> Model),
            ("a GGUF file", &|| from_gguf(name)),
            ("a GGUF file in blocks", &|| in_blocks(name)),
        ] {
            for container in CONTAINERS {
                let what = format!("{name} from {from} to {container:?}");
                let before = open();
                let files = write(open(), &keeping(&before, &kept), &stored(container, None)).unwrap();
                let after = reopened(&files);
                assert_eq!(after.config.experts.unwrap().count, 2, "{what}");
                assert_eq!(after.config.experts.unwrap().used, 2, "{what}");
                let same_types = from != "a GGUF file in blocks" || container == Container::Gguf;
                for layer in 0..before.config.n_layers {
                    let router = TensorId::Layer(layer, Role::Router);
                    if before.tensor(router).is_none() {
                        assert!(after.tensor(router).is_none(), "{what}");
                        continue;
                    }
                    let rows = values(&before, router);
                    let hidden = before.config.hidden_size;
                    let expected: Vec<f64> =
                        kept.iter().flat_map(|e| &rows[e * hidden..][..hidden]).copied().collect();
                    assert_eq!(values(&after, router), expected, "{what}, router of layer {layer}");
                    if BIASED.contains(&name) {
                        let bias = TensorId::Layer(layer, Role::RouterBias);
                        let numbers = values(&before, bias);
                        assert_eq!(values(&after, bias), kept.map(|e| numbers[e]), "{what}, layer {layer}");
                    }
                    for (new, old) in kept.into_iter().enumerate() {
                        for role in Role::of_expert(before.config.architecture) {
                            let ids =
                                (TensorId::Expert(layer, new, *role), TensorId::Expert(layer, old, *role));
                            match same_types {
                                // Biases are F32 in every GGUF file.
                                _ if role.is_bias() => {
                                    assert_eq!(
                                        values(&after, ids.0),
                                        values(&before, ids.1),
                                        "{what}, {ids:?}"
                                    )
                                }
                                true => {
                                    assert_eq!(bytes(&after, ids.0), bytes(&before, ids.1), "{what}, {ids:?}")
                                }
                                // A folder holds blocks as F16.
                                false => assert!(bytes(&after, ids.0).0 == Element::F16, "{what}, {ids:?}"),
                            }
                        }
                    }
                }
                // All other tensors are what they are when nothing is removed.
                let whole = reopened(&write(open(), &unmerged, &stored(container, None)).unwrap());
                for entry in after.tensors() {
                    let is_of_experts = matches!(
                        entry.id,
                        TensorId::Expert(..) | TensorId::Layer(_, Role::Router | Role::RouterBias)
                    );
                    if !is_of_experts {
                        assert_eq!(
                            bytes(&after, entry.id),
                            bytes(&whole, entry.id),
                            "{what}, {}",
                            entry.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_spelling_of_the_number_is_written() {
    let mut files = hugging_face("mixtral");
    let text = String::from_utf8(files["config.json"].clone()).unwrap();
    let both = text.replacen("\"num_local_experts\": 4", "\"num_local_experts\": 4, \"num_experts\": 4", 1);
    assert_ne!(text, both);
    files.insert("config.json".to_owned(), both.into_bytes());
    let model = open_files(&files).unwrap();
    let plan = keeping(&model, &[0, 2, 3]);
    let written = write(model, &plan, &stored(Container::Safetensors, None)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&written["config.json"]).unwrap();
    assert_eq!((&json["num_local_experts"], &json["num_experts"]), (&3.into(), &3.into()));
    assert_eq!(json["num_experts_per_tok"], 2);
}

/// Makes all rows of each router the same, so that the first experts are chosen and the others never.
fn with_equal_rows(name: &str) -> Files {
    let mut files = hugging_face(name);
    let model = open_files(&files).unwrap();
    let weights = files.get_mut("model.safetensors").unwrap();
    for layer in 0..model.config.n_layers {
        let entry = model.entry(TensorId::Layer(layer, Role::Router)).unwrap();
        let (at, row) = (entry.offset as usize, (entry.bytes / entry.shape[0]) as usize);
        let first = weights[at..at + row].to_vec();
        weights[at..at + entry.bytes as usize].copy_from_slice(&first.repeat(entry.shape[0] as usize));
    }
    files
}

#[test]
fn an_expert_that_is_never_chosen_can_go_without_any_change() {
    // Gates of these models are a softmax over the chosen experts, which the others do not enter.
    for name in ["mixtral", "qwen3moe", "granitemoe"] {
        let files = with_equal_rows(name);
        for expert_selection in [ExpertSelection::Reap, ExpertSelection::Frequency] {
            let mut session = Session::new(open_files(&files).unwrap(), cpu());
            run(session.similarity(&calibration(), &Silent)).unwrap();
            let drop = Method::named("shortgpt").unwrap().options(0, 0);
            let options = PlanOptions { remove_experts: 2, expert_selection, ..drop };
            let report = run(session.plan(&options, &WriteOptions::default(), &Silent)).unwrap();
            assert_eq!(report.plan.kept_experts, vec![vec![0, 1]; 3], "{name}");
            assert_eq!(report.merged.perplexity, report.original.perplexity, "{name}");
            // The divergence is a difference of sums of logits, which rounds.
            assert!(
                report.merged.kl.unwrap().abs() < 1e-6 && report.merged.top1_agreement == Some(1.0),
                "{name}"
            );
            assert!(report.experts.iter().all(|e| e.removed == [2, 3] && e.share == Some(0.0)), "{name}");
        }
    }
}

/// Use of the experts of a layer, in f64 and one token at a time: tokens, gates, gate times norm of the output.
fn naive(model: &Model, layer: usize, inputs: &[f32]) -> Vec<(u64, f64, f64)> {
    let (config, sizes) = (&model.config, model.config.experts.unwrap());
    let (hidden, width) = (config.hidden_size, sizes.width);
    let times = |matrix: &[f64], x: &[f64]| -> Vec<f64> {
        matrix.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    };
    let router = values(model, TensorId::Layer(layer, Role::Router));
    // GPT-OSS has biases and an activation of its own.
    let is_biased = model.config.architecture.gguf == "gpt-oss";
    let weight = |e, role| values(model, TensorId::Expert(layer, e, role));
    let experts: Vec<[Vec<f64>; 3]> =
        (0..sizes.count).map(|e| [Role::Gate, Role::Up, Role::Down].map(|role| weight(e, role))).collect();
    let biases = |id: TensorId, n: usize| if is_biased { values(model, id) } else { vec![0.0; n] };
    let router_bias = biases(TensorId::Layer(layer, Role::RouterBias), sizes.count);
    let of_expert = |e| {
        let of = |(role, n)| biases(TensorId::Expert(layer, e, role), n);
        [(Role::GateBias, width), (Role::UpBias, width), (Role::DownBias, hidden)].map(of)
    };
    let expert_biases: Vec<[Vec<f64>; 3]> = (0..sizes.count).map(of_expert).collect();
    let plus = |a: Vec<f64>, b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
    let gated = |g: f64, u: f64| match is_biased {
        false => g / (1.0 + (-g).exp()) * u,
        true => g.min(7.0) / (1.0 + (-1.702 * g.min(7.0)).exp()) * (u.clamp(-7.0, 7.0) + 1.0),
    };
    let mut seen = vec![(0, 0.0, 0.0); sizes.count];
    for x in inputs.chunks(hidden) {
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let scores = plus(times(&router, &x), &router_bias);
        let mut order: Vec<usize> = (0..sizes.count).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let chosen = &order[..sizes.used];
        let over = if sizes.normalised { chosen } else { &order[..] };
        let total: f64 = over.iter().map(|e| scores[*e].exp()).sum();
        for e in chosen {
            let [gate, up, down] = &experts[*e];
            let [gate_bias, up_bias, down_bias] = &expert_biases[*e];
            let (g, u) = (plus(times(gate, &x), gate_bias), plus(times(up, &x), up_bias));
            let inner: Vec<f64> = g.into_iter().zip(u).map(|(g, u)| gated(g, u)).collect();
            assert_eq!(inner.len(), width);
            let norm = plus(times(down, &inner), down_bias).iter().map(|y| y * y).sum::<f64>().sqrt();
            let share = scores[*e].exp() / total;
            seen[*e] = (seen[*e].0 + 1, seen[*e].1 + share, seen[*e].2 + share * norm);
        }
    }
    seen
}

#[test]
fn saliency_is_that_of_a_naive_computation() {
    for name in FIXTURES {
        let model = from_hugging_face(name);
        let (sequences, _) = sequences(&model, &calibration().text_options()).unwrap();
        let accelerator = cpu();
        let context = Context::new(&model, &accelerator, &sequences, &Silent);
        let stream = run(Stream::open(&context, NewLayer::originals(&model))).unwrap();
        let used = run(experts::observe(&context, &stream)).unwrap();
        let runner = Runner::new(&model, &accelerator, sequences.tokens()).unwrap();
        let mut states = run(runner.embed(&sequences, Storage::of(&model))).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs().max(1e-3);
        assert_eq!(used.len(), model.config.n_layers);
        for (layer, used) in used.iter().enumerate() {
            let fetch = runner.fetch(&NewLayer::original(layer), Storage::of(&model)).unwrap();
            let uploaded = runner.upload(run(fetch.finish()).unwrap()).unwrap();
            if uploaded.experts().is_none() {
                assert!(used.is_empty());
            } else {
                let mut inputs = Vec::new();
                for (x, beside) in states.with_beside() {
                    let between = uploaded.after_attention(x.clone(), runner.positions(), beside).unwrap();
                    inputs.extend(run(to_host(uploaded.mlp_input(between).unwrap(), "in a test")).unwrap());
                }
                for (e, (ours, theirs)) in used.iter().zip(naive(&model, layer, &inputs)).enumerate() {
                    let what = format!("{name}, layer {layer}, expert {e}: {ours:?}, not {theirs:?}");
                    assert_eq!(ours.tokens, theirs.0, "{what}");
                    assert!(close(ours.gates, theirs.1) && close(ours.written, theirs.2), "{what}");
                    assert_eq!(ours.saliency(), ours.written / ours.tokens.max(1) as f64, "{what}");
                }
            }
            states = run(runner.forward(&uploaded, &states)).unwrap();
        }
    }
}

/// The report of a plan, and the perplexity of the model that is written by it.
fn written(
    model: Model,
    options: &PlanOptions,
    output: &WriteOptions,
) -> laminate::Result<(PlanReport, f64)> {
    let mut session = Session::new(model, cpu());
    run(session.similarity(&calibration(), &Silent))?;
    let judged = TextOptions { samples: 8, tokens: 16, ..TextOptions::default() };
    session.judge_on(judged.clone());
    let report = run(session.plan(options, output, &Silent))?;
    let mut folder = MemoryFolder::default();
    let written = run(session.write(&report.plan, output, &mut folder, &Silent))?;
    assert_eq!(written.bytes.after > 0, written.files.iter().any(|file| file.bytes > 0));
    let again = reopened(&folder.state.borrow().files);
    assert_eq!(again.total_parameters(), report.parameters.after, "parameters");
    let text = if options.operator.needs_activations() { judged } else { calibration().text_options() };
    let perplexity = run(laminate::evaluate(&again, None, &cpu(), &text, &Silent))?.perplexity;
    Ok((report, perplexity))
}

#[test]
fn what_is_written_without_experts_is_what_was_measured() {
    for name in FIXTURES {
        for container in CONTAINERS {
            for (method, removed) in
                [("laminate", 0), ("shortgpt", 0), ("shortgpt", 1), ("bi+refit", 1), ("mka", 1)]
            {
                // No neighbours are of one kind.
                if (name == "jamba" || BIASED.contains(&name)) && method == "mka" {
                    continue;
                }
                for (from_gguf, model) in [false, true].into_iter().zip(both(name)) {
                    let model = rounded(model, container);
                    let what = format!(
                        "{name} by {method}, {removed} layers, to {container:?}, from GGUF: {from_gguf}"
                    );
                    let method = Method::named(method).unwrap();
                    let options = PlanOptions { remove_experts: 1, ..method.options(removed, 0) };
                    let is_even = removed == 0 || name != "jamba";
                    let (report, measured) =
                        match written(model, &options, &stored(container, Some(Element::F32))) {
                            // Of layers with experts in every second, one removed leaves none that can be said.
                            Err(Error::Unsupported(_)) if !is_even => continue,
                            other => other.unwrap_or_else(|error| panic!("{what}: {error}")),
                        };
                    let said = report.merged.perplexity;
                    assert!((said / measured - 1.0).abs() < 1e-4, "{what}: {said}, not {measured}");
                    assert!(report.experts.iter().all(|e| e.removed.len() == 1), "{what}");
                    assert!(report.merged.kl.unwrap() > 1e-9, "{what}: something was lost");
                    assert_eq!(report.layers.before - report.layers.after, removed as u64, "{what}");
                    assert_eq!(report.plan.steps.len(), removed, "{what}");
                }
            }
        }
    }
}

#[test]
fn the_same_experts_go_after_a_run_that_went_on_and_by_a_recipe() {
    for name in ["mixtral", "jamba"] {
        let output = stored(Container::Gguf, None);
        let refit = Method::pair(Selection::BlockInfluence, Operator::Refit).options(1, 0);
        let options = PlanOptions { remove_experts: 2, ..refit };
        let store = MemoryParts::default();
        let outcome = |session: &mut Session| {
            run(session
                .similarity(&calibration(), RunOptions::default().kept_in(Some(Box::new(store.clone())))))
            .unwrap();
            let kept = RunOptions::default().kept_in(Some(Box::new(store.clone())));
            let report = run(session.plan(&options, &output, kept)).unwrap();
            (report.plan.clone(), report.merged, report.experts)
        };
        let first = outcome(&mut Session::new(from_hugging_face(name), cpu()));
        assert!(!store.parts.borrow().is_empty());
        // All layers come out of the store, and so does the fitted one: experts have to be observed anew.
        let mut session = Session::new(from_hugging_face(name), cpu());
        let again = outcome(&mut session);
        assert_eq!(again, first, "{name}");
        let repeated = run(session.measure(&first.0, &output, &Silent)).unwrap();
        assert_eq!((repeated.plan, repeated.merged), (first.0, first.1), "{name}");
    }
}

#[test]
fn a_plan_without_lists_of_experts_is_as_before() {
    let plan = serde_json::to_string(&MergePlan::unmerged(3)).unwrap();
    assert!(!plan.contains("experts"), "{plan}");
    let options = serde_json::to_string(&PlanOptions::default()).unwrap();
    assert!(!options.contains("expert"), "{options}");
    let plan = keeping(&from_hugging_face("mixtral"), &[0, 3]);
    assert_eq!(MergePlan::from_json(&serde_json::to_string(&plan).unwrap()), Ok(plan));
}

fn assert_usage<T: std::fmt::Debug>(result: laminate::Result<T>, part: &str) {
    match result {
        Err(Error::Usage(message)) => assert!(message.contains(part), "{message}"),
        other => panic!("{other:?} in the place of a message with {part:?}"),
    }
}

#[test]
fn more_experts_than_can_go_are_refused_before_any_layer_runs() {
    let session = Session::new(from_hugging_face("mixtral"), cpu());
    assert!(session.check_experts(2).is_ok() && session.check_experts(0).is_ok());
    for remove in [3, 4, 5, usize::MAX] {
        assert_usage(session.check_experts(remove), "2 must stay, because 2 are chosen");
    }
    let dense = Session::new(from_hugging_face("qwen2"), cpu());
    assert_usage(dense.check_experts(1), "no layer of this model has any");
    assert!(dense.check_experts(0).is_ok());
    let no_layers =
        |remove_experts| PlanOptions { remove: Some(0), remove_experts, ..PlanOptions::default() };
    assert!(no_layers(1).check(3, &[]).is_ok());
    assert_usage(dense.check_removal(&no_layers(0), &WriteOptions::default()), "nothing else changes");
    // Even where no two layers may become one.
    let locked = PlanOptions { locked: vec![0, 1, 2], ..no_layers(1) };
    assert!(locked.check(3, &[]).is_ok());
    assert_usage("magic".parse::<ExpertSelection>(), "reap, frequency, random");
}

#[test]
fn a_damaged_list_of_experts_is_refused_and_named() {
    let of = |name: &str, damage: &dyn Fn(&mut MergePlan)| {
        let model = from_hugging_face(name);
        let mut plan = keeping(&model, &[0, 2, 3]);
        damage(&mut plan);
        write(model, &plan, &WriteOptions::default()).map(drop)
    };
    assert!(of("mixtral", &|_| ()).is_ok());
    for (damage, part) in [
        (
            &(|plan: &mut MergePlan| plan.kept_experts[1] = vec![0, 0, 3]) as &dyn Fn(&mut MergePlan),
            "layer 1 that stay",
        ),
        (&|plan| plan.kept_experts[1] = vec![3, 2, 0], "ascending order"),
        (&|plan| plan.kept_experts[2] = vec![0, 1], "2 experts of layer 2 stay, but 3"),
        (&|plan| plan.kept_experts[2] = vec![], "0 experts of layer 2, which has 4"),
        (&|plan| plan.kept_experts[0][2] = 4, "expert 4 of layer 0"),
        (&|plan| plan.kept_experts[0][2] = usize::MAX, "of layer 0, which has 4 experts"),
        (&|plan| plan.kept_experts.iter_mut().for_each(|kept| kept.truncate(1)), "2 must stay"),
        (&|plan| plan.kept_experts.truncate(2), "in 2 layers, but is for a model of 3"),
    ] {
        assert_usage(of("mixtral", damage), part);
    }
    // A layer with an MLP has no experts to keep.
    assert_usage(of("jamba", &|plan| plan.kept_experts[0] = vec![0, 2, 3]), "layer 0, which has 0");
    let dense = from_hugging_face("qwen2");
    let plan = MergePlan { kept_experts: vec![vec![0, 1]; 3], ..MergePlan::unmerged(3) };
    assert_usage(write(dense, &plan, &WriteOptions::default()), "no layer of this model has any");
}

/// The uploads that are counted for the removal of experts are those that are done, but for a tenth and twice.
#[test]
fn the_work_of_removing_experts_is_counted() {
    let judge = TextOptions { samples: 8, tokens: 16, ..TextOptions::default() };
    for (method, removed) in
        [("laminate", 0), ("shortgpt", 0), ("shortgpt", 1), ("bi+refit", 1), ("bi+match-experts", 1)]
    {
        let mut session = Session::new(from_hugging_face("mixtral"), cpu());
        run(session.similarity(&calibration(), &Silent)).unwrap();
        session.judge_on(judge.clone());
        let options = PlanOptions { remove_experts: 1, ..Method::named(method).unwrap().options(removed, 0) };
        let before = session.accelerator().tally().uploads();
        run(session.plan(&options, &WriteOptions::default(), &Silent)).unwrap();
        let done = (session.accelerator().tally().uploads() - before) as f64;
        let config = &session.model().config;
        let task = Task {
            config,
            options: &options,
            sequences: 24,
            tokens: 16,
            fit_bytes: FIT_BYTES,
            spills: false,
        };
        let Work { uploads, .. } =
            selection::work(&task) + operators::work(&task) + outcome::work(&task, 8 * 16);
        assert!(done <= 1.1 * uploads && uploads <= 2.5 * done, "{method}, {removed}: {uploads}, not {done}");
    }
}

/// Makes layer 1 a copy of layer 0 whose experts, and rows of the router, stand in the order `order`: expert `e` of
/// layer 1 is expert `order[e]` of layer 0.
fn with_a_permuted_copy(name: &str, order: &[usize]) -> Files {
    let mut files = hugging_face(name);
    let model = open_files(&files).unwrap();
    let weights = files.get_mut("model.safetensors").unwrap();
    let mut copy = |from: (u64, u64), to: (u64, u64)| {
        assert_eq!(from.1, to.1);
        weights.copy_within(from.0 as usize..(from.0 + from.1) as usize, to.0 as usize);
    };
    let place = |id: TensorId| model.entry(id).map(|entry| (entry.offset, entry.bytes)).unwrap();
    for entry in model.tensors() {
        match entry.id {
            TensorId::Layer(0, Role::Router) => {
                let row = entry.bytes / order.len() as u64;
                let (from, to) = (entry.offset, place(TensorId::Layer(1, Role::Router)).0);
                for (new, old) in order.iter().enumerate() {
                    copy((from + *old as u64 * row, row), (to + new as u64 * row, row));
                }
            }
            TensorId::Layer(0, role) => copy((entry.offset, entry.bytes), place(TensorId::Layer(1, role))),
            TensorId::Expert(1, e, role) => {
                copy(place(TensorId::Expert(0, order[e], role)), (entry.offset, entry.bytes));
            }
            _ => {}
        }
    }
    files
}

#[test]
fn experts_of_a_permuted_copy_are_found_again() {
    for name in ["mixtral", "qwen2moe", "qwen3moe", "granitemoe"] {
        for order in [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]] {
            let model = open_files(&with_a_permuted_copy(name, &order)).unwrap();
            let (sequences, _) = sequences(&model, &calibration().text_options()).unwrap();
            let accelerator = cpu();
            let context = Context::new(&model, &accelerator, &sequences, &Silent);
            let mut stream = run(Stream::open(&context, NewLayer::originals(&model))).unwrap();
            run(stream.run(&context, Stage::Plan, 0, async |_, _, _| Ok(()))).unwrap();
            let plan = MergePlan::absorbing(3, Operator::MatchExperts, &[(1, 0.6)], |_| 0.6).unwrap();
            let built = run(operators::build(&context, &Resources::default(), &plan, &stream)).unwrap();
            // Copies of the experts serve the model as well as their averages with themselves, which are taken then.
            assert!(
                built.remarks.iter().any(|remark| remark.contains("the averages were taken")),
                "{built:?}",
                built = built.remarks
            );
            let experts = built.layers[0].experts().unwrap();
            assert_eq!(experts.count(), 4);
            for (e, parts) in experts.all().iter().enumerate() {
                // An expert that no token was routed to is not averaged.
                assert_eq!((parts[0].layer, parts[0].expert), (0, e), "{name}, {order:?}");
                if let Some(other) = parts.get(1) {
                    assert_eq!((other.layer, order[other.expert]), (1, e), "{name}, {order:?}");
                    assert!((other.weight - 0.5).abs() < 1e-6, "{name}: both are used alike");
                }
            }
            assert!(experts.all().iter().filter(|parts| parts.len() == 2).count() >= 2, "{name}");
        }
    }
}

#[test]
fn averages_of_experts_are_written_as_averages() {
    let part = |layer, expert, weight| ExpertPart { layer, expert, weight };
    let made = [
        vec![part(1, 2, 0.75), part(0, 1, 0.25)],
        vec![part(1, 0, 1.0)],
        vec![part(0, 3, 0.5), part(2, 3, 0.25), part(1, 1, 0.25)],
    ];
    for name in ["mixtral", "granitemoe", "qwen2moe", "gptoss", "gptoss_mxfp4"] {
        for model in both(name) {
            for container in CONTAINERS {
                let what = format!("{name} to {container:?}");
                let other = |layer| NewLayer::original(layer).keeping(&vec![vec![0, 1, 3]; 3]).unwrap();
                let new = NewLayer::original(1).with_experts(NewExperts::new(made.to_vec()));
                let layers = [other(0), new, other(2)];
                let output = stored(container, Some(Element::F32));
                let mut folder = MemoryFolder::default();
                run(write_model(&model, &layers, &output, Vec::new(), &mut folder, &Silent)).unwrap();
                let after = reopened(&folder.state.borrow().files);
                let router = |layer| values(&model, TensorId::Layer(layer, Role::Router));
                let hidden = model.config.hidden_size;
                let written = values(&after, TensorId::Layer(1, Role::Router));
                for (e, parts) in made.iter().enumerate() {
                    let sum = |of: &dyn Fn(&ExpertPart) -> Vec<f64>| -> Vec<f64> {
                        let weighted = parts.iter().map(|part| (part.weight, of(part)));
                        weighted.fold(Vec::new(), |sum, (weight, values)| match sum.is_empty() {
                            true => values.iter().map(|x| weight * x).collect(),
                            false => sum.iter().zip(&values).map(|(sum, x)| sum + weight * x).collect(),
                        })
                    };
                    let close = |ours: &[f64], theirs: &[f64]| {
                        assert_eq!(ours.len(), theirs.len(), "{what}");
                        let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                        assert!(apart < 1e-6, "{what}, expert {e}: {apart}");
                    };
                    let row =
                        |part: &ExpertPart| router(part.layer)[part.expert * hidden..][..hidden].to_vec();
                    close(&written[e * hidden..][..hidden], &sum(&row));
                    if BIASED.contains(&name) {
                        let bias = |layer| TensorId::Layer(layer, Role::RouterBias);
                        let of = |part: &ExpertPart| vec![values(&model, bias(part.layer))[part.expert]];
                        close(&values(&after, bias(1))[e..=e], &sum(&of));
                    }
                    for role in Role::of_expert(model.config.architecture) {
                        let of = |part: &ExpertPart| {
                            values(&model, TensorId::Expert(part.layer, part.expert, *role))
                        };
                        close(&values(&after, TensorId::Expert(1, e, *role)), &sum(&of));
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_written_with_matched_experts_is_what_was_measured() {
    let mut averaged = 0;
    for name in ["mixtral", "qwen2moe", "qwen3moe", "granitemoe"] {
        for container in CONTAINERS {
            for remove_experts in [0, 1] {
                for (model, dtype) in both(name)
                    .map(|model| (model, Some(Element::F32)))
                    .into_iter()
                    .chain([(in_blocks(name), None)])
                {
                    let method = Method::pair(Selection::BlockInfluence, Operator::MatchExperts);
                    let options = PlanOptions { remove_experts, ..method.options(1, 0) };
                    let what = format!("{name} to {container:?}, {remove_experts} experts removed");
                    let (report, measured) = written(model, &options, &stored(container, dtype)).unwrap();
                    let said = report.merged.perplexity;
                    assert!((said / measured - 1.0).abs() < 1e-4, "{what}: {said}, not {measured}");
                    assert_eq!(report.experts.len(), 2 * remove_experts, "{what}");
                    let remark = report.warnings.iter().find(|warning| warning.contains("a KL of"));
                    averaged += usize::from(remark.unwrap().contains("the averages were taken"));
                }
            }
        }
    }
    assert!(averaged > 0, "no average was ever written");
}

#[test]
fn matched_experts_are_kept_and_found_again() {
    let store = MemoryParts::default();
    let options = Method::pair(Selection::BlockInfluence, Operator::MatchExperts).options(1, 0);
    let mut uploads = Vec::new();
    let mut outcomes = Vec::new();
    for alpha in [0.5, 0.5, 0.25] {
        let mut session = Session::new(from_hugging_face("mixtral"), cpu());
        run(session.similarity(&calibration(), &Silent)).unwrap();
        let before = session.accelerator().tally().uploads();
        let options = PlanOptions { alpha: Alpha::Fixed(alpha), ..options.clone() };
        let kept = RunOptions::default().kept_in(Some(Box::new(store.clone())));
        let report = run(session.plan(&options, &WriteOptions::default(), kept)).unwrap();
        uploads.push(session.accelerator().tally().uploads() - before);
        outcomes.push((report.merged, report.warnings));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert!(uploads[1] < uploads[0], "{uploads:?}");
    // Another share gives another layer, which is not that of the store.
    assert_eq!(uploads[2], uploads[0]);
}

#[test]
fn experts_are_matched_only_where_there_are_any() {
    let mut session = Session::new(from_hugging_face("qwen2"), cpu());
    run(session.similarity(&calibration(), &Silent)).unwrap();
    let options = Method::pair(Selection::BlockInfluence, Operator::MatchExperts).options(1, 0);
    match run(session.plan(&options, &WriteOptions::default(), &Silent)) {
        Err(Error::Unsupported(message)) => assert!(message.contains("have no experts"), "{message}"),
        other => panic!("{other:?}"),
    }
    // In Jamba no neighbours are of one kind.
    let mut session = Session::new(from_hugging_face("jamba"), cpu());
    run(session.similarity(&calibration(), &Silent)).unwrap();
    assert!(run(session.plan(&options, &WriteOptions::default(), &Silent)).is_err());
}

/// A folder of GPT-OSS in which all layers have a window, so that neighbours are of one kind.
fn alike(name: &str) -> Files {
    let mut files = hugging_face(name);
    let mut json: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
    for kind in json["layer_types"].as_array_mut().unwrap() {
        *kind = "sliding_attention".into();
    }
    files.insert("config.json".to_owned(), serde_json::to_vec(&json).unwrap());
    files
}

/// The bytes of the tensors whose names end with `ending`, by name, of each as many as the number of the first
/// dimension.
fn stacks(files: &Files, ending: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let tensors = safetensors::SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
    let of_experts = tensors.tensors().into_iter().filter(|(name, _)| name.ends_with(ending));
    of_experts
        .map(|(name, view)| {
            let size = view.data().len() / view.shape()[0];
            (name, view.data().chunks(size).map(<[u8]>::to_vec).collect())
        })
        .collect()
}

#[test]
fn stacks_of_a_folder_are_cut() {
    let kept = [0, 2, 3];
    for name in BIASED {
        let model = from_hugging_face(name);
        let plan = keeping(&model, &kept);
        let from_folder = write(model, &plan, &WriteOptions::default()).unwrap();
        let folder = stored(Container::Safetensors, None);
        let from_file = write(from_gguf(name), &plan, &folder).unwrap();
        for (written, is_copy) in [(&from_folder, true), (&from_file, name == "gptoss_mxfp4")] {
            let mut n = 0;
            for ending in [
                "gate_up_proj",
                "gate_up_proj_blocks",
                "gate_up_proj_scales",
                "down_proj",
                "down_proj_blocks",
            ]
            .into_iter()
            .chain(["down_proj_scales", "gate_up_proj_bias", "down_proj_bias"])
            {
                let before = stacks(&hugging_face(name), &format!("experts.{ending}"));
                let after = stacks(written, &format!("experts.{ending}"));
                // Biases out of a GGUF file are F32.
                let is_copy = is_copy && (!ending.ends_with("bias") || std::ptr::eq(written, &from_folder));
                assert_eq!(before.len(), after.len(), "{name}, {ending}");
                for (tensor, experts) in before {
                    n += 1;
                    assert_eq!(after[&tensor].len(), kept.len(), "{tensor}");
                    let expected: Vec<&Vec<u8>> = kept.iter().map(|e| &experts[*e]).collect();
                    assert!(!is_copy || after[&tensor].iter().eq(expected), "{name}: {tensor}");
                }
            }
            assert_eq!(n, if name == "gptoss" { 16 } else { 24 }, "{name}");
            let json: serde_json::Value = serde_json::from_slice(&written["config.json"]).unwrap();
            assert_eq!(json["num_local_experts"], 3);
            assert_eq!(json.get("quantization_config").is_some(), name == "gptoss_mxfp4", "{name}");
        }
    }
}

#[test]
fn what_is_written_of_mxfp4_without_experts_is_what_was_measured() {
    for open in [from_hugging_face as fn(&str) -> Model, from_gguf] {
        for name in BIASED {
            for container in CONTAINERS {
                for (method, removed) in [("shortgpt", 0), ("shortgpt", 1), ("bi+refit", 1)] {
                    let model = rounded(open(name), container);
                    let what = format!("{name} by {method}, {removed} layers, to {container:?}");
                    let method = Method::named(method).unwrap();
                    let options = PlanOptions { remove_experts: 1, ..method.options(removed, 0) };
                    let (report, measured) = written(model, &options, &stored(container, None)).unwrap();
                    let said = report.merged.perplexity;
                    assert!((said / measured - 1.0).abs() < 1e-4, "{what}: {said}, not {measured}");
                    assert_eq!(report.experts.len(), 4 - removed, "{what}");
                }
            }
        }
    }
}

#[test]
fn the_bias_of_a_router_goes_with_its_rows() {
    let mut files = hugging_face("gptoss_mxfp4");
    let model = open_files(&files).unwrap();
    let weights = files.get_mut("model.safetensors").unwrap();
    for layer in 0..model.config.n_layers {
        let entry = model.entry(TensorId::Layer(layer, Role::RouterBias)).unwrap();
        // Experts 1 and 3 are always chosen, in BF16.
        let bias = [-1e4f32, 10.0, -1e4, 11.0].map(|x| (x.to_bits() >> 16) as u16);
        let bytes: Vec<u8> = bias.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(entry.bytes as usize, bytes.len());
        weights[entry.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    for container in CONTAINERS {
        let mut session = Session::new(rounded(open_files(&files).unwrap(), container), cpu());
        run(session.similarity(&calibration(), &Silent)).unwrap();
        let options = PlanOptions { remove_experts: 2, ..Method::named("shortgpt").unwrap().options(0, 0) };
        let output = stored(container, None);
        let report = run(session.plan(&options, &output, &Silent)).unwrap();
        assert_eq!(report.plan.kept_experts, vec![vec![1, 3]; 4]);
        assert_eq!(report.merged.perplexity, report.original.perplexity);
        let mut folder = MemoryFolder::default();
        run(session.write(&report.plan, &output, &mut folder, &Silent)).unwrap();
        let again = reopened(&folder.state.borrow().files);
        let text = calibration().text_options();
        let measured = run(laminate::evaluate(&again, None, &cpu(), &text, &Silent)).unwrap().perplexity;
        let said = report.original.perplexity;
        assert!((said / measured - 1.0).abs() < 1e-5, "{container:?}: {said}, not {measured}");
    }
}

#[test]
fn biased_experts_are_matched_where_files_can_hold_averages() {
    let options = Method::pair(Selection::BlockInfluence, Operator::MatchExperts).options(1, 0);
    let mut averaged = 0;
    for name in BIASED {
        for container in CONTAINERS {
            for (dtype, remove_experts) in [(None, 0), (None, 1), (Some(Element::Bf16), 0)] {
                let model = rounded(open_files(&alike(name)).unwrap(), container);
                let options = PlanOptions { remove_experts, ..options.clone() };
                let output = stored(container, dtype);
                let what = format!("{name} to {container:?} as {dtype:?}, {remove_experts} experts removed");
                if (name, container, dtype) == ("gptoss_mxfp4", Container::Safetensors, None) {
                    // Before any layer runs, also where the plan is made by hand.
                    let session = Session::new(model, cpu());
                    let early = session.check_removal(&options, &output).unwrap_err().to_string();
                    assert!(early.contains("MXFP4") && early.contains("bf16"), "{what}: {early}");
                    let plan = MergePlan::absorbing(4, Operator::MatchExperts, &[(1, 0.6)], |_| 0.6).unwrap();
                    assert_eq!(session.check_plan(&plan, &output).unwrap_err().to_string(), early);
                    let mut session = session;
                    run(session.similarity(&calibration(), &Silent)).unwrap();
                    let late = run(session.measure(&plan, &output, &Silent)).unwrap_err().to_string();
                    assert_eq!(late, early);
                    continue;
                }
                let (report, measured) = written(model, &options, &output).unwrap();
                let said = report.merged.perplexity;
                // Embedding and head are measured as they are, and written in BF16, which they have.
                assert!((said / measured - 1.0).abs() < 1e-4, "{what}: {said}, not {measured}");
                assert_eq!(report.experts.len(), 3 * remove_experts, "{what}");
                let remark = report.warnings.iter().find(|warning| warning.contains("a KL of"));
                averaged += usize::from(remark.unwrap().contains("the averages were taken"));
            }
        }
    }
    assert!(averaged > 0, "no average was ever written");
    // Where no two neighbours are of one kind, no other type would help.
    let session = Session::new(from_hugging_face("gptoss_mxfp4"), cpu());
    let message = session.check_removal(&options, &WriteOptions::default()).unwrap_err().to_string();
    assert!(message.contains("cannot become one") && !message.contains("MXFP4"), "{message}");
}
