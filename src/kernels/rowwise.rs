//! Row-wise arithmetic on the CPU, one pass per expression.
//!
//! burn computes an expression operation by operation, each of which is a pass over memory on one thread; at
//! the sizes of a language model, these passes cost as much as the matrix products between them. Here an
//! expression is a single pass, vectorised for the processor at hand and spread over all its cores. On a GPU
//! the same functions call burn's operations.

use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::{Device, Tensor, TensorData};
use pulp::Arch;

use crate::kernels::threads::for_pieces;
use crate::{Error, Result};

/// Elements that a thread takes at a time: about a level-two cache.
const PIECE: usize = 1 << 16;

/// Partial sums of a reduction: enough to fill two of the widest vector registers.
const LANES: usize = 32;

/// Returns whether tensors of `device` are in this process's memory.
pub fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// How rows are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// By the root of the mean of their squares (RMSNorm).
    Rms,
    /// Less their mean, by their standard deviation (LayerNorm).
    Layer,
}

/// Subtracts the mean of each row of `x` `[n, width]` from the row where a norm of the kind `kind` does so.
pub fn centred(kind: NormKind, x: Tensor<2>) -> Tensor<2> {
    match kind {
        NormKind::Rms => x,
        NormKind::Layer => x.clone() - x.mean_dim(1),
    }
}

/// Largest magnitude of a number of 8 bits that rows are rounded to.
const LARGEST_BYTE: f32 = 127.0;

/// Rounds each row of `x` `[n, width]` to 8 bits: to whole multiples of the scale with which its largest magnitude is 127.
/// Programs that multiply matrices of 8 bits do so with what they multiply (vLLM, `scaled_int8_quant`, dynamic and
/// symmetric).
///
/// # Errors
/// [`Error::Internal`] if a tensor of the CPU is not `f32`.
pub fn rounded_to_bytes(x: Tensor<2>) -> Result<Tensor<2>> {
    let device = x.device();
    if !is_host(&device) {
        let scale = x.clone().abs().max_dim(1).clamp_min(f32::MIN_POSITIVE * LARGEST_BYTE) / LARGEST_BYTE;
        return Ok((x / scale.clone()).round() * scale);
    }
    let [n_rows, width] = x.dims();
    let mut values = host(x)?;
    for_rows(&mut values, width, |row| {
        let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = largest.max(f32::MIN_POSITIVE * LARGEST_BYTE) / LARGEST_BYTE;
        row.iter_mut().for_each(|x| *x = (*x / scale).round_ties_even() * scale);
    });
    Ok(Tensor::from_data(TensorData::new(values, [n_rows, width]), &device))
}

