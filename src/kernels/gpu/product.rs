//! Products `x W^T` on a GPU, by our own shader, with weights in `f32` or as they are stored.
//!
//! A workgroup computes a tile of the product, whose rows and columns it reads piece by piece into its memory, as fast
//! products on GPUs do (Volkov and Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008). Which tile is best
//! depends on the GPU: it is for whoever starts the device to time them, and to choose one ([`choose`]).

use std::sync::atomic::{AtomicUsize, Ordering};

use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::kernel::into_contiguous;

use super::*;

/// A tile of a product, and how its sums are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of `x`.
    pub rows: u32,
    /// Rows of `W`.
    pub columns: u32,
    /// Rows of the tile of which an invocation computes 8 columns: 4 or 8.
    sums: u32,
}

/// Columns of a tile that an invocation computes.
const COLUMNS: u32 = 8;

/// Values in a vector of the shader.
const VECTOR: usize = 4;

impl Tile {
    /// All tiles.
    pub const ALL: [Self; 3] = [
        Self { rows: 64, columns: 64, sums: 8 },
        Self { rows: 128, columns: 64, sums: 8 },
        Self { rows: 32, columns: 64, sums: 4 },
    ];

    /// Returns the invocations of a workgroup.
    pub fn invocations(self) -> u32 {
        self.rows / self.sums * (self.columns / COLUMNS)
    }

    /// Returns the WGSL source of the product with weights that are stored as `element`.
    pub fn source(self, element: Element) -> String {
        let Self { rows, columns, sums } = self;
        let sizes = format!("const ROWS = {rows}u;\nconst COLUMNS = {columns}u;\nconst SUMS = {sums}u;\n");
        let weights = match Shader::of(element) {
            None => include_str!("floats.wgsl").to_owned(),
            Some(shader) => [shader.words(), include_str!("stored.wgsl").to_owned()].join("\n"),
        };
        let each = |line: &dyn Fn(u32, u32) -> String| -> String {
            let places = (0..sums).flat_map(|i| (0..2).map(move |half| (i, half)));
            places.map(|(i, half)| line(i, half)).collect::<Vec<_>>().join("\n")
        };
        let zero = each(&|i, half| format!("var s{i}_{half} = vec4(0.0);"));
        let vectors =
            (0..sums / 4).map(|i| format!("let a{i} = left[j * (ROWS / 4u) + {}u * down + {i}u];", sums / 4));
        let vectors: String = vectors.collect::<Vec<_>>().join("\n");
        let add =
            each(&|i, half| format!("s{i}_{half} = fma(vec4(a{}[{}]), b{half}, s{i}_{half});", i / 4, i % 4));
        let store = each(&|i, half| {
            format!(
                "store(top + SUMS * down + {i}u, start + 8u * across + {}u, n, m, s{i}_{half});",
                4 * half
            )
        });
        let product = include_str!("product.wgsl")
            .replace("SUMS_AT_ZERO", &zero)
            .replace("ADD_PRODUCTS", &format!("{vectors}\n{add}"))
            .replace("STORE_SUMS", &store);
        [sizes, weights, product].join("\n")
    }
}

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.rows, self.columns)
    }
}

/// How products are made; by default burn's, and weights decoded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Products {
    /// Tile of our own product; `None` for burn's product.
    pub tile: Option<Tile>,
    /// Rows of `x` below which stored weights are decoded in the product, and not before.
    pub fused_below: usize,
}

/// Place of the chosen tile in [`Tile::ALL`], one more than that; and rows below which decoding is in the product.
static CHOSEN: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Sets how products are made from now on, on all devices.
pub fn choose(products: Products) {
    let place = Tile::ALL.iter().position(|tile| Some(*tile) == products.tile);
    CHOSEN[0].store(place.map_or(0, |place| place + 1), Ordering::Relaxed);
    CHOSEN[1].store(products.fused_below, Ordering::Relaxed);
}

/// Returns how products are made.
pub fn chosen() -> Products {
    let place = CHOSEN[0].load(Ordering::Relaxed);
    let tile = place.checked_sub(1).and_then(|place| Tile::ALL.get(place)).copied();
    Products { tile, fused_below: CHOSEN[1].load(Ordering::Relaxed) }
}

impl Products {
    /// Returns the tile by which rows of `k` numbers are multiplied; `None` for burn's product.
    fn tile_of(self, k: usize) -> Option<Tile> {
        self.tile.filter(|_| k.is_multiple_of(VECTOR) && k > 0)
    }
}

