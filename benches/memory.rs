//! Benchmark: peak memory of `laminate compress` for three depths of the same width.
//!
//! Models with random F16 weights are written to a temporary directory and compressed by the command
//! line, whose report says what it used at its peak. The layers in the middle hardly do anything, so that the
//! same relative depth is merged in each: how many hidden states two passes share depends on where they part.
//!
//! usage: cargo bench --bench memory

use std::path::Path;
use std::process::Command;

use laminate::Config;
use laminate::format::Container;
use laminate::format::element::{Element, encode};
use laminate::format::safetensors::{OutputTensor, header_bytes};
use laminate::internals::model::tensors::{Role, TensorId};
use safetensors::Dtype;

/// All are deep enough that as many hidden states are kept as ever are.
const DEPTHS: [usize; 3] = [16, 48, 96];

/// How much less than the others the layers in the middle write.
const FAINT: f32 = 0.01;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/tokenizer.json");
    let mut peaks = Vec::new();
    for depth in DEPTHS {
        let model = folder.path().join(format!("{depth}-layers"));
        std::fs::create_dir(&model).unwrap();
        std::fs::copy(&tokenizer, model.join("tokenizer.json")).unwrap();
        let bytes = write_model(&model, depth);
        let output = Command::new(env!("CARGO_BIN_EXE_laminate"))
            .args(["compress", "--remove", "2", "--method", "mka", "--json", "--device", "cpu"])
            .args(["--samples", "128", "--tokens", "48", "--points", "last", "--out"])
            .arg(folder.path().join(format!("{depth}-out")))
            .arg(&model)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let peak = report["peak_memory_bytes"].as_f64().unwrap();
        println!(
            "memory: {depth} layers, model {:.0} MB, peak {:.0} MB, {:.1} s",
            bytes as f64 / 1e6,
            peak / 1e6,
            report["seconds"].as_f64().unwrap()
        );
        println!("memory: merged {}", report["groups"]);
        peaks.push(peak);
    }
    for (depth, peak) in DEPTHS.iter().zip(&peaks).skip(1) {
        println!("memory: {}x the depth takes {:.2}x the memory", depth / DEPTHS[0], peak / peaks[0]);
    }
}

fn write_model(folder: &Path, n_layers: usize) -> usize {
    let json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "num_hidden_layers": n_layers, "hidden_size": 1024,
        "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 512,
        "bos_token_id": 1, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
    })
    .to_string();
    std::fs::write(folder.join("config.json"), &json).unwrap();
    let config = Config::parse(json.as_bytes()).unwrap();
    let mut ids = vec![TensorId::Embedding, TensorId::FinalNorm];
    for layer in 0..n_layers {
        ids.extend(
            Role::required(&config, config.kind(layer).unwrap())
                .into_iter()
                .map(|role| TensorId::Layer(layer, role)),
        );
    }
    let tensors: Vec<OutputTensor> = ids
        .iter()
        .map(|id| {
            let shape = id.shape(&config);
            let bytes = 2 * shape.iter().product::<u64>();
            OutputTensor {
                name: id.name(Container::Safetensors, config.architecture).unwrap(),
                dtype: Dtype::F16,
                shape,
                bytes,
            }
        })
        .collect();
    let mut file = header_bytes(&tensors);
    let mut seed = 1u32;
    let middle = n_layers / 2 - 1..n_layers / 2 + 2;
    for (id, tensor) in ids.iter().zip(&tensors) {
        let faint = match id {
            TensorId::Layer(layer, Role::Output | Role::Down) if middle.contains(layer) => FAINT,
            _ => 1.0,
        };
        let values: Vec<f32> = (0..tensor.bytes / 2)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Small weights keep the stream finite; norms are near one.
                let noise = (f64::from(seed >> 8) / f64::from(1 << 24) - 0.5) as f32;
                if tensor.shape.len() == 1 { 1.0 + 0.1 * noise } else { faint * 0.06 * noise }
            })
            .collect();
        file.extend(encode(Element::F16, &values).unwrap());
    }
    std::fs::write(folder.join("model.safetensors"), &file).unwrap();
    file.len()
}
