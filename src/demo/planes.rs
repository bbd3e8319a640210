//! A safetensors file of 16-bit numbers in planes: after the header come the high bytes of all numbers, then the low
//! bytes. High bytes, which hold sign and exponent, resemble each other, so that Brotli makes less of them when they
//! stand side by side.

use crate::{Error, Result};

/// Bytes that say how long the header is.
const LENGTH_BYTES: usize = 8;

/// Returns the safetensors file that `planes` holds.
///
/// # Errors
/// [`Error::Internal`] if `planes` has no whole header, or no whole number of numbers.
pub fn joined(planes: &[u8]) -> Result<Vec<u8>> {
    let broken = || Error::Internal("the embedded weights are damaged".to_owned());
    let (length, rest) = planes.split_first_chunk::<LENGTH_BYTES>().ok_or_else(broken)?;
    let header = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| broken())?;
    let data = rest.get(header..).ok_or_else(broken)?;
    if data.len() % 2 != 0 {
        return Err(broken());
    }
    let (high, low) = data.split_at(data.len() / 2);
    let mut file = planes.get(..LENGTH_BYTES + header).ok_or_else(broken)?.to_vec();
    file.reserve_exact(data.len());
    for (high, low) in high.iter().zip(low) {
        file.extend([*low, *high]);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_put_together_again() {
        let planes = [&2u64.to_le_bytes()[..], b"{}", &[1, 2, 3], &[4, 5, 6]].concat();
        let file = [&2u64.to_le_bytes()[..], b"{}", &[4, 1, 5, 2, 6, 3]].concat();
        assert_eq!(joined(&planes), Ok(file));
        for broken in [&planes[..3], &planes[..9], &planes[..11]] {
            assert!(matches!(joined(broken), Err(Error::Internal(_))), "{broken:?}");
        }
    }
}