/// Computes `weight * x / sqrt(mean(x^2) + epsilon)` over each row of `x` `[n, width]`, for a LayerNorm of `x - mean(x)`;
/// `weight` is `[1, width]`.
///
/// # Errors
/// [`Error::Internal`] if a tensor of the CPU is not `f32`.
pub fn norm(kind: NormKind, x: Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Result<Tensor<2>> {
    let device = x.device();
    if !is_host(&device) {
        let x = centred(kind, x);
        let mean_square = x.clone().square().mean_dim(1);
        let scale = (mean_square + epsilon).sqrt().recip();
        return Ok(x * scale * weight.clone());
    }
    let [n_rows, width] = x.dims();
    let (mut values, weight) = (host(x)?, host(weight.clone())?);
    for_rows(&mut values, width, |row| {
        if kind == NormKind::Layer {
            let mean = sum(row, |x| x) / width as f32;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        let mean_square = sum(row, |x| x * x) / width as f32;
        let scale = 1.0 / (mean_square + epsilon as f32).sqrt();
        for (x, w) in row.iter_mut().zip(&weight) {
            *x *= scale * w;
        }
    });
    Ok(Tensor::from_data(TensorData::new(values, [n_rows, width]), &device))
}

/// Function of the gate of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x (1 + tanh(u)) / 2` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, which is `x / (1 + exp(-2 u))`.
    GeluTanh,
    /// `g / (1 + exp(-1.702 g)) (u + 1)` with `g = min(x, 7)` and the number `u` of the up projection, held between -7
    /// and 7.
    ClampedGlu,
}

/// Factor in the exponent of [`Activation::ClampedGlu`].
pub const GLU_ALPHA: f32 = 1.702;

/// Bound of what [`Activation::ClampedGlu`] reads.
pub const GLU_LIMIT: f32 = 7.0;

/// Twice the factor of the inner polynomial of [`Activation::GeluTanh`], and the factor of its cube.
pub(super) const GELU: [f32; 2] = [2.0 * 0.797_884_6, 0.044_715];

/// Computes `f(gate) * up` element by element, with the function `f` of the gate; for [`Activation::ClampedGlu`] what
/// is said there.
///
/// # Errors
/// [`Error::Internal`] if a tensor of the CPU is not `f32`.
pub fn gated(f: Activation, gate: Tensor<2>, up: Tensor<2>) -> Result<Tensor<2>> {
    let device = gate.device();
    let [outer, inner] = GELU;
    if !is_host(&device) {
        return Ok(match f {
            Activation::Silu => silu(gate) * up,
            Activation::GeluTanh => {
                let twice = (gate.clone() + gate.clone().powi_scalar(3).mul_scalar(inner)).mul_scalar(outer);
                gate * sigmoid(twice) * up
            }
            Activation::ClampedGlu => {
                let (gate, up) = (gate.clamp_max(GLU_LIMIT), up.clamp(-GLU_LIMIT, GLU_LIMIT));
                gate.clone() * sigmoid(gate.mul_scalar(GLU_ALPHA)) * (up + 1.0)
            }
        });
    }
    let shape = gate.dims();
    let (mut values, up) = (host(gate)?, host(up)?);
    match f {
        Activation::Silu => for_pairs(&mut values, &up, |gate, up| {
            for (g, u) in gate.iter_mut().zip(up) {
                *g *= u / (1.0 + exp(-*g));
            }
        }),
        Activation::GeluTanh => for_pairs(&mut values, &up, |gate, up| {
            for (g, u) in gate.iter_mut().zip(up) {
                *g *= u / (1.0 + exp(-outer * (*g + inner * *g * *g * *g)));
            }
        }),
        Activation::ClampedGlu => for_pairs(&mut values, &up, |gate, up| {
            for (g, u) in gate.iter_mut().zip(up) {
                let x = g.min(GLU_LIMIT);
                *g = x / (1.0 + exp(-GLU_ALPHA * x)) * (u.clamp(-GLU_LIMIT, GLU_LIMIT) + 1.0);
            }
        }),
    }
    Ok(Tensor::from_data(TensorData::new(values, shape), &device))
}

/// Replaces each number `x` by `cap tanh(x / cap)`.
pub fn capped(values: &mut [f32], cap: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            // tanh(y) = 1 - 2 / (exp(2 y) + 1).
            values.iter_mut().for_each(|x| *x = cap - 2.0 * cap / (exp(*x * (2.0 / cap)) + 1.0));
        },
    );
}

/// Replaces each number `x` of a tensor by `cap tanh(x / cap)`, on any device; `None` changes nothing.
///
/// # Errors
/// [`Error::Internal`] if a tensor of the CPU is not `f32`.
pub fn capped_at<const D: usize>(x: Tensor<D>, cap: Option<f64>) -> Result<Tensor<D>> {
    let Some(cap) = cap else { return Ok(x) };
    let device = x.device();
    if !is_host(&device) {
        // The same form as on the CPU; far from zero, exponentials beyond f32 would make it infinite.
        let twice = x.mul_scalar(2.0 / cap).clamp(-80.0, 80.0);
        return Ok((twice.exp() + 1.0).recip().mul_scalar(-2.0 * cap).add_scalar(cap));
    }
    let shape = x.dims();
    let mut values = host(x)?;
    for_pieces(values.chunks_mut(PIECE), |piece| capped(piece, cap as f32));
    Ok(Tensor::from_data(TensorData::new(values, shape), &device))
}

/// Largest element and softmax denominator of a row of logits `z`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowSoftmax {
    /// Largest logit.
    pub max: f32,
    /// `sum_v exp(z_v - max)`.
    pub sum: f32,
    /// Index of the largest logit; of equal ones the first.
    pub argmax: usize,
}

/// Computes the largest element and the softmax denominator of a row of logits.
pub fn row_softmax(z: &[f32]) -> RowSoftmax {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let max = z.iter().fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
            let sum = sum(z, |x| exp(x - max));
            let argmax = z.iter().position(|x| *x == max).unwrap_or(0);
            RowSoftmax { max, sum, argmax }
        },
    )
}

