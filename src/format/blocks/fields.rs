//! Fields of a block by their place in it, and the half-precision numbers among them.

use half::f16;

/// The `N` bytes at `AT` of a block of `B` bytes. That they lie inside it is checked at compile time.
pub(super) fn field<const AT: usize, const N: usize, const B: usize>(block: &[u8; B]) -> &[u8; N] {
    const { assert!(N > 0 && AT + N <= B) };
    &block[AT..].as_chunks().0[0]
}

/// Writes the `N` bytes at `AT` of a block of `B` bytes.
pub(super) fn set<const AT: usize, const N: usize, const B: usize>(block: &mut [u8; B], value: [u8; N]) {
    const { assert!(N > 0 && AT + N <= B) };
    block[AT..].as_chunks_mut().0[0] = value;
}

/// The little-endian binary16 at `AT`.
pub(super) fn half_at<const AT: usize, const B: usize>(block: &[u8; B]) -> f32 {
    f16::from_le_bytes(*field::<AT, 2, B>(block)).to_f32()
}

/// Whether the binary16 numbers at two places (that may be the same) are finite: not all exponent bits are
/// set.
pub(super) fn halves_are_finite<const B: usize, const FIRST: usize, const SECOND: usize>(
    block: &[u8; B],
) -> bool {
    let finite = |half: &[u8; 2]| half[1] & 0x7c != 0x7c;
    finite(field::<FIRST, 2, B>(block)) & finite(field::<SECOND, 2, B>(block))
}

/// `x` as a binary16 number, rounded to nearest even, or nothing where that is not finite.
pub(super) fn finite_half(x: f32) -> Option<f16> {
    Some(f16::from_f32(x)).filter(|half| half.is_finite())
}

/// The low halves of all bytes, then the high halves: 4-bit codes as all types store them.
pub(super) fn nibbles<const N: usize, const CODES: usize>(bytes: &[u8; N]) -> [u8; CODES] {
    const { assert!(CODES == 2 * N) };
    let mut codes = [0; CODES];
    let (low, high) = codes.split_at_mut(N);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
    codes
}

/// The inverse of [`nibbles`]; higher bits of the codes are stored elsewhere and dropped here.
pub(super) fn from_nibbles<const CODES: usize, const N: usize>(codes: &[u8; CODES]) -> [u8; N] {
    const { assert!(CODES == 2 * N) };
    let mut bytes = [0; N];
    let (low, high) = codes.split_at(N);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low & 15 | high << 4;
    }
    bytes
}
