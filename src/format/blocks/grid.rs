//! Grids of blocks: the numbers that the codes of a block can stand for while its scales and offsets stay, and other codes
//! in place of those that a block has.
//!
//! Every type has such grids. With `s` the scale of a weight as decoding makes it of the fields of the block, code `q` stands
//! for
//!
//! | types | number |
//! |---|---|
//! | Q4_0, Q5_0, Q8_0, Q3_K, Q6_K | `s (q - z)`, with a fixed `z` |
//! | Q4_1, Q5_1, Q2_K, Q4_K, Q5_K | `s q + m`, with an offset `m` of the block or the group |
//! | IQ4_NL, IQ4_XS, MXFP4 | `s t_q`, with a table `t` of 16 numbers |
//!
//! computed in `f32` as the decoders do, so that the numbers are those that they give, bit for bit. Codes of Q8_0, which are
//! signed bytes, are here from 1 to 255 and mean 0 at 128; the encoder of llama.cpp never gives the least byte.

use super::BlockType;
use super::fields::{field, from_nibbles, half_at, nibbles, set};
use super::k_layout::{
    add_bit, bit_of_groups, eight_scales, four_bits, from_four_bits, from_two_bits, low_four_bits, six_bits,
    sixteen_scales, two_bits, upper_two_bits,
};
use super::lookup::{E2M1, IQ4, exponential, scales_of_iq4_xs};
use super::simple::{fifth_bits, five_bits};
use crate::{Error, Result};