/// Computes `sum_v exp(z_v - max) (z_v - y_v)` for two rows of logits.
pub fn row_divergence(z: &[f32], y: &[f32], max: f32) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || sum_pairs(z, y, |z, y| exp(z - max) * (z - y)),
    )
}

/// Replaces scores `z` by `exp(z - max)`, with `max` the largest score, and returns their sum. A `sink` is one more
/// score, which counts for `max` and for the sum.
pub fn exponentials(z: &mut [f32], sink: Option<f32>) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let lowest = sink.unwrap_or(f32::NEG_INFINITY);
            let max = z.iter().fold(lowest, |m, x| if *x > m { *x } else { m });
            z.iter_mut().for_each(|z| *z = exp(*z - max));
            sum(z, |x| x) + sink.map_or(0.0, |sink| exp(sink - max))
        },
    )
}

/// Returns the elements of a CPU tensor, row-major; without a copy if the tensor has no other owner.
///
/// # Errors
/// [`Error::Internal`] if the tensor is not `f32`.
pub fn host<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    x.into_data()
        .try_into_vec::<f32>()
        .map_err(|e| Error::internal(format!("a tensor of the CPU is not f32 ({e:?})")))
}

/// Multiplies `x` by `scale`, on any device. 1 changes nothing and costs nothing.
pub fn scaled<const D: usize>(x: Tensor<D>, scale: f64) -> Tensor<D> {
    if scale == 1.0 { x } else { x.mul_scalar(scale) }
}

/// Applies `f` to each row of `width` elements, on all cores.
fn for_rows(values: &mut [f32], width: usize, f: impl Fn(&mut [f32]) + Sync + Send) {
    let width = width.max(1);
    let piece = (PIECE / width).max(1) * width;
    for_pieces(values.chunks_mut(piece), |rows| {
        Arch::new().dispatch(
            #[inline(always)]
            || rows.chunks_mut(width).for_each(&f),
        );
    });
}

/// Applies `f` to matching pieces of two slices, on all cores.
fn for_pairs(a: &mut [f32], b: &[f32], f: impl Fn(&mut [f32], &[f32]) + Sync + Send) {
    for_pieces(a.chunks_mut(PIECE).zip(b.chunks(PIECE)), |(a, b)| {
        Arch::new().dispatch(
            #[inline(always)]
            || f(a, b),
        );
    });
}

/// Applies `f` to each row of `width` elements of `values` and the same row of `beside`, on all cores.
pub(super) fn for_rows_with(
    values: &mut [f32],
    beside: &[f32],
    width: usize,
    f: impl Fn(&mut [f32], &[f32]) + Sync + Send,
) {
    let width = width.max(1);
    let piece = (PIECE / width).max(1) * width;
    for_pieces(values.chunks_mut(piece).zip(beside.chunks(piece)), |(rows, beside)| {
        Arch::new().dispatch(
            #[inline(always)]
            || rows.chunks_mut(width).zip(beside.chunks(width)).for_each(|(row, beside)| f(row, beside)),
        );
    });
}

/// Applies `f` to matching pieces of three slices, on all cores.
pub(super) fn for_triples(
    a: &mut [f32],
    b: &mut [f32],
    c: &[f32],
    f: impl Fn(&mut [f32], &mut [f32], &[f32]) + Sync + Send,
) {
    let pieces = a.chunks_mut(PIECE).zip(b.chunks_mut(PIECE)).zip(c.chunks(PIECE));
    for_pieces(pieces, |((a, b), c)| {
        Arch::new().dispatch(
            #[inline(always)]
            || f(a, b, c),
        );
    });
}

/// Computes `sum f(x)` with [`LANES`] running sums, which is vectorised and rounds less than a single sum.
#[inline(always)]
pub(super) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (s, x) in sums.iter_mut().zip(block) {
            *s += f(*x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| f(*x)).sum::<f32>()
}

/// Computes `sum f(x, y)` with running sums, like [`sum`].
#[inline(always)]
pub(super) fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += f(*a, *b);
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| f(*a, *b)).sum::<f32>()
}

