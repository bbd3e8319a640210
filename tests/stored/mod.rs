//! Random stored weights of every type that a shader decodes, and the comparison with the host; shared by the
//! native tests and those in the browser.

use burn::tensor::{Device, Tensor};
use laminate::format::blocks::BlockType;
use laminate::format::element::{Element, decode_into, encode};
use laminate::internals::kernels::gpu::StoredRows;
use laminate::internals::kernels::gpu::product::{Tile, multiply_floats, multiply_stored};

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

/// Multiplies by every tile on the device, at shapes that are no whole tiles, and compares with sums in `f64`; the sums do not
/// depend on the tile. Then the same with weights of every type, decoded in the product.
pub async fn check_products(device: &Device) {
    let tensor = |values: &[f32], shape: [usize; 2]| {
        Tensor::<2>::from_data(burn::tensor::TensorData::new(values.to_vec(), shape), device)
    };
    let read = async |y: Tensor<2>| y.into_data_async().await.unwrap().try_into_vec::<f32>().unwrap();
    let random = |n: usize, seed: f32| (0..n).map(|i| (i as f32 * 0.731 + seed).sin()).collect::<Vec<f32>>();
    for [n, k, m] in [[1, 4, 1], [3, 20, 5], [64, 64, 64], [65, 100, 63], [130, 36, 200], [31, 512, 129]] {
        let (x, w) = (random(n * k, 0.1), random(m * k, 0.7));
        let mut first = None;
        for tile in Tile::ALL {
            let y = read(multiply_floats(tensor(&x, [n, k]), tensor(&w, [m, k]), tile)).await;
            close(&y, &x, &w, k, &format!("{n} x {k} x {m} by {tile}"));
            assert_eq!(*first.get_or_insert_with(|| y.clone()), y, "{n} x {k} x {m} by {tile}");
        }
        // What was cut out of a tensor lies elsewhere in its memory.
        let more = random((n + 2) * k, 0.1);
        let cut = tensor(&more, [n + 2, k]).narrow(0, 1, n);
        let turned = tensor(&w, [m, k]).transpose().transpose();
        let y = read(multiply_floats(cut, turned, Tile::ALL[0])).await;
        close(&y, &more[k..], &w, k, &format!("{n} x {k} x {m}, cut"));
    }
    for element in elements() {
        let (n, k, m) = (33, 512, 70);
        let bytes = encode(element, &random(m * k, 0.5)).unwrap();
        let mut w = vec![0.0; m * k];
        decode_into(element, &bytes, &mut w).unwrap();
        let rows = StoredRows::upload(element, &bytes, [m, k], device).unwrap();
        let x = random(n * k, 0.3);
        for tile in Tile::ALL {
            let y = read(multiply_stored(tensor(&x, [n, k]), &rows, tile)).await;
            close(&y, &x, &w, k, &format!("{element} by {tile}"));
        }
    }
}

/// Compares `y` with `x w^T` in `f64`: within the rounding of sums of `k` products.
fn close(y: &[f32], x: &[f32], w: &[f32], k: usize, what: &str) {
    let m = w.len() / k;
    for (i, y) in y.iter().enumerate() {
        let products = x[i / m * k..][..k].iter().zip(&w[i % m * k..][..k]);
        let products = products.map(|(x, w)| f64::from(*x) * f64::from(*w));
        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
        let off = (f64::from(*y) - sum).abs();
        assert!(off <= 4e-6 * size + 1e-30, "{what}: {y} instead of {sum} at {i}");
    }
}

/// The largest value of a block: where minimums are subtracted, its rounding is that of small values too.
fn largest(values: &[f32], i: usize, element: Element) -> f32 {
    let width = element.block().0.max(32) as usize;
    values.chunks(width).nth(i / width).unwrap().iter().fold(0.0, |m, x| m.max(x.abs()))
}
