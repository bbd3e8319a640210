//! Random stored weights of every type that a shader decodes, and the comparison with the host; shared by the
//! native tests and those in the browser.

use burn::tensor::{Device, Tensor};
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, decode_into, encode};
use laminate::internals::kernels::gpu::StoredRows;

pub fn elements() -> Vec<Element> {
    let blocks = BlockType::ALL.map(Element::Block);
    blocks.into_iter().chain([Element::F16, Element::Bf16]).collect()
}

/// Random blocks of a type with finite scales.
fn blocks(element: Element, n_values: usize) -> Vec<u8> {
    let (weights, size) = element.block();
    let mut seed = 12345u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let mut bytes: Vec<u8> = (0..n_values as u64 / weights * size).map(|_| random()).collect();
    if let Element::Block(block) = element {
        while let Some(bad) = block.first_not_finite(&bytes) {
            let at = bad * block.bytes();
            bytes[at..at + block.bytes()].iter_mut().for_each(|b| *b = random());
        }
        return bytes;
    }
    let values: Vec<f32> =
        (0..n_values).map(|i| (i as f32 * 0.37).sin() * 3.0f32.powi(i as i32 % 20 - 14)).collect();
    encode(element, &values).unwrap()
}

/// Decodes random weights of every type on the device and on the host.
pub async fn check_every_type(device: &Device) {
    for element in elements() {
        // More groups than a workgroup has invocations, and an odd number of rows.
        let shape = [7, 1024];
        let bytes = blocks(element, shape[0] * shape[1]);
        let rows = StoredRows::upload(element, &bytes, shape, device).unwrap();
        let ours: Tensor<2> = rows.decode();
        let ours = ours.into_data_async().await.unwrap().try_into_vec::<f32>().unwrap();
        let mut theirs = vec![0.0; shape[0] * shape[1]];
        decode_into(element, &bytes, &mut theirs).unwrap();
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            // One rounding may be fused away; what is below the smallest normal number may be taken for zero.
            let tolerance = 2e-6 * b.abs().max(1e-30) + 3e-7 * largest(&theirs, i, element);
            assert!((a - b).abs() <= tolerance, "{element}: {a} instead of {b} at {i}");
        }
    }
}

/// The largest value of a block: where minimums are subtracted, its rounding is that of small values too.
fn largest(values: &[f32], i: usize, element: Element) -> f32 {
    let width = element.block().0.max(32) as usize;
    values.chunks(width).nth(i / width).unwrap().iter().fold(0.0, |m, x| m.max(x.abs()))
}
