//! Naive versions, random data and golden numbers for the tests of the geometry stage.

use laminate::maths::manifold::Points;
use serde_json::Value;

/// A fixed stream of numbers.
pub struct Random(pub u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn normals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.normal()).collect()
    }

    /// `n` points of `dim` coordinates around a curved sheet of few dimensions, as hidden states are.
    pub fn sheet(&mut self, n: usize, dim: usize) -> Vec<f64> {
        let mixing = self.normals(6 * dim);
        let mut data = Vec::new();
        for _ in 0..n {
            let (u, v, w) = (self.normal(), self.normal(), self.normal());
            let hidden = [u, v, 0.5 * w, u * v, (2.0 * u).sin(), 1.0];
            for j in 0..dim {
                let signal: f64 = hidden.iter().enumerate().map(|(k, h)| h * mixing[k * dim + j]).sum();
                data.push(signal + 0.1 * self.normal());
            }
        }
        data
    }

    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// Stored points and numbers of one model.
pub struct Golden {
    pub layers: Vec<Points>,
    pub json: Value,
}

impl Golden {
    pub fn load(name: &str) -> Golden {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
        let json = std::fs::read_to_string(format!("{folder}/{name}.geometry.json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let bytes = std::fs::read(format!("{folder}/{name}.points.bin")).unwrap();
        let data: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let size = |key: &str| json[key].as_u64().unwrap() as usize;
        let (n_layers, n_points, dim) = (size("layers"), size("points"), size("width"));
        let layers: Vec<Points> = data
            .chunks_exact(n_points * dim)
            .enumerate()
            .map(|(layer, data)| Points::from_f32(layer, n_points, dim, data).unwrap())
            .collect();
        assert_eq!(layers.len(), n_layers);
        Golden { layers, json }
    }

    pub fn numbers(&self, key: &str) -> Vec<f64> {
        self.json[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    pub fn rows(&self, key: &str) -> Vec<Vec<f64>> {
        let rows = self.json[key].as_array().unwrap();
        rows.iter().map(|row| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()).collect()
    }
}

/// Fails with the worst error and its index.
#[track_caller]
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    let (mut worst, mut at) = (0.0, 0);
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let error = (a - b).abs() / (absolute + relative * b.abs());
        if error.is_nan() || error > worst {
            (worst, at) = (if error.is_nan() { f64::INFINITY } else { error }, i);
        }
    }
    assert!(
        worst <= 1.0,
        "{what}: worst at {at}: found {:?}, expected {:?}, {worst:.3e} of what is allowed",
        found.get(at),
        expected.get(at)
    );
}

#[track_caller]
pub fn assert_rows_close(
    what: &str,
    found: &[Vec<f64>],
    expected: &[Vec<f64>],
    absolute: f64,
    relative: f64,
) {
    assert_eq!(found.len(), expected.len(), "{what}: rows");
    for (l, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_close(&format!("{what}, row {l}"), a, b, absolute, relative);
    }
}
