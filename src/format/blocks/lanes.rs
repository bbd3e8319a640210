//! Numbers of several sub-blocks side by side, one sub-block per lane.
//!
//! A search over scales sums over the weights of a sub-block. Within one sub-block these additions form a
//! chain, which cannot be vectorised without changing their order and with it the result. With one sub-block
//! per lane, every sub-block is summed in order, and all sub-blocks at once.

use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

/// One number for each of `N` sub-blocks. Arithmetic is lane by lane.
#[derive(Clone, Copy)]
pub(super) struct Lanes<const N: usize>(pub [f32; N]);

/// Returns in which lanes both conditions hold.
#[inline(always)]
pub(super) fn both<const N: usize>(a: [bool; N], b: [bool; N]) -> [bool; N] {
    from_fn(|lane| a[lane] & b[lane])
}

impl<const N: usize> Lanes<N> {
    pub(super) const ZERO: Self = Self([0.0; N]);

    pub(super) fn splat(x: f32) -> Self {
        Self([x; N])
    }

    #[inline(always)]
    pub(super) fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(from_fn(|i| f(self.0[i])))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(from_fn(|i| f(self.0[i], other.0[i])))
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        self.map(f32::abs)
    }

    /// Returns the lesser number of each lane. `f32::min` is slower because it handles NaN.
    #[inline(always)]
    pub(super) fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    pub(super) fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// Rounds to the nearest integer, ties to even, for magnitudes below 2^22; larger numbers stay about as
    /// large.
    #[inline(always)]
    pub(super) fn nearest(self) -> Self {
        // Between 2^23 and 2^24, floats are exactly the integers, so the addition rounds.
        const INTEGERS: f32 = 12_582_912.0;
        self.map(|x| (x + INTEGERS) - INTEGERS)
    }

    #[inline(always)]
    pub(super) fn clamp(self, low: f32, high: f32) -> Self {
        self.max(Self::splat(low)).min(Self::splat(high))
    }

    /// Returns in which lanes `self` is less than `other`.
    #[inline(always)]
    pub(super) fn less(self, other: Self) -> [bool; N] {
        from_fn(|i| self.0[i] < other.0[i])
    }

    /// Returns the lanes of `self` where `mask` is set, and the lanes of `other` elsewhere.
    #[inline(always)]
    pub(super) fn or(self, mask: [bool; N], other: Self) -> Self {
        Self(from_fn(|i| if mask[i] { self.0[i] } else { other.0[i] }))
    }
}

macro_rules! lane_by_lane {
    ($($operator:ident $method:ident $symbol:tt),*) => {$(
        impl<const N: usize> $operator for Lanes<N> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $symbol b)
            }
        }
    )*};
}

lane_by_lane!(Add add +, Sub sub -, Mul mul *, Div div /);

/// Transposes a block: row `i` has element `i` of every sub-block of `LEN` weights.
pub(super) fn rows<const N: usize, const LEN: usize>(x: &[f32; 256]) -> [Lanes<N>; LEN] {
    const { assert!(N * LEN == 256) };
    from_fn(|i| Lanes(from_fn(|lane| x[lane * LEN + i])))
}

/// Transposes rows of codes, which are small non-negative integers, back into a block: the inverse of
/// [`rows`].
pub(super) fn codes<const N: usize, const LEN: usize>(rows: &[Lanes<N>; LEN]) -> [u8; 256] {
    const { assert!(N * LEN == 256) };
    from_fn(|i| rows[i % LEN].0[i / LEN] as u8)
}
