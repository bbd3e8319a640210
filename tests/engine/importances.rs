//! Importances of columns: the sums are those of a naive computation in f64, files are those that llama.cpp reads, and what
//! is encoded by them is what was measured.

use std::collections::BTreeMap;

use laminate::files::source::open_path;
use laminate::format::Container;
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, encode, encode_weighted};
use laminate::format::imatrix::{Imatrix, InputSums};
use laminate::internals::forward::context::Context;
use laminate::internals::forward::importances::collect;
use laminate::internals::forward::sequences::Sequences;
use laminate::internals::model::importances::Importances;
use laminate::internals::model::tensors::{Role, TensorId};
use laminate::internals::model::weights::fetch::read_whole;
use laminate::internals::model::weights::new_experts::{ExpertPart, NewExperts};
use laminate::internals::model::weights::new_layer::NewLayer;
use laminate::maths::mix::Mix;
use laminate::plan::MergePlan;
use laminate::{CalibrationOptions, Method, Model, PlanOptions, Session, Silent, TextOptions, WriteOptions};

use crate::common::{MemoryFolder, cpu, data, open, open_files, run};

const TOKENS: usize = 24;

fn fixture(name: &str) -> Model {
    let path = data(&format!("architectures/{name}/hf"));
    run(Model::open(name, &open_path(&path).unwrap())).unwrap()
}

fn sequences(model: &Model) -> Sequences {
    let text = model.tokenizer.encode(laminate::demo::TEXT).unwrap();
    Sequences::cut(&model.config, &text, 3, TOKENS).unwrap()
}

fn importances(model: &Model, layers: &[NewLayer]) -> Importances {
    let (accelerator, sequences) = (cpu(), sequences(model));
    run(collect(&Context::new(model, &accelerator, &sequences, &Silent), layers)).unwrap()
}

/// Sums of squares and numbers of tokens by layer, role and expert.
type Sums = BTreeMap<(usize, Role, usize), (Vec<f64>, u64)>;

struct Naive<'a> {
    model: &'a Model,
    layer: usize,
    sums: Sums,
}

impl Naive<'_> {
    fn tensor(&self, id: TensorId) -> Vec<f64> {
        run(read_whole(self.model, id)).unwrap().into_iter().map(f64::from).collect()
    }

    fn see(&mut self, role: Role, expert: usize, x: &[f64]) {
        let seen = self.sums.entry((self.layer, role, expert)).or_insert((vec![0.0; x.len()], 0));
        seen.0.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * x);
        seen.1 += 1;
    }

    fn times(&mut self, role: Role, x: &[f64]) -> Vec<f64> {
        self.see(role, 0, x);
        product(&self.tensor(TensorId::Layer(self.layer, role)), x)
    }

    fn norm(&self, role: Role, x: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let factor = (square + self.model.config.norm_epsilon).sqrt();
        let weight = self.tensor(TensorId::Layer(self.layer, role));
        x.iter().zip(weight).map(|(x, w)| x / factor * w).collect()
    }

    /// Attention of one sequence, token by token.
    fn attention(&mut self, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let config = &self.model.config;
        let (heads, kv_heads, width) = (config.n_heads, config.n_kv_heads, config.head_dim);
        let theta = config.ropes[0].theta;
        let (mut keys, mut values): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        for (place, x) in x.iter().enumerate() {
            let x = self.norm(Role::AttentionNorm, x);
            let rotated = |y: Vec<f64>| -> Vec<f64> {
                let half = width / 2;
                let of_head = |head: &[f64]| -> Vec<f64> {
                    let angle = |j: usize| place as f64 / theta.powf((2 * (j % half)) as f64 / width as f64);
                    let turned = |j: usize| if j < half { -head[j + half] } else { head[j - half] };
                    (0..width).map(|j| head[j] * angle(j).cos() + turned(j) * angle(j).sin()).collect()
                };
                y.chunks(width).flat_map(of_head).collect()
            };
            let query = rotated(self.times(Role::Query, &x));
            keys.push(rotated(self.times(Role::Key, &x)));
            values.push(self.times(Role::Value, &x));
            let mut context = Vec::new();
            for (head, query) in query.chunks(width).enumerate() {
                let first = head * kv_heads / heads * width;
                let dot = |key: &Vec<f64>| -> f64 {
                    query.iter().zip(&key[first..first + width]).map(|(a, b)| a * b).sum()
                };
                let scores: Vec<f64> =
                    keys.iter().map(|key| (dot(key) / (width as f64).sqrt()).exp()).collect();
                let total: f64 = scores.iter().sum();
                for j in first..first + width {
                    context.push(scores.iter().zip(&values).map(|(s, v)| s / total * v[j]).sum());
                }
            }
            out.push(self.times(Role::Output, &context));
        }
        out
    }

    fn feed(&mut self, x: &[f64]) -> Vec<f64> {
        let gated = |gate: Vec<f64>, up: Vec<f64>| -> Vec<f64> {
            gate.into_iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
        };
        let Some(sizes) = self.model.config.experts else {
            let (gate, up) = (self.times(Role::Gate, x), self.times(Role::Up, x));
            return self.times(Role::Down, &gated(gate, up));
        };
        let scores = self.times(Role::Router, x);
        let mut order: Vec<usize> = (0..sizes.count).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let chosen = &order[..sizes.used];
        let total: f64 = chosen.iter().map(|e| scores[*e].exp()).sum();
        let mut sum = vec![0.0; x.len()];
        for e in chosen {
            let times = |naive: &mut Self, role, x: &[f64]| {
                naive.see(role, *e, x);
                product(&naive.tensor(TensorId::Expert(naive.layer, *e, role)), x)
            };
            let (gate, up) = (times(self, Role::Gate, x), times(self, Role::Up, x));
            let y = times(self, Role::Down, &gated(gate, up));
            sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += scores[*e].exp() / total * y);
        }
        sum
    }
}