/// Numbers that the codes of weights with a common scale stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    scale: f32,
    levels: Levels,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Levels {
    /// `scale (code - zero) + offset`, for the codes from `first` to `last`. An offset of -0 changes no number.
    Even { zero: u8, first: u8, last: u8, offset: f32 },
    /// `scale table[code]`.
    Table(&'static [f32; 16]),
}

/// Codes of whole blocks, and the grids that they are of.
#[derive(Debug, Clone, PartialEq)]
pub struct Gridded {
    /// Grids, one for each [`BlockType::weights_per_grid`] weights.
    pub grids: Vec<Grid>,
    /// Codes, one for each weight.
    pub codes: Vec<u8>,
}

impl Grid {
    const fn symmetric(scale: f32, zero: u8, last: u8) -> Self {
        Self { scale, levels: Levels::Even { zero, first: 0, last, offset: -0.0 } }
    }

    const fn affine(scale: f32, offset: f32, last: u8) -> Self {
        Self { scale, levels: Levels::Even { zero: 0, first: 0, last, offset } }
    }

    const fn of_table(scale: f32, table: &'static [f32; 16]) -> Self {
        Self { scale, levels: Levels::Table(table) }
    }

    /// Returns the number that `code` stands for, as decoding gives it.
    pub fn number(&self, code: u8) -> f32 {
        match self.levels {
            Levels::Even { zero, offset, .. } => self.scale * (f32::from(code) - f32::from(zero)) + offset,
            Levels::Table(table) => self.scale * table[usize::from(code & 15)],
        }
    }

    /// Returns the code whose number is nearest to `x`, a finite number; `None` if all codes stand for the same number.
    pub fn nearest(&self, x: f32) -> Option<u8> {
        if self.scale == 0.0 {
            return None;
        }
        Some(match self.levels {
            Levels::Even { zero, first, last, offset } => {
                let code = (x - offset) / self.scale + f32::from(zero);
                code.round().clamp(f32::from(first), f32::from(last)) as u8
            }
            Levels::Table(table) => {
                let errors = table.iter().map(|level| (level * self.scale - x).abs()).zip(0..);
                let nearer = |best: (f32, u8), each: (f32, u8)| if each.0 < best.0 { each } else { best };
                errors.fold((f32::INFINITY, 0), nearer).1
            }
        })
    }
}

impl BlockType {
    /// Returns how many weights in a row have one [`Grid`].
    pub const fn weights_per_grid(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Q4K | Self::Q5K => 32,
            Self::Iq4Nl | Self::Iq4Xs | Self::Mxfp4 => 32,
        }
    }

    /// Reads the codes of whole blocks and their grids.
    ///
    /// # Errors
    /// [`Error::Shape`] if `bytes` is not a whole number of blocks.
    pub fn gridded(self, bytes: &[u8]) -> Result<Gridded> {
        self.check_blocks(bytes)?;
        Ok(match self {
            Self::Q4_0 => gridded_each(bytes, |block: &[u8; 18]| {
                (
                    [Grid::symmetric(half_at::<0, _>(block), 8, 15)],
                    nibbles::<16, 32>(field::<2, 16, _>(block)),
                )
            }),
            Self::Q4_1 => gridded_each(bytes, |block: &[u8; 20]| {
                let grid = Grid::affine(half_at::<0, _>(block), half_at::<2, _>(block), 15);
                ([grid], nibbles::<16, 32>(field::<4, 16, _>(block)))
            }),
            Self::Q5_0 => gridded_each(bytes, |block: &[u8; 22]| {
                let codes = five_bits(field::<2, 4, _>(block), field::<6, 16, _>(block));
                ([Grid::symmetric(half_at::<0, _>(block), 16, 31)], codes)
            }),
            Self::Q5_1 => gridded_each(bytes, |block: &[u8; 24]| {
                let grid = Grid::affine(half_at::<0, _>(block), half_at::<2, _>(block), 31);
                ([grid], five_bits(field::<4, 4, _>(block), field::<8, 16, _>(block)))
            }),
            Self::Q8_0 => gridded_each(bytes, |block: &[u8; 34]| {
                let levels = Levels::Even { zero: 128, first: 1, last: 255, offset: -0.0 };
                let grid = Grid { scale: half_at::<0, _>(block), levels };
                ([grid], field::<2, 32, _>(block).map(|code| code ^ SIGN))
            }),
            Self::Q2K => gridded_each(bytes, |block: &[u8; 84]| {
                let (d, m) = (half_at::<80, _>(block), half_at::<82, _>(block));
                let grid = |both: u8| Grid::affine(d * f32::from(both & 15), -(m * f32::from(both >> 4)), 3);
                (field::<0, 16, _>(block).map(grid), two_bits(field::<16, 64, _>(block)))
            }),
            Self::Q3K => gridded_each(bytes, |block: &[u8; 110]| {
                let d = half_at::<108, _>(block);
                let mut codes = two_bits(field::<32, 64, _>(block));
                add_bit(field::<0, 32, _>(block), 2, &mut codes);
                let scales = sixteen_scales(field::<96, 12, _>(block));
                (scales.map(|scale| Grid::symmetric(d * (f32::from(scale) - 32.0), 4, 7)), codes)
            }),
            Self::Q4K => gridded_each(bytes, |block: &[u8; 144]| {
                (affine_grids(block, 15), four_bits(field::<16, 128, _>(block)))
            }),
            Self::Q5K => gridded_each(bytes, |block: &[u8; 176]| {
                let mut codes = four_bits(field::<48, 128, _>(block));
                add_bit(field::<16, 32, _>(block), 4, &mut codes);
                (affine_grids(block, 31), codes)
            }),
            Self::Q6K => gridded_each(bytes, |block: &[u8; 210]| {
                let d = half_at::<208, _>(block);
                let codes = six_bits(field::<0, 128, _>(block), field::<128, 64, _>(block));
                let grid = |scale: u8| Grid::symmetric(d * f32::from(scale.cast_signed()), 32, 63);
                (field::<192, 16, _>(block).map(grid), codes)
            }),
            Self::Iq4Nl => gridded_each(bytes, |block: &[u8; 18]| {
                ([Grid::of_table(half_at::<0, _>(block), &IQ4)], nibbles::<16, 32>(field::<2, 16, _>(block)))
            }),
            Self::Iq4Xs => gridded_each(bytes, |block: &[u8; 136]| {
                let mut codes = [0; 256];
                let groups = field::<8, 128, _>(block).as_chunks::<16>().0;
                for (codes, bytes) in codes.as_chunks_mut::<32>().0.iter_mut().zip(groups) {
                    *codes = nibbles(bytes);
                }
                (scales_of_iq4_xs(block).map(|scale| Grid::of_table(scale, &IQ4)), codes)
            }),
            Self::Mxfp4 => gridded_each(bytes, |block: &[u8; 17]| {
                let grid = Grid::of_table(exponential(block[0]), &E2M1);
                ([grid], nibbles::<16, 32>(field::<1, 16, _>(block)))
            }),
        })
    }

    /// Puts `codes`, one for each weight, in the place of those of whole blocks; scales and offsets stay. Bits that the type
    /// has no place for are dropped.
    ///
    /// # Errors
    /// [`Error::Shape`] if `bytes` is not a whole number of blocks, or there are not as many codes as weights.
    pub fn put_codes(self, codes: &[u8], bytes: &mut [u8]) -> Result<()> {
        self.check_blocks(bytes)?;
        if codes.len() != bytes.len() / self.bytes() * self.weights() {
            return Err(Error::Shape(format!(
                "{} codes are not those of {} bytes of {self}",
                codes.len(),
                bytes.len()
            )));
        }
        match self {
            Self::Q4_0 | Self::Iq4Nl => put_each(codes, bytes, |codes: &[u8; 32], block: &mut [u8; 18]| {
                set::<2, 16, _>(block, from_nibbles(codes));
            }),
            Self::Q4_1 => put_each(codes, bytes, |codes: &[u8; 32], block: &mut [u8; 20]| {
                set::<4, 16, _>(block, from_nibbles(codes));
            }),
            Self::Q5_0 => put_each(codes, bytes, |codes: &[u8; 32], block: &mut [u8; 22]| {
                set::<2, 4, _>(block, fifth_bits(codes));
                set::<6, 16, _>(block, from_nibbles(codes));
            }),
            Self::Q5_1 => put_each(codes, bytes, |codes: &[u8; 32], block: &mut [u8; 24]| {
                set::<4, 4, _>(block, fifth_bits(codes));
                set::<8, 16, _>(block, from_nibbles(codes));
            }),
            Self::Q8_0 => put_each(codes, bytes, |codes: &[u8; 32], block: &mut [u8; 34]| {
                set::<2, 32, _>(block, codes.map(|code| code ^ SIGN));
            }),
            Self::Q2K => put_each(codes, bytes, |codes: &[u8; 256], block: &mut [u8; 84]| {
                set::<16, 64, _>(block, from_two_bits(codes));
            }),
            Self::Q3K => put_each(codes, bytes, |codes: &[u8; 256], block: &mut [u8; 110]| {
                set::<0, 32, _>(block, bit_of_groups(codes, 2));
                set::<32, 64, _>(block, from_two_bits(codes));
            }),
            Self::Q4K => put_each(codes, bytes, |codes: &[u8; 256], block: &mut [u8; 144]| {
                set::<16, 128, _>(block, from_four_bits(codes));
            }),
            Self::Q5K => put_each(codes, bytes, |codes: &[u8; 256], block: &mut [u8; 176]| {
                set::<16, 32, _>(block, bit_of_groups(codes, 4));
                set::<48, 128, _>(block, from_four_bits(codes));
            }),
            Self::Q6K => put_each(codes, bytes, |codes: &[u8; 256], block: &mut [u8; 210]| {
                set::<0, 128, _>(block, low_four_bits(codes));
                set::<128, 64, _>(block, upper_two_bits(codes));
            }),
            Self::Iq4Xs => put_each(codes, bytes, |codes: &[u8; 256], block: &mut [u8; 136]| {
                let groups = block[8..].as_chunks_mut::<16>().0.iter_mut();
                for (bytes, codes) in groups.zip(codes.as_chunks::<32>().0) {
                    *bytes = from_nibbles(codes);
                }
            }),
            Self::Mxfp4 => put_each(codes, bytes, |codes: &[u8; 32], block: &mut [u8; 17]| {
                set::<1, 16, _>(block, from_nibbles(codes));
            }),
        }
        Ok(())
    }

    fn check_blocks(self, bytes: &[u8]) -> Result<()> {
        match bytes.len().is_multiple_of(self.bytes()) {
            true => Ok(()),
            false => Err(Error::Shape(format!(
                "{} bytes are not a whole number of {self} blocks of {}",
                bytes.len(),
                self.bytes()
            ))),
        }
    }
}

