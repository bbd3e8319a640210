//! Weighted sums of layers: the tensors of several layers become those of a single layer.
//!
//! One step merges layers `l < m` into `theta_c = alpha theta_l + (1 - alpha) theta_m`, for every tensor of
//! the layer. Steps compose, so a layer of the merged model is a weighted sum of original layers whose
//! weights sum to one. [`Mix`] describes the sum, and [`Accumulator`] computes it one tensor at a time.

use crate::error::OrInternal;
use crate::{Error, Result};

/// A layer as a weighted sum of original layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// Original layers and their weights, in ascending order of layers.
    parts: Vec<(usize, f64)>,
}

impl Mix {
    /// Returns the mix that consists of an original layer alone.
    pub fn original(layer: usize) -> Self {
        Self { parts: vec![(layer, 1.0)] }
    }

    /// Makes a weighted sum of layers from pairs of original layer and weight. Layers of weight zero are left
    /// out.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are no parts, or if the weights are not finite or do not sum to one.
    pub fn new(mut parts: Vec<(usize, f64)>) -> Result<Self> {
        let sum: f64 = parts.iter().map(|(_, weight)| weight).sum();
        if parts.is_empty() || sum.is_nan() || (sum - 1.0).abs() > 1e-6 {
            return Err(Error::Usage(format!(
                "the weights of layers {:?} sum to {sum}, not to 1",
                parts.iter().map(|(layer, _)| layer).collect::<Vec<_>>()
            )));
        }
        parts.retain(|(_, weight)| *weight != 0.0);
        Ok(Self { parts })
    }

    /// Returns `alpha` times `self` plus `1 - alpha` times `other`.
    ///
    /// ```
    /// # use laminate::maths::mix::Mix;
    /// let pair = Mix::original(1).merge(&Mix::original(2), 0.75);
    /// assert_eq!(pair.parts(), [(1, 0.75), (2, 0.25)]);
    /// ```
    #[must_use]
    pub fn merge(&self, other: &Self, alpha: f64) -> Self {
        let scaled = |mix: &Self, factor: f64| {
            mix.parts.iter().map(move |(l, w)| (*l, w * factor)).collect::<Vec<_>>()
        };
        let mut parts = scaled(self, alpha);
        parts.extend(scaled(other, 1.0 - alpha));
        parts.retain(|(_, weight)| *weight != 0.0);
        Self { parts }
    }

    /// Returns the original layers and their weights.
    pub fn parts(&self) -> &[(usize, f64)] {
        &self.parts
    }

    /// Returns the layer of largest weight; of equal weights, the first.
    ///
    /// # Errors
    /// [`Error::Internal`] if the mix has no parts.
    pub fn survivor(&self) -> Result<usize> {
        let best = self.parts.iter().reduce(|best, each| if each.1 > best.1 { each } else { best });
        best.map(|(layer, _)| *layer).or_internal("a mix has no parts")
    }

    /// Returns the original layer that the mix consists of, if it has only one.
    pub fn unchanged(&self) -> Option<usize> {
        match self.parts.as_slice() {
            [(layer, _)] => Some(*layer),
            _ => None,
        }
    }
}

/// Sum of weighted tensors of one shape, which are added one after the other so that only the sum is in
/// memory.
///
/// A single tensor of weight 1 is taken over unchanged. Each addition is computed in `f64` and stored in
/// `f32`, so the error of a sum of `n` tensors is at most `n` roundings of `f32`.
#[derive(Debug, Default)]
pub struct Accumulator {
    sum: Option<Vec<f32>>,
}

impl Accumulator {
    /// Adds `weight * tensor`. `name` is the tensor's name in messages.
    ///
    /// # Errors
    /// [`Error::Shape`], with the name, if the length differs from that of the tensors added before.
    pub fn add(&mut self, name: &str, weight: f64, mut tensor: Vec<f32>) -> Result<()> {
        match &mut self.sum {
            None => {
                if weight != 1.0 {
                    tensor.iter_mut().for_each(|x| *x = (f64::from(*x) * weight) as f32);
                }
                self.sum = Some(tensor);
            }
            Some(sum) if sum.len() == tensor.len() => {
                for (s, x) in sum.iter_mut().zip(&tensor) {
                    *s = (f64::from(*s) + f64::from(*x) * weight) as f32;
                }
            }
            Some(sum) => {
                return Err(Error::Shape(format!(
                    "tensor {name} has {} elements, but its partner in the merge has {}",
                    tensor.len(),
                    sum.len()
                )));
            }
        }
        Ok(())
    }

    /// Returns the sum.
    ///
    /// # Errors
    /// [`Error::Internal`] if nothing was added.
    pub fn finish(self) -> Result<Vec<f32>> {
        self.sum.or_internal("a merged tensor has no parts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(alpha: f64, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mix = Mix::original(0).merge(&Mix::original(1), alpha);
        let mut sum = Accumulator::default();
        for (layer, weight) in mix.parts() {
            sum.add("t", *weight, [a, b][*layer].to_vec()).unwrap();
        }
        sum.finish().unwrap()
    }

    #[test]
    fn alpha_one_and_zero_give_the_two_layers_back() {
        let (a, b) = ([1.5, -2.25, 1e-20], [3.0, 4.0, 1e20]);
        assert_eq!(merged(1.0, &a, &b), a);
        assert_eq!(merged(0.0, &a, &b), b);
        assert_eq!(merged(0.5, &a, &b)[..2], [2.25, 0.875]);
    }

    #[test]
    fn chained_merges_are_one_weighted_sum() {
        let chain = Mix::original(1).merge(&Mix::original(2), 0.9).merge(&Mix::original(3), 0.8);
        let expected = [(1, 0.72), (2, 0.08), (3, 0.2)];
        for ((layer, weight), (l, w)) in chain.parts().iter().zip(expected) {
            assert_eq!(*layer, l);
            assert!((weight - w).abs() < 1e-15);
        }
        assert!(Mix::new(chain.parts().to_vec()).is_ok());
    }

    #[test]
    fn weights_that_do_not_sum_to_one_and_unequal_tensors_are_refused() {
        assert!(Mix::new(vec![(0, 0.5), (1, 0.6)]).is_err());
        assert!(Mix::new(vec![(0, f64::NAN)]).is_err());
        assert!(Mix::new(vec![]).is_err());
        let mut sum = Accumulator::default();
        sum.add("up", 0.5, vec![1.0; 4]).unwrap();
        assert!(sum.add("up", 0.5, vec![1.0; 3]).unwrap_err().to_string().contains("tensor up"));
    }
}
