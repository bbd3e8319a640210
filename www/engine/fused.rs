//! The inner loops of the engine's products with fused multiply-adds: a module of its own, which works in the engine's
//! memory, because WebAssembly refuses a whole module for one instruction that it does not know.
//!
//! It has no data there, and its stack is where `fused.js` says. Nothing in it may panic or allocate: the build refuses
//! what is larger than the loops.

#[path = "../../src/kernels/panels/kernel.rs"]
mod kernel;

use core::slice::{from_raw_parts, from_raw_parts_mut};

use kernel::{Block, LEFT, RIGHT, add_products};

/// [`add_products`] of a [`Block`] in the engine's memory; `lower` is negative where there is none.
///
/// # Safety
/// Each pointer leads to as many panels or numbers as said, and nothing else uses `y` meanwhile.
#[unsafe(export_name = "addProducts")]
pub unsafe extern "C" fn add_products_at(
    left: *const [f32; LEFT],
    n_left: usize,
    right: *const [f32; RIGHT],
    n_right: usize,
    depth: usize,
    y: *mut f32,
    n_y: usize,
    n_columns: usize,
    width: usize,
    lower: isize,
) {
    // SAFETY: as the caller promises.
    let (left, right, y) =
        unsafe { (from_raw_parts(left, n_left), from_raw_parts(right, n_right), from_raw_parts_mut(y, n_y)) };
    add_products(Block { left, right, depth, y, n_columns, width, lower: usize::try_from(lower).ok() });
}
