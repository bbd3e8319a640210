//! Benchmark: products of Llama-3-8B's shapes on a GPU, by stored weights of several types, and the share of what the
//! device can do at most in `f32`; with a model, the tokens per second of a prefill.
//!
//! usage: cargo bench --bench gpu -- [MODEL]
//!
//! `cargo bench --bench scale -- FOLDER` writes a model of these shapes. On a GPU that is emulated in software the
//! products are an eighth as wide, of a sixteenth as many rows.

mod peak;
#[path = "../prefilling/mod.rs"]
mod prefilling;

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, encode};
use laminate::format::stored::Stored;
use laminate::internals::model::layers::linear::Linear;
use laminate::{Accelerator, DeviceKind, Preference};

use self::prefilling::Prefill;

/// Rows that are multiplied.
const ROWS: usize = 2048;

/// Products of each kind that are timed.
const REPEATS: usize = 5;

fn main() {
    futures::executor::block_on(async {
        let accelerator = match Accelerator::choose(Preference::Gpu).await {
            Ok(accelerator) => accelerator,
            Err(error) => return println!("gpu: {error}"),
        };
        println!("gpu: {}", accelerator.report().name);
        let peak = peak::peak(accelerator.device());
        println!("gpu: {:.0} GFLOP/s of multiply-adds in registers", peak / 1e9);
        let software = accelerator.report().kind == DeviceKind::SoftwareGpu;
        let (rows, less) = if software { (ROWS / 16, 8) } else { (ROWS, 1) };
        for (name, n_out, n_in) in
            [("query", 4096, 4096), ("key", 1024, 4096), ("gate", 14336, 4096), ("down", 4096, 14336)]
        {
            for element in [Element::F32, Element::F16, block(BlockType::Q8_0), block(BlockType::Q4K)] {
                let flops = product(&accelerator, element, [rows, n_out / less, n_in / less]);
                println!(
                    "gpu: {name} {n_out} x {n_in} in {element}: {:.1} GFLOP/s, {:.0} % of that",
                    flops / 1e9,
                    100.0 * flops / peak
                );
            }
        }
        if let Some(model) = std::env::args().skip(1).find(|a| !a.starts_with("--")).map(PathBuf::from) {
            let Prefill { tokens, seconds, of_layers } = Prefill::measure(&model, &accelerator).await;
            println!(
                "gpu: prefill {:.0} tokens/s ({seconds:.2} s, of which layers {of_layers:.2} s)",
                tokens / seconds
            );
        }
    });
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
