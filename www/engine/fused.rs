//! The inner loops of the engine's products: a module of its own. With fused multiply-adds it works in the engine's memory,
//! because WebAssembly refuses a whole module for one instruction that it does not know. With and without, it works on many
//! threads in the memory that they share (`pool.ts`).
//!
//! It has no data there, and its stack is where its loader says. Nothing in it may panic or allocate: the build refuses
//! what is larger than the loops.

#[path = "../../src/kernels/panels/kernel.rs"]
mod kernel;

use core::slice::{from_raw_parts, from_raw_parts_mut};

use kernel::{Block, LEFT, RIGHT, add_products, pack};

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

/// Rows of a panel of the left operand.
#[unsafe(export_name = "leftRows")]
pub extern "C" fn left_rows() -> usize {
    LEFT
}

/// Rows of a panel of the right operand.
#[unsafe(export_name = "rightRows")]
pub extern "C" fn right_rows() -> usize {
    RIGHT
}

/// [`pack`] in the memory that threads share.
///
/// # Safety
/// `values` leads to `n` numbers and `panels` to `n_panels`, and nothing else uses the panels meanwhile.
#[unsafe(export_name = "pack")]
pub unsafe extern "C" fn pack_at(
    values: *const f32,
    n: usize,
    rows: usize,
    row: usize,
    column: usize,
    depth: usize,
    lanes: usize,
    panels: *mut f32,
    n_panels: usize,
) {
    // SAFETY: as the caller promises.
    let (values, panels) = unsafe { (from_raw_parts(values, n), from_raw_parts_mut(panels, n_panels)) };
    pack(values, [rows, row, column], depth, lanes, panels);
}