/// Bit of the sign of a byte. Signed bytes with the other sign are in the order of unsigned ones.
const SIGN: u8 = 0x80;

/// Returns the grids of a block of Q4_K or Q5_K.
fn affine_grids<const B: usize>(block: &[u8; B], last: u8) -> [Grid; 8] {
    let (d, m) = (half_at::<0, _>(block), half_at::<2, _>(block));
    let (scales, mins) = eight_scales(field::<4, 12, _>(block));
    std::array::from_fn(|g| Grid::affine(d * f32::from(scales[g]), -(m * f32::from(mins[g])), last))
}

fn gridded_each<const B: usize, const G: usize, const W: usize>(
    bytes: &[u8],
    read: impl Fn(&[u8; B]) -> ([Grid; G], [u8; W]),
) -> Gridded {
    let blocks = bytes.as_chunks::<B>().0;
    let mut gridded =
        Gridded { grids: Vec::with_capacity(blocks.len() * G), codes: Vec::with_capacity(blocks.len() * W) };
    for (grids, codes) in blocks.iter().map(read) {
        gridded.grids.extend_from_slice(&grids);
        gridded.codes.extend_from_slice(&codes);
    }
    gridded
}

fn put_each<const B: usize, const W: usize>(
    codes: &[u8],
    bytes: &mut [u8],
    put: impl Fn(&[u8; W], &mut [u8; B]),
) {
    for (codes, block) in codes.as_chunks::<W>().0.iter().zip(bytes.as_chunks_mut::<B>().0) {
        put(codes, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random bytes, and blocks whose scales are of usual size. Any bytes are blocks.
    fn blocks(block: BlockType) -> Vec<Vec<u8>> {
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u32
        };
        let mut bytes: Vec<u8> = (0..50 * block.bytes()).map(|_| draw() as u8).collect();
        if block == BlockType::Q8_0 {
            // The least byte is not among its codes.
            bytes.iter_mut().filter(|byte| **byte == SIGN).for_each(|byte| *byte = 5);
        }
        let weights: Vec<f32> =
            (0..20 * block.weights()).map(|_| draw() as f32 / 8_388_608.0 - 1.0).collect();
        let importances: Vec<f32> = (0..block.weights()).map(|_| draw() as f32).collect();
        let zeros = vec![0.0; block.weights()];
        vec![
            bytes,
            block.encode(&weights).unwrap(),
            block.encode_weighted(&weights, &importances).unwrap(),
            block.encode(&zeros).unwrap(),
        ]
    }

    fn decoded(block: BlockType, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / block.bytes() * block.weights()];
        block.decode(bytes, &mut values).unwrap();
        values
    }

    #[test]
    fn codes_that_are_put_back_give_the_same_bytes() {
        for block in BlockType::ALL {
            for bytes in blocks(block) {
                let Gridded { codes, grids } = block.gridded(&bytes).unwrap();
                assert_eq!(grids.len() * block.weights_per_grid(), codes.len(), "{block}");
                let mut put = bytes.clone();
                block.put_codes(&vec![0; codes.len()], &mut put).unwrap();
                let zeros = block.gridded(&put).unwrap();
                // The scales of random bytes may not be numbers.
                let scales =
                    |grids: &[Grid]| grids.iter().map(|grid| grid.scale.to_bits()).collect::<Vec<_>>();
                assert!(scales(&zeros.grids) == scales(&grids) && zeros.codes == vec![0; codes.len()]);
                block.put_codes(&codes, &mut put).unwrap();
                assert_eq!(put, bytes, "{block}");
            }
        }
    }

    #[test]
    fn numbers_are_those_that_decoding_gives() {
        for block in BlockType::ALL {
            for mut bytes in blocks(block) {
                let Gridded { grids, codes } = block.gridded(&bytes).unwrap();
                for shift in 0..3u8 {
                    // Any codes that the type has.
                    let of = |i: usize, code: u8| match grids[i / block.weights_per_grid()].levels {
                        Levels::Even { first, last, .. } => {
                            let count = u16::from(last) - u16::from(first) + 1;
                            (u16::from(first) + (u16::from(code - first) + u16::from(shift)) % count) as u8
                        }
                        Levels::Table(_) => (code + shift) % 16,
                    };
                    let shifted: Vec<u8> = codes.iter().enumerate().map(|(i, code)| of(i, *code)).collect();
                    block.put_codes(&shifted, &mut bytes).unwrap();
                    for (i, (value, code)) in decoded(block, &bytes).iter().zip(&shifted).enumerate() {
                        let number = grids[i / block.weights_per_grid()].number(*code);
                        assert!(number.to_bits() == value.to_bits() || number.is_nan() && value.is_nan());
                    }
                }
            }
        }
    }

    #[test]
    fn the_nearest_code_is_nearest() {
        for block in BlockType::ALL {
            for bytes in blocks(block).into_iter().skip(1) {
                let Gridded { grids, codes } = block.gridded(&bytes).unwrap();
                for (grid, own) in grids.iter().zip(codes.chunks(block.weights_per_grid())) {
                    let all: Vec<u8> = match grid.levels {
                        Levels::Even { first, last, .. } => (first..=last).collect(),
                        Levels::Table(_) => (0..16).collect(),
                    };
                    if grid.scale == 0.0 {
                        assert_eq!(grid.nearest(1.0), None);
                        continue;
                    }
                    for code in own {
                        let number = grid.number(*code);
                        assert_eq!(grid.number(grid.nearest(number).unwrap()), number, "{block}");
                        let x = number + 0.37 * grid.scale;
                        let error = |code: u8| (grid.number(code) - x).abs();
                        let least = all.iter().map(|code| error(*code)).fold(f32::INFINITY, f32::min);
                        let ours = error(grid.nearest(x).unwrap());
                        assert!(ours <= least + 1e-5 * grid.scale.abs(), "{block}: {ours} {least}");
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_blocks_and_other_numbers_of_codes_are_refused() {
        for block in BlockType::ALL {
            assert!(matches!(block.gridded(&vec![0; block.bytes() + 1]), Err(Error::Shape(_))));
            let mut bytes = vec![0; 2 * block.bytes()];
            let codes = vec![0; block.weights()];
            assert!(matches!(block.put_codes(&codes, &mut bytes), Err(Error::Shape(_))));
        }
    }
}