/// Computes `e^x` to about one unit in the last place, without branches, so that loops over it are
/// vectorised; the result is zero for `x` below -87.3, and `e^88` for `x` above 88.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is computed by the polynomial of Cephes' `expf` (Moshier).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let power = p * r * r + r + 1.0;
    // The low bits of `shifted` are `n`; moved into the exponent, they multiply by 2^n.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let product = power * scale;
    if x < -87.3 { 0.0 } else { product }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rounded_each_by_its_largest_number() {
        let rows = vec![127.0f32, 0.4, -2.6, 0.0, 0.0, 0.0, -0.254, 0.001, 0.127];
        let x = Tensor::<2>::from_data(TensorData::new(rows, [3, 3]), &Device::flex());
        let rounded = host(rounded_to_bytes(x).unwrap()).unwrap();
        let expected = [127.0, 0.0, -3.0, 0.0, 0.0, 0.0, -0.254, 0.0, 0.128];
        for (a, b) in rounded.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{rounded:?}");
        }
    }

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let mut worst = (0.0, 0.0);
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs() / f64::from(f32::EPSILON);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 < 2.0, "{} units at {}", worst.0, worst.1);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(1e9).is_finite());
    }

    #[test]
    fn rows_reduce_like_the_naive_sums_at_odd_lengths() {
        for n in [1, 31, 32, 33, 1000] {
            let z: Vec<f32> = (0..n).map(|i| ((i * 7919) % 613) as f32 / 50.0 - 6.0).collect();
            let y: Vec<f32> = (0..n).map(|i| ((i * 104_729) % 431) as f32 / 40.0 - 5.0).collect();
            let row = row_softmax(&z);
            let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(row.max, max);
            assert_eq!(z[row.argmax], max);
            let weight = |z: f32| f64::from(z - max).exp();
            let sum: f64 = z.iter().map(|z| weight(*z)).sum();
            assert!((f64::from(row.sum) / sum - 1.0).abs() < 1e-6, "{n}");
            let exact: f64 = z.iter().zip(&y).map(|(z, y)| weight(*z) * f64::from(z - y)).sum();
            let ours = f64::from(row_divergence(&z, &y, max));
            assert!((ours - exact).abs() < 1e-5 * exact.abs().max(1.0), "{n}: {ours} {exact}");
        }
    }

    #[test]
    fn norm_and_gate_are_what_burn_computes() {
        let device = Device::flex();
        let tensor = |n: usize, seed: usize, shape: [usize; 2]| {
            let values: Vec<f32> = (0..n).map(|i| ((i * seed) % 997) as f32 / 100.0 - 5.0).collect();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
        };
        let (x, up, weight) =
            (tensor(7 * 33, 31, [7, 33]), tensor(7 * 33, 57, [7, 33]), tensor(33, 7, [1, 33]));
        let scale = (x.clone().square().mean_dim(1) + 1e-5).sqrt().recip();
        let centred = x.clone() - x.clone().mean_dim(1);
        let deviation = (centred.clone().square().mean_dim(1) + 1e-5).sqrt();
        let layer_norm = centred / deviation;
        let gelu = |x: Tensor<2>| {
            let inner = (x.clone() + x.clone().powi_scalar(3).mul_scalar(0.044_715))
                .mul_scalar((2.0 / std::f64::consts::PI).sqrt());
            x * (inner.tanh() + 1.0) / 2.0
        };
        let gate = (x.clone() * 2.0).clamp_max(7.0);
        let clamped = gate.clone() * sigmoid(gate * 1.702) * ((up.clone() * 2.0).clamp(-7.0, 7.0) + 1.0);
        let capped_by_burn = x.clone().div_scalar(3.0).tanh().mul_scalar(3.0);
        let pairs = [
            (norm(NormKind::Rms, x.clone(), &weight, 1e-5).unwrap(), x.clone() * scale * weight.clone()),
            (norm(NormKind::Layer, x.clone(), &weight, 1e-5).unwrap(), layer_norm * weight),
            (gated(Activation::Silu, x.clone(), up.clone()).unwrap(), silu(x.clone()) * up.clone()),
            (gated(Activation::GeluTanh, x.clone(), up.clone()).unwrap(), gelu(x.clone()) * up.clone()),
            (gated(Activation::ClampedGlu, x.clone() * 2.0, up.clone() * 2.0).unwrap(), clamped),
            (capped_at(x.reshape([7, 33]), Some(3.0)).unwrap(), capped_by_burn),
        ];
        for (ours, theirs) in pairs {
            for (i, (a, b)) in host(ours).unwrap().iter().zip(host(theirs).unwrap()).enumerate() {
                assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{i}: {a} {b}");
            }
        }
    }
}
