//! Benchmark: products of Llama-3-8B's shapes on a GPU, by stored weights of several types, burn's and ours by every tile, and
//! the share of what the device can do at most in `f32`; of few rows, weights decoded before and in the product; with a model,
//! the tokens per second of a prefill by the products that were chosen for the device, and the time of `--method laminate` on
//! 96 x 256 tokens with a quarter of the layers removed, 8 at most.
//!
//! usage: cargo bench --bench gpu -- [MODEL]
//!
//! `cargo bench --bench scale -- FOLDER` writes a model of these shapes. On a GPU that is emulated in software the
//! products are an eighth as wide, of a sixteenth as many rows.

mod peak;
#[path = "../prefilling/mod.rs"]
mod prefilling;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use laminate::files::source::open_path;
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, encode};
use laminate::format::stored::Stored;
use laminate::internals::kernels::gpu::product::{Products, Tile, choose, chosen};
use laminate::internals::model::layers::linear::Linear;
use laminate::{
    Accelerator, CalibrationOptions, DeviceKind, Method, Model, Preference, Session, Silent, WriteOptions,
};

use self::prefilling::Prefill;

/// Rows that are multiplied: of a chunk, and of a short text.
const ROWS: [usize; 2] = [2048, 128];

/// Products of each kind that are timed.
const REPEATS: usize = 5;

fn main() {
    futures::executor::block_on(async {
        let accelerator = match Accelerator::choose(Preference::Gpu).await {
            Ok(accelerator) => accelerator,
            Err(error) => return println!("gpu: {error}"),
        };
        println!("gpu: {}; {}", accelerator.report().name, accelerator.report().reason);
        let by_probe = chosen();
        let peak = peak::peak(accelerator.device());
        println!("gpu: {:.0} GFLOP/s of multiply-adds in registers", peak / 1e9);
        let software = accelerator.report().kind == DeviceKind::SoftwareGpu;
        let (fewer, less) = if software { (4, 8) } else { (1, 1) };
        for (name, n_out, n_in) in
            [("query", 4096, 4096), ("key", 1024, 4096), ("gate", 14336, 4096), ("down", 4096, 14336)]
        {
            for rows in ROWS.map(|rows| rows / fewer) {
                for element in [Element::F32, Element::F16, block(BlockType::Q8_0), block(BlockType::Q4K)] {
                    println!("gpu: {rows} rows by {name} {n_out} x {n_in} in {element}:");
                    for (how, products) in ways(element) {
                        choose(products);
                        let flops = product(&accelerator, element, [rows, n_out / less, n_in / less]);
                        println!("gpu:   {how}: {:.1} GFLOP/s, {:.0} %", flops / 1e9, 100.0 * flops / peak);
                    }
                }
            }
        }
        choose(by_probe);
        if let Some(model) = std::env::args().skip(1).find(|a| !a.starts_with("--")).map(PathBuf::from) {
            let Prefill { tokens, seconds, of_layers } = Prefill::measure(&model, &accelerator).await;
            println!(
                "gpu: prefill {:.0} tokens/s ({seconds:.2} s, of which layers {of_layers:.2} s)",
                tokens / seconds
            );
            println!("gpu: {}", compressed(&model, &accelerator).await);
        }
    });
}

/// Compares the layers of the model at `path`, merges some of them by `laminate` and measures the result.
async fn compressed(path: &Path, accelerator: &Accelerator) -> String {
    let model = Model::open("bench", &open_path(path).unwrap()).await.unwrap();
    let remove = (model.config.n_layers / 4).clamp(1, 8);
    let mut session = Session::new(model, accelerator.clone());
    let start = Instant::now();
    let text = CalibrationOptions { samples: 96, tokens: 256, ..CalibrationOptions::default() };
    session.similarity(&text, &Silent).await.unwrap();
    let compared = start.elapsed().as_secs_f64();
    let options = Method::named("laminate").unwrap().options(remove, 0);
    let report = session.plan(&options, &WriteOptions::default(), &Silent).await.unwrap();
    let kl = report.merged.kl.unwrap_or(f64::NAN);
    format!(
        "laminate, {remove} layers removed: {:.1} s, of which comparing layers {compared:.1} s; KL {kl:.4}",
        start.elapsed().as_secs_f64()
    )
}

/// Ways to multiply by weights that are stored as `element`, with their names.
fn ways(element: Element) -> Vec<(String, Products)> {
    let mut ways = vec![("burn".to_owned(), Products::default())];
    for tile in Tile::ALL {
        ways.push((format!("tiles of {tile}"), Products { tile: Some(tile), fused_below: 0 }));
    }
    if element != Element::F32 {
        for tile in Tile::ALL {
            let products = Products { tile: Some(tile), fused_below: usize::MAX };
            ways.push((format!("tiles of {tile}, decoding in them"), products));
        }
    }
    ways
}

fn block(block: BlockType) -> Element {
    Element::Block(block)
}

/// Floating-point operations per second of `[rows, n_in]` times a stored weight `[n_out, n_in]`, decoding and all.
fn product(accelerator: &Accelerator, element: Element, [rows, n_out, n_in]: [usize; 3]) -> f64 {
    let device = accelerator.device();
    let noise =
        |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5).collect() };
    // The same rows again and again: what they are does not matter for the time.
    let bytes = encode(element, &noise(64 * n_in)).unwrap().repeat(n_out / 64);
    let max_bytes = accelerator.max_binding_bytes();
    let weight = Linear::new(Stored { element, bytes }, n_out, n_in, None, max_bytes, device).unwrap();
    let x = Tensor::<2>::from_data(TensorData::new(noise(rows * n_in), [rows, n_in]), device);
    let run = |n: usize| {
        let start = Instant::now();
        for _ in 0..n {
            // Reading one number waits for the device.
            let y = weight.forward(x.clone()).unwrap();
            assert!(y.slice([0..1, 0..1]).into_scalar::<f32>().is_finite());
        }
        start.elapsed().as_secs_f64()
    };
    // Kernels are compiled, and the fastest of several chosen.
    run(2);
    2.0 * (rows * n_out * n_in * REPEATS) as f64 / run(REPEATS)
}