fn product(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

/// Runs a model in f64, one token at a time.
fn naive(model: &Model) -> Sums {
    let hidden = model.config.hidden_size;
    let mut naive = Naive { model, layer: 0, sums: Sums::new() };
    let embedding = naive.tensor(TensorId::Embedding);
    for sequence in sequences(model).iter() {
        let row = |id: &u32| embedding[*id as usize * hidden..][..hidden].to_vec();
        let mut x: Vec<Vec<f64>> = sequence.iter().map(row).collect();
        for layer in 0..model.config.n_layers {
            naive.layer = layer;
            let attended = naive.attention(&x);
            for (x, y) in x.iter_mut().zip(attended) {
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
                let read = naive.norm(Role::MlpNorm, x);
                x.iter_mut().zip(naive.feed(&read)).for_each(|(x, y)| *x += y);
            }
        }
    }
    naive.sums
}

#[test]
fn sums_are_those_of_a_naive_computation() {
    for model in [open("stories260K"), fixture("mixtral")] {
        let ours = importances(&model, &NewLayer::originals(&model));
        let theirs = naive(&model);
        let layers = model.config.n_layers;
        let of_layer = if model.config.has_experts() { 5 + 3 * 4 } else { 7 };
        assert_eq!(theirs.len(), layers * of_layer);
        for ((layer, role, expert), (sums, tokens)) in &theirs {
            let columns = ours.layers[*layer].of(*role).unwrap();
            let (own, count) = columns.sums(*expert).unwrap();
            let what = format!("layer {layer}, {role:?}, expert {expert}");
            assert_eq!(count, *tokens as f32, "{what}");
            let most = sums.iter().copied().fold(0.0, f64::max);
            for (own, sum) in own.iter().zip(sums) {
                assert!(
                    (f64::from(*own) - sum).abs() <= 1e-4 * sum + 1e-6 * most,
                    "{what}: {own}, not {sum}"
                );
            }
            let mean = ours.means(*layer, *role, Some(*expert)).unwrap();
            assert!(mean.iter().zip(own).all(|(mean, sum)| *mean == sum / count));
        }
        // Nothing else is multiplied by.
        let own = ours.to_imatrix(&model.config).unwrap();
        assert_eq!(own.tensors.len(), layers * if model.config.has_experts() { 8 } else { 7 });
        assert_eq!((own.chunk_count, own.chunk_size), (3, TOKENS as u32));
    }
}

#[test]
fn an_expert_that_no_token_came_to_counts_equally_everywhere() {
    let model = fixture("mixtral");
    let (accelerator, text) = (cpu(), model.tokenizer.encode("one").unwrap());
    let sequences = Sequences::cut(&model.config, &text, 1, 2).unwrap();
    let context = Context::new(&model, &accelerator, &sequences, &Silent);
    let ours = run(collect(&context, &NewLayer::originals(&model))).unwrap();
    // Two tokens cannot come to all of four experts in all layers, of which each takes two, unless they differ in each.
    let counts: Vec<f32> = (0..3)
        .flat_map(|layer| (0..4).map(move |e| (layer, e)))
        .map(|(layer, e)| ours.layers[layer].of(Role::Up).unwrap().sums(e).unwrap().1)
        .collect();
    assert_eq!(counts.iter().sum::<f32>(), 12.0);
    let never = counts.iter().position(|count| *count == 0.0).unwrap();
    assert_eq!(ours.means(never / 4, Role::Up, Some(never % 4)).unwrap(), vec![1.0; 64]);
    // The file says that nothing was counted, and so it is read.
    let file = ours.to_imatrix(&model.config).unwrap();
    let sums = &file.tensors[&format!("blk.{}.ffn_up_exps.weight", never / 4)];
    assert_eq!(sums.counts[never % 4], 0.0);
    let again = Importances::read("x.gguf", &file, &model.config).unwrap();
    assert_eq!(again.layers, ours.layers);
}

#[test]
fn a_file_has_llama_cpps_names_and_survives_a_round_trip() {
    // A joined tensor, experts in turns, value heads in another order, layers of several kinds.
    for name in ["phi3", "gptoss", "qwen2moe", "qwen3_5", "jamba", "lfm2", "granite"] {
        let model = fixture(name);
        let ours = importances(&model, &NewLayer::originals(&model));
        let file = ours.to_imatrix(&model.config).unwrap();
        let bytes = file.to_bytes();
        let parsed = Imatrix::parse("x.gguf", &bytes).unwrap();
        assert_eq!(parsed, file, "{name}");
        let again = Importances::read("x.gguf", &parsed, &model.config).unwrap();
        assert_eq!(again.layers, ours.layers, "{name}");
        assert_eq!((again.sequences, again.tokens), (3, TOKENS as u32));
    }
    // A directory holds the value heads in another order than a GGUF file.
    let gguf =
        run(Model::open("gguf", &open_path(&data("architectures/qwen3_5/model.gguf")).unwrap())).unwrap();
    let [ours, theirs] = [fixture("qwen3_5"), gguf]
        .map(|model| importances(&model, &NewLayer::originals(&model)).to_imatrix(&model.config).unwrap());
    assert!(ours.tensors.keys().eq(theirs.tensors.keys()));
    for (name, sums) in &ours.tensors {
        for (ours, theirs) in sums.sums.iter().zip(&theirs.tensors[name].sums) {
            assert!((ours / theirs - 1.0).abs() < 0.02, "{name}: {ours}, not {theirs}");
        }
    }
    let names = |name: &str| -> Vec<String> {
        let model = fixture(name);
        let file = importances(&model, &NewLayer::originals(&model)).to_imatrix(&model.config).unwrap();
        file.tensors.into_keys().filter(|name| name.starts_with("blk.0.")).collect()
    };
    assert_eq!(
        names("mixtral"),
        [
            "attn_k",
            "attn_output",
            "attn_q",
            "attn_v",
            "ffn_down_exps",
            "ffn_gate_exps",
            "ffn_gate_inp",
            "ffn_up_exps"
        ]
        .map(|name| format!("blk.0.{name}.weight"))
    );
    let phi = ["attn_output", "attn_qkv", "ffn_down", "ffn_up"].map(|name| format!("blk.0.{name}.weight"));
    assert_eq!(names("phi3"), phi);
}

#[test]
fn an_importance_matrix_of_another_model_is_refused_with_the_tensors_name() {
    let model = fixture("mixtral");
    let own = importances(&model, &NewLayer::originals(&model)).to_imatrix(&model.config).unwrap();
    let refused = |change: &dyn Fn(&mut Imatrix)| {
        let mut file = own.clone();
        change(&mut file);
        let mut session = Session::new(fixture("mixtral"), cpu());
        let error = session.use_imatrix("other.gguf", &file.to_bytes()).unwrap_err();
        assert_eq!(error.kind(), "usage", "{error}");
        let message = error.to_string();
        assert!(message.starts_with("other.gguf: tensor "), "{message}");
        assert!(session.imatrix().is_none());
        message
    };
    let sums = |columns: usize, matrices: usize| InputSums {
        columns,
        sums: vec![1.0; columns * matrices],
        counts: vec![1.0; matrices],
    };
    let set = |name: &'static str, sums: InputSums| {
        move |file: &mut Imatrix| drop(file.tensors.insert(name.to_owned(), sums.clone()))
    };
    let message = refused(&set("blk.1.attn_k.weight", sums(96, 1)));
    assert!(message.contains("blk.1.attn_k.weight has 96 columns instead of 64"), "{message}");
    let message = refused(&set("blk.1.ffn_up_exps.weight", sums(64, 8)));
    assert!(message.contains("blk.1.ffn_up_exps.weight has 8 matrices instead of 4"), "{message}");
    let message = refused(&set("blk.3.attn_k.weight", sums(64, 1)));
    assert!(message.contains("blk.3.attn_k.weight is of a layer that the model has not"), "{message}");
    for foreign in
        ["blk.0.ffn_up.weight", "blk.0.ssm_in.weight", "blk.0.attn_norm.weight", "enc.blk.0.attn_q.weight"]
    {
        let message = refused(&set(foreign, sums(64, 1)));
        assert!(message.contains(&format!("tensor {foreign} is none of the model's")), "{message}");
    }
    for needed in ["blk.2.attn_output.weight", "blk.0.ffn_down_exps.weight"] {
        let message = refused(&|file| drop(file.tensors.remove(needed)));
        assert!(message.contains(&format!("tensor {needed} is not in it")), "{message}");
    }
    // Routers are never quantised, and llama-imatrix may have collected the head.
    let mut file = own.clone();
    file.tensors.remove("blk.2.ffn_gate_inp.weight");
    file.tensors.insert("output.weight".to_owned(), sums(64, 1));
    let mut session = Session::new(fixture("mixtral"), cpu());
    session.use_imatrix("own.gguf", &file.to_bytes()).unwrap();
    assert_eq!(session.imatrix().unwrap().name, "own.gguf");
}

