//! Gradients of row-wise arithmetic: norms, gates, and the logistic function.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};
use pulp::Arch;

use crate::Result;
use crate::kernels::rowwise::{
    Activation, GELU, GLU_ALPHA, GLU_LIMIT, NormKind, centred, exp, for_rows_with, for_triples, host,
    is_host, sum, sum_pairs,
};

/// Computes the gradient `[n, width]` of what `norm` of [`rowwise`](crate::kernels::rowwise::norm) reads, from `x`
/// `[n, width]`, the `weight` `[1, width]` and the gradient `dy` `[n, width]` of what it writes.
///
/// With `h = s x`, the normalised row, and `g = weight dy`: `dx = s (g - h mean(g h))`, less its mean for a LayerNorm.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if a tensor of the CPU is not `f32`.
pub fn norm(
    kind: NormKind,
    x: Tensor<2>,
    weight: &Tensor<2>,
    epsilon: f64,
    dy: Tensor<2>,
) -> Result<Tensor<2>> {
    let device = x.device();
    if !is_host(&device) {
        let x = centred(kind, x);
        let scale = (x.clone().square().mean_dim(1) + epsilon).sqrt().recip();
        let (h, g) = (x * scale.clone(), dy * weight.clone());
        let along = (g.clone() * h.clone()).mean_dim(1);
        return Ok(centred(kind, (g - h * along) * scale));
    }
    let [n_rows, width] = x.dims();
    let (x, weight, mut dy) = (host(x)?, host(weight.clone())?, host(dy)?);
    let n = width as f32;
    for_rows_with(&mut dy, &x, width, |dy, x| {
        let middle = if kind == NormKind::Layer { sum(x, |x| x) / n } else { 0.0 };
        let scale = 1.0 / (sum(x, |x| (x - middle) * (x - middle)) / n + epsilon as f32).sqrt();
        dy.iter_mut().zip(&weight).for_each(|(g, w)| *g *= w);
        let along = sum_pairs(dy, x, |g, x| g * (x - middle)) * scale / n;
        let mean = if kind == NormKind::Layer { sum(dy, |g| g) / n } else { 0.0 };
        for (g, x) in dy.iter_mut().zip(x) {
            *g = scale * (*g - mean - scale * (x - middle) * along);
        }
    });
    Ok(Tensor::from_data(TensorData::new(dy, [n_rows, width]), &device))
}

/// Computes the gradients of the `gate` and of `up`, all `[n, width]`, from the gradient `dy` of what
/// [`gated`](crate::kernels::rowwise::gated) makes of them.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if a tensor of the CPU is not `f32`.
pub fn gated(f: Activation, gate: Tensor<2>, up: Tensor<2>, dy: Tensor<2>) -> Result<[Tensor<2>; 2]> {
    let device = gate.device();
    let [outer, inner] = GELU;
    if !is_host(&device) {
        // Of `x p` with `p` the logistic function of `u`: `p + x p (1 - p) u'`.
        let (x, slope, up, within) = match f {
            Activation::Silu => (gate.clone(), gate.ones_like(), up, None),
            Activation::GeluTanh => {
                let slope = gate.clone().square().mul_scalar(3.0 * inner * outer).add_scalar(outer);
                (gate, slope, up, None)
            }
            Activation::ClampedGlu => {
                let within = gate.clone().lower_equal_elem(GLU_LIMIT).float();
                let up_within = up.clone().abs().lower_equal_elem(GLU_LIMIT).float();
                let slope = gate.ones_like().mul_scalar(GLU_ALPHA);
                (
                    gate.clamp_max(GLU_LIMIT),
                    slope,
                    up.clamp(-GLU_LIMIT, GLU_LIMIT) + 1.0,
                    Some((within, up_within)),
                )
            }
        };
        let exponent = match f {
            Activation::Silu => x.clone(),
            Activation::GeluTanh => {
                (x.clone() + x.clone().powi_scalar(3).mul_scalar(inner)).mul_scalar(outer)
            }
            Activation::ClampedGlu => x.clone().mul_scalar(GLU_ALPHA),
        };
        let p = sigmoid(exponent);
        let d = p.clone() + x.clone() * p.clone() * (p.ones_like() - p.clone()) * slope;
        let (d_gate, d_up) = (dy.clone() * up * d, dy * x * p);
        return Ok(match within {
            Some((gate, up)) => [d_gate * gate, d_up * up],
            None => [d_gate, d_up],
        });
    }
    let shape = gate.dims();
    let (mut gate, mut up, dy) = (host(gate)?, host(up)?, host(dy)?);
    match f {
        Activation::Silu => for_triples(&mut gate, &mut up, &dy, |gate, up, dy| {
            for ((g, u), dy) in gate.iter_mut().zip(up).zip(dy) {
                let p = 1.0 / (1.0 + exp(-*g));
                (*g, *u) = (dy * *u * (p + *g * p * (1.0 - p)), dy * *g * p);
            }
        }),
        Activation::GeluTanh => for_triples(&mut gate, &mut up, &dy, |gate, up, dy| {
            for ((g, u), dy) in gate.iter_mut().zip(up).zip(dy) {
                let square = *g * *g;
                let p = 1.0 / (1.0 + exp(-outer * (*g + inner * square * *g)));
                let slope = outer * (1.0 + 3.0 * inner * square);
                (*g, *u) = (dy * *u * (p + *g * p * (1.0 - p) * slope), dy * *g * p);
            }
        }),
        Activation::ClampedGlu => for_triples(&mut gate, &mut up, &dy, |gate, up, dy| {
            for ((g, u), dy) in gate.iter_mut().zip(up).zip(dy) {
                let x = g.min(GLU_LIMIT);
                let p = 1.0 / (1.0 + exp(-GLU_ALPHA * x));
                let (factor, within) = (u.clamp(-GLU_LIMIT, GLU_LIMIT) + 1.0, u.abs() <= GLU_LIMIT);
                let d = if *g <= GLU_LIMIT { p + x * p * (1.0 - p) * GLU_ALPHA } else { 0.0 };
                (*g, *u) = (dy * factor * d, if within { dy * x * p } else { 0.0 });
            }
        }),
    }
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    Ok([tensor(gate), tensor(up)])
}