/// Multiplies `x` `[n, k]` by the transpose of `weights` `[m, k]` in `f32`, as was chosen. Returns `[n, m]`.
pub fn multiply_decoded(x: Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
    let [_, k] = x.dims();
    match chosen().tile_of(k) {
        Some(tile) => multiply_floats(x, weights, tile),
        None => x.matmul(weights.transpose()),
    }
}

/// Multiplies `x` `[n, k]` by the transpose of `weights` `[m, k]`, as was chosen. Returns `[n, m]`.
pub fn multiply(x: Tensor<2>, weights: &StoredRows) -> Tensor<2> {
    let (chosen, [n, k]) = (chosen(), x.dims());
    match chosen.tile_of(k) {
        Some(tile) if n < chosen.fused_below => multiply_stored(x, weights, tile),
        _ => multiply_decoded(x, weights.decode()),
    }
}

/// Multiplies `x` `[n, k]` by the transpose of `weights` `[m, k]` in `f32`, with `k` a multiple of 4, by tiles of `tile`.
pub fn multiply_floats(x: Tensor<2>, weights: Tensor<2>, tile: Tile) -> Tensor<2> {
    let sizes = sizes(x.dims(), weights.dims()[0], &x.device());
    let operands = (x.into_dispatch(), weights.into_dispatch(), sizes.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Multiply>::multiply_floats(operands.0, operands.1, operands.2, tile))
}

/// Multiplies `x` `[n, k]` by the transpose of `weights` `[m, k]`, which are decoded tile by tile.
pub fn multiply_stored(x: Tensor<2>, weights: &StoredRows, tile: Tile) -> Tensor<2> {
    let [m, _] = weights.shape;
    let sizes = sizes(x.dims(), m, &x.device());
    let (x, words, sizes) = (x.into_dispatch(), weights.words.clone().into_dispatch(), sizes.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Multiply>::multiply_stored(
        x,
        words,
        sizes,
        (weights.element, m),
        tile,
    ))
}

fn sizes([n, k]: [usize; 2], m: usize, device: &Device) -> Tensor<1, Int> {
    let sizes = [n, m, k / VECTOR].map(|size| i32::try_from(size).unwrap_or(i32::MAX));
    Tensor::from_data(TensorData::new(sizes.to_vec(), [3]), device)
}

/// Backend extension that teaches burn our own products.
#[backend_extension(Cube)]
pub trait Multiply: Backend {
    /// Multiplies by weights in `f32`; `sizes` are those of the shader.
    fn multiply_floats(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        sizes: IntTensor<Self>,
        tile: Tile,
    ) -> FloatTensor<Self>;

    /// Multiplies by the words of [`StoredRows`], which are of the given element type and number of rows.
    fn multiply_stored(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        sizes: IntTensor<Self>,
        weights: (Element, usize),
        tile: Tile,
    ) -> FloatTensor<Self>;
}

impl Multiply for Cube {
    fn multiply_floats(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        sizes: IntTensor<Self>,
        tile: Tile,
    ) -> FloatTensor<Self> {
        let m = weights.meta.shape()[0];
        let weights = into_contiguous(weights);
        launch(x, weights.handle, sizes, (Element::F32, m), tile)
    }

    fn multiply_stored(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        sizes: IntTensor<Self>,
        weights: (Element, usize),
        tile: Tile,
    ) -> FloatTensor<Self> {
        launch(x, words.handle, sizes, weights, tile)
    }
}

fn launch(
    x: FloatTensor<Cube>,
    weights: Handle,
    sizes: IntTensor<Cube>,
    (element, m): (Element, usize),
    tile: Tile,
) -> FloatTensor<Cube> {
    let x = into_contiguous(x);
    let n = x.meta.shape()[0];
    let client = x.client.clone();
    let y = empty_device_contiguous_dtype(client.clone(), x.device.clone(), Shape::from([n, m]), DType::F32);
    let tiles = |size: usize, of: u32| u32::try_from(size).unwrap_or(u32::MAX).div_ceil(of).max(1);
    client.launch(
        Box::new(Kernel::Product(element, tile)),
        CubeCount::Static(tiles(m, tile.columns), tiles(n, tile.rows), 1),
        KernelArguments::new()
            .with_buffer(weights.binding())
            .with_buffer(sizes.handle.clone().binding())
            .with_buffer(x.handle.clone().binding())
            .with_buffer(y.handle.clone().binding()),
    );
    y
}