#[test]
fn new_layers_take_the_importances_of_what_they_are_made_of() {
    let model = fixture("mixtral");
    let of_originals = importances(&model, &NewLayer::originals(&model));
    let merged = NewLayer::mixed(Mix::new(vec![(1, 0.3), (2, 0.7)]).unwrap());
    let part = |layer, expert, weight| ExpertPart { layer, expert, weight };
    let experts = NewExperts::new(vec![vec![part(2, 3, 1.0)], vec![part(2, 0, 0.5), part(1, 1, 0.5)]]);
    let new = [NewLayer::original(0), merged.with_experts(experts)];
    let ours = of_originals.of_layers(&new).unwrap();
    assert_eq!(ours.layers[0], of_originals.layers[0]);
    let of = |layer: usize, role| of_originals.layers[layer].of(role).unwrap();
    assert_eq!(ours.layers[1].of(Role::Query), Some(of(2, Role::Query)), "of the layer of largest weight");
    let down = ours.layers[1].of(Role::Down).unwrap();
    assert_eq!(down.matrices(), 2);
    assert_eq!(down.sums(0), of(2, Role::Down).sums(3));
    let (sums, count) = down.sums(1).unwrap();
    let (a, b) = (of(2, Role::Down).sums(0).unwrap(), of(1, Role::Down).sums(1).unwrap());
    assert_eq!(count, a.1 + b.1);
    assert!(sums.iter().zip(a.0.iter().zip(b.0)).all(|(sum, (a, b))| *sum == a + b));
}

