//! Access to the fields of a block by position, and conversion of the binary16 numbers and 4-bit codes in
//! them.

use half::f16;

/// Returns the `N` bytes at offset `AT` of a block of `B` bytes. Bounds are checked at compile time.
pub(super) fn field<const AT: usize, const N: usize, const B: usize>(block: &[u8; B]) -> &[u8; N] {
    const { assert!(N > 0 && AT + N <= B) };
    &block[AT..].as_chunks().0[0]
}

/// Writes `value` to the `N` bytes at offset `AT` of a block of `B` bytes.
pub(super) fn set<const AT: usize, const N: usize, const B: usize>(block: &mut [u8; B], value: [u8; N]) {
    const { assert!(N > 0 && AT + N <= B) };
    block[AT..].as_chunks_mut().0[0] = value;
}

/// Reads the little-endian binary16 number at offset `AT`.
pub(super) fn half_at<const AT: usize, const B: usize>(block: &[u8; B]) -> f32 {
    f16::from_le_bytes(*field::<AT, 2, B>(block)).to_f32()
}

/// Returns whether the binary16 numbers at offsets `FIRST` and `SECOND`, which may be equal, are finite: not
/// all bits of their exponents are set.
pub(super) fn halves_are_finite<const B: usize, const FIRST: usize, const SECOND: usize>(
    block: &[u8; B],
) -> bool {
    let finite = |half: &[u8; 2]| half[1] & 0x7c != 0x7c;
    finite(field::<FIRST, 2, B>(block)) & finite(field::<SECOND, 2, B>(block))
}

/// Rounds `x` to binary16, ties to even; `None` if the result is not finite.
pub(super) fn finite_half(x: f32) -> Option<f16> {
    Some(f16::from_f32(x)).filter(|half| half.is_finite())
}

/// Unpacks 4-bit codes in the order that all types use: the low halves of all bytes, then the high halves.
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

/// Packs 4-bit codes, the inverse of [`nibbles`]. Higher bits of the codes are dropped: other fields store
/// them.
pub(super) fn from_nibbles<const CODES: usize, const N: usize>(codes: &[u8; CODES]) -> [u8; N] {
    const { assert!(CODES == 2 * N) };
    let mut bytes = [0; N];
    let (low, high) = codes.split_at(N);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low & 15 | high << 4;
    }
    bytes
}