/// Computes, in place, the gradients of scores from those, in `dy`, of the scores `c tanh(s / c)` in `capped`.
pub fn uncapped(dy: &mut [f32], capped: &[f32], cap: f32) {
    let inverse = 1.0 / cap;
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (dy, y) in dy.iter_mut().zip(capped) {
                let t = y * inverse;
                *dy *= 1.0 - t * t;
            }
        },
    );
}

/// Replaces logits `z` by `factor exp(z - log_sum)`.
pub fn scaled_softmax(z: &mut [f32], log_sum: f32, factor: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || z.iter_mut().for_each(|z| *z = factor * exp(*z - log_sum)),
    );
}

/// Computes the gradient of logits, on any device, from the gradient `dy` of the logits that they were
/// [capped](crate::kernels::rowwise::capped_at) to.
pub fn uncapped_at<const D: usize>(dy: Tensor<D>, capped: Tensor<D>, cap: Option<f64>) -> Tensor<D> {
    match cap {
        None => dy,
        Some(cap) => dy * (capped.div_scalar(cap).square().neg() + 1.0),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::kernels::backward::differences::{assert_close, gradient, noise, single};

    fn tensor(values: &[f64], width: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(single(values), [values.len() / width, width]), &Device::flex())
    }

    #[test]
    fn norms_go_back() {
        for kind in [NormKind::Rms, NormKind::Layer] {
            for (rows, width) in [(1, 3), (4, 65), (7, 128)] {
                let (x, weight, dy) = (noise(rows * width, 31), noise(width, 57), noise(rows * width, 83));
                let epsilon = 1e-3;
                let loss = |x: &[f64]| -> f64 {
                    let of_row = |(x, dy): (&[f64], &[f64])| {
                        let middle =
                            if kind == NormKind::Layer { x.iter().sum::<f64>() / width as f64 } else { 0.0 };
                        let square: f64 = x.iter().map(|x| (x - middle).powi(2)).sum::<f64>() / width as f64;
                        let scale = 1.0 / (square + epsilon).sqrt();
                        x.iter()
                            .zip(&weight)
                            .zip(dy)
                            .map(|((x, w), dy)| dy * w * scale * (x - middle))
                            .sum::<f64>()
                    };
                    x.chunks(width).zip(dy.chunks(width)).map(of_row).sum()
                };
                let dx = norm(kind, tensor(&x, width), &tensor(&weight, width), epsilon, tensor(&dy, width))
                    .unwrap();
                assert_close(&format!("{kind:?} of {width}"), &host(dx).unwrap(), &gradient(&x, loss), 2e-5);
            }
        }
    }

    #[test]
    fn gates_go_back() {
        for f in [Activation::Silu, Activation::GeluTanh, Activation::ClampedGlu] {
            let (rows, width) = (3, 41);
            let scaled = |x: Vec<f64>, by: f64| x.into_iter().map(|x| x * by).collect::<Vec<_>>();
            let gate = scaled(noise(rows * width, 31), 9.0);
            let up = scaled(noise(rows * width, 57), 9.0);
            let dy = noise(rows * width, 83);
            let of = |g: f64, u: f64| match f {
                Activation::Silu => g / (1.0 + (-g).exp()) * u,
                Activation::GeluTanh => {
                    let inside = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
                    0.5 * g * (1.0 + inside.tanh()) * u
                }
                Activation::ClampedGlu => {
                    let x = g.min(7.0);
                    x / (1.0 + (-1.702 * x).exp()) * (u.clamp(-7.0, 7.0) + 1.0)
                }
            };
            let loss = |gate: &[f64], up: &[f64]| -> f64 {
                gate.iter().zip(up).zip(&dy).map(|((g, u), dy)| dy * of(*g, *u)).sum()
            };
            let [d_gate, d_up] =
                gated(f, tensor(&gate, width), tensor(&up, width), tensor(&dy, width)).unwrap();
            assert_close(
                &format!("{f:?}, gate"),
                &host(d_gate).unwrap(),
                &gradient(&gate, |g| loss(g, &up)),
                1e-5,
            );
            assert_close(
                &format!("{f:?}, up"),
                &host(d_up).unwrap(),
                &gradient(&up, |u| loss(&gate, u)),
                1e-5,
            );
        }
    }

    #[test]
    fn caps_go_back() {
        let (x, dy) = (noise(50, 31).iter().map(|x| x * 60.0).collect::<Vec<_>>(), noise(50, 83));
        let capped: Vec<f64> = x.iter().map(|x| 30.0 * (x / 30.0).tanh()).collect();
        let loss = |x: &[f64]| x.iter().zip(&dy).map(|(x, dy)| dy * 30.0 * (x / 30.0).tanh()).sum::<f64>();
        let expected = gradient(&x, loss);
        let mut found = single(&dy);
        uncapped(&mut found, &single(&capped), 30.0);
        assert_close("a slice", &found, &expected, 1e-5);
        let at = uncapped_at(tensor(&dy, 10), tensor(&capped, 10), Some(30.0));
        assert_close("a tensor", &host(at).unwrap(), &expected, 1e-5);
    }
}