fn calibration() -> CalibrationOptions {
    CalibrationOptions { samples: 24, tokens: 32, ..CalibrationOptions::default() }
}

/// The stored blocks of a tensor.
fn stored(model: &Model, id: TensorId) -> (Element, Vec<u8>) {
    let entry = model.entry(id).unwrap();
    let bytes = run(model.shard(entry).unwrap().read(entry.offset, entry.bytes as usize)).unwrap();
    (entry.element, bytes)
}

#[test]
fn what_is_encoded_by_importances_is_what_was_measured() {
    for (method, removed) in [("mka", 2), ("shortgpt", 1), ("bi+refit", 1), ("laminate", 2), ("flatten", 1)] {
        let mut sizes = Vec::new();
        let mut kls = Vec::new();
        for importances in [false, true] {
            let mut session = Session::new(open("stories260K"), cpu());
            run(session.similarity(&calibration(), &Silent)).unwrap();
            let judged = TextOptions { samples: 8, tokens: 16, ..TextOptions::default() };
            session.judge_on(judged.clone());
            let output = WriteOptions {
                dtype: Some(Element::Block(BlockType::Q4_0).into()),
                container: Some(Container::Gguf),
                importances,
                ..WriteOptions::default()
            };
            let options = Method::named(method).unwrap().options(removed, 0);
            let report = run(session.plan(&options, &output, &Silent)).unwrap();
            let mut folder = MemoryFolder::default();
            let written = run(session.write(&report.plan, &output, &mut folder, &Silent)).unwrap();
            assert_eq!(written.recipe.output.importances, importances);
            let again = open_files(&folder.state.borrow().files).unwrap();
            let text =
                if options.operator.needs_activations() { judged } else { calibration().text_options() };
            let measured = run(laminate::evaluate(&again, None, &cpu(), &text, &Silent)).unwrap().perplexity;
            let said = report.merged.perplexity;
            assert!((said / measured - 1.0).abs() < 1e-4, "{method}, {importances}: {said}, not {measured}");
            sizes.push(written.bytes.after);
            kls.push(report.merged.kl.unwrap());
        }
        assert_ne!(kls[0], kls[1], "{method}");
        assert!(sizes[0].abs_diff(sizes[1]) < 64, "{method}: only the recipe differs");
    }
}

#[test]
fn a_copied_matrix_is_encoded_by_the_importances_of_the_given_file() {
    let model = open("stories260K");
    let own = importances(&model, &NewLayer::originals(&model)).to_imatrix(&model.config).unwrap();
    let means = |name: &str| -> Vec<f32> {
        own.tensors[name].sums.iter().map(|sum| sum / own.tensors[name].counts[0]).collect()
    };
    let mut session = Session::new(open("stories260K"), cpu());
    session.use_imatrix("own.gguf", &own.to_bytes()).unwrap();
    let plan = MergePlan::unmerged(model.config.n_layers);
    let output = WriteOptions {
        dtype: Some(Element::Block(BlockType::Q4_1).into()),
        container: Some(Container::Gguf),
        ..WriteOptions::default()
    };
    let mut folder = MemoryFolder::default();
    // No text is needed, since nothing has to be collected.
    let written = run(session.write(&plan, &output, &mut folder, &Silent)).unwrap();
    assert_eq!(written.recipe.imatrix.as_ref().unwrap().name, "own.gguf");
    written.recipe.check_imatrix(session.imatrix()).unwrap();
    assert!(written.recipe.check_imatrix(None).unwrap_err().to_string().contains("own.gguf"));
    let new = open_files(&folder.state.borrow().files).unwrap();
    let gguf = Element::Block(BlockType::Q4_1);
    for (role, name) in [(Role::Output, "blk.3.attn_output.weight"), (Role::Gate, "blk.3.ffn_gate.weight")] {
        let id = TensorId::Layer(3, role);
        let values = run(read_whole(&model, id)).unwrap();
        let weighted = encode_weighted(gguf, &values, Some(&means(name))).unwrap();
        assert_ne!(weighted, encode(gguf, &values).unwrap());
        assert!(stored(&new, id) == (gguf, weighted), "{name}");
    }
    // Without, the bytes are those of before.
    let plain = WriteOptions { importances: false, ..output };
    let mut folder = MemoryFolder::default();
    let written = run(session.write(&plan, &plain, &mut folder, &Silent)).unwrap();
    assert_eq!(written.recipe.imatrix, None);
    let new = open_files(&folder.state.borrow().files).unwrap();
    let id = TensorId::Layer(3, Role::Output);
    let values = run(read_whole(&model, id)).unwrap();
    assert!(stored(&new, id) == (gguf, encode(gguf, &values).unwrap()));
}

#[test]
fn the_importance_matrix_of_a_result_is_that_of_the_written_model() {
    for (method, removed) in [("mka", 2), ("laminate", 1)] {
        let mut session = Session::new(open("stories260K"), cpu());
        run(session.similarity(&calibration(), &Silent)).unwrap();
        session.judge_on(TextOptions { samples: 8, tokens: 16, ..TextOptions::default() });
        let output = WriteOptions { container: Some(Container::Gguf), ..WriteOptions::default() };
        let options: PlanOptions = Method::named(method).unwrap().options(removed, 0);
        let report = run(session.plan(&options, &output, &Silent)).unwrap();
        let ours = run(session.imatrix_of(&report.plan, &output, &Silent)).unwrap();
        let mut folder = MemoryFolder::default();
        run(session.write(&report.plan, &output, &mut folder, &Silent)).unwrap();
        let written = Session::new(open_files(&folder.state.borrow().files).unwrap(), cpu());
        let (theirs, text) = run(written.collect_imatrix(&calibration().text_options(), &Silent)).unwrap();
        assert_eq!((text.sequences, text.tokens_per_sequence), (24, 32));
        let parse = |bytes: &[u8]| Imatrix::parse("x.gguf", bytes).unwrap();
        let (ours, theirs) = (parse(&ours), parse(&theirs));
        assert_eq!(ours.tensors.len(), 7 * (5 - removed));
        assert_eq!(ours.datasets, theirs.datasets);
        for ((name, ours), (same, theirs)) in ours.tensors.iter().zip(&theirs.tensors) {
            assert_eq!((name, ours.columns, &ours.counts), (same, theirs.columns, &theirs.counts));
            let most = theirs.sums.iter().copied().fold(0.0, f32::max);
            for (own, sum) in ours.sums.iter().zip(&theirs.sums) {
                assert!((own - sum).abs() <= 1e-4 * sum + 1e-6 * most, "{name}: {own}, not {sum}");
            }
        }
    }
}
