//! Linear projections, whose weights are in this process's memory or on a GPU.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::record::Watch;
use crate::device::Accelerator;
use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::kernels::backward;
#[cfg(feature = "gpu")]
use crate::kernels::gpu::{StoredRows, product};
use crate::kernels::product::{host_tile_bytes, products};
use crate::kernels::rowwise;
use crate::{Error, Result};

/// A linear projection `x W^T + b` with the weight `W` `[n_out, n_in]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    n_out: usize,
    bias: Option<Tensor<2>>,
    /// Whether what the projection reads is rounded to 8 bits, each row by itself.
    rounds_inputs: bool,
    /// Where what the projection reads is recorded, if it is.
    watch: Option<Watch>,
}

#[derive(Debug, Clone)]
enum Weight {
    /// In this process's memory, encoded as it is stored.
    Host(Arc<Stored>),
    /// On a GPU, cut into pieces of rows.
    Device(Vec<Rows>),
}

/// Some rows of a weight on a GPU.
#[derive(Debug, Clone)]
enum Rows {
    /// Encoded as they are stored; decoded for each product.
    #[cfg(feature = "gpu")]
    Stored(StoredRows),
    /// Decoded to `f32`, `[out_i, in]`.
    Decoded(Tensor<2>),
}

impl Rows {
    /// Uploads the rows `first .. first + count` of `n_in` values, as they are stored where a shader decodes them.
    fn upload(weight: &Stored, first: usize, [count, n_in]: [usize; 2], device: &Device) -> Result<Self> {
        #[cfg(feature = "gpu")]
        {
            let bytes = weight.row_bytes(first, count, n_in)?;
            if let Some(rows) = StoredRows::upload(weight.element, bytes, [count, n_in], device) {
                return Ok(Rows::Stored(rows));
            }
        }
        let rows = weight.rows(first, count, n_in)?.into_owned();
        let rows = Tensor::<2>::from_data(TensorData::new(rows, [count, n_in]), device);
        Ok(Rows::Decoded(rows))
    }

    /// Computes the product of `x` `[n, in]` with these rows, `[n, out_i]`.
    #[cfg(feature = "gpu")]
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Rows::Stored(rows) => product::multiply(x, rows),
            Rows::Decoded(rows) => product::multiply_decoded(x, rows.clone()),
        }
    }

    #[cfg(not(feature = "gpu"))]
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let Rows::Decoded(rows) = self;
        x.matmul(rows.clone().transpose())
    }

    /// Returns these rows in `f32`, `[out_i, in]`.
    fn decoded(&self) -> Tensor<2> {
        match self {
            #[cfg(feature = "gpu")]
            Rows::Stored(rows) => rows.decode(),
            Rows::Decoded(rows) => rows.clone(),
        }
    }
}

/// Most bytes of decoded rows that exist at a time on a GPU.
const DECODED_BYTES: u64 = 64 << 20;

/// Returns the most bytes of decoded rows that exist at a time on the device of `accelerator`.
pub fn decoded_bytes(accelerator: &Accelerator) -> u64 {
    if rowwise::is_host(accelerator.device()) { host_tile_bytes() } else { DECODED_BYTES }
}

impl Linear {
    /// Uploads the row-major `weight` `[n_out, n_in]` and the `bias` `[n_out]` to a GPU, in pieces of rows
    /// that decode to at most `max_bytes` bytes. On the CPU the weight stays as it is stored.
    ///
    /// # Errors
    /// [`Error::Shape`] on a GPU if `weight` has fewer than `n_out` rows of `n_in` values; on the CPU,
    /// [`forward`](Self::forward) reports this error.
    pub fn new(
        weight: Stored,
        n_out: usize,
        n_in: usize,
        bias: Option<Vec<f32>>,
        max_bytes: u64,
        device: &Device,
    ) -> Result<Self> {
        let weight = if rowwise::is_host(device) {
            Weight::Host(Arc::new(weight))
        } else {
            let piece_bytes = max_bytes.min(DECODED_BYTES);
            let max_rows =
                usize::try_from(piece_bytes / (4 * n_in.max(1) as u64)).unwrap_or(usize::MAX).max(1);
            let pieces = (0..n_out)
                .step_by(max_rows)
                .map(|first| Rows::upload(&weight, first, [max_rows.min(n_out - first), n_in], device));
            Weight::Device(pieces.collect::<Result<_>>()?)
        };
        let bias = bias.map(|b| Tensor::from_data(TensorData::new(b, [1, n_out]), device));
        Ok(Self { weight, n_out, bias, rounds_inputs: false, watch: None })
    }

    /// Sets where what the projection reads is recorded, if it is.
    #[must_use]
    pub fn watched(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Sets whether what the projection reads is rounded to 8 bits ([`rowwise::rounded_to_bytes`]). It is recorded as it was
    /// before.
    #[must_use]
    pub fn rounding_inputs(self, rounds_inputs: bool) -> Self {
        Self { rounds_inputs, ..self }
    }

    /// Returns the bias `[1, n_out]`, which is added to every row.
    pub fn bias(&self) -> Option<&Tensor<2>> {
        self.bias.as_ref()
    }

    /// Computes `x W^T + b` `[n, n_out]` from `x` `[n, n_in]`.
    ///
    /// # Errors
    /// Those of [`forward_all`](Self::forward_all).
    pub fn forward(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let [y] = Self::forward_all([self], x)?;
        Ok(y)
    }

    /// Applies several projections to the same `x` `[n, n_in]`, which is prepared for the products once.
    ///
    /// # Errors
    /// [`Error::Internal`] if some weights are in this process's memory and others on a GPU; those of
    /// [`products`], [`rowwise::host`] and [`Watch::saw`].
    pub fn forward_all<const N: usize>(linears: [&Self; N], x: Tensor<2>) -> Result<[Tensor<2>; N]> {
        let round = linears.iter().filter(|linear| linear.rounds_inputs).count();
        if round > 0 && round < N {
            let results =
                linears.iter().map(|linear| linear.forward(x.clone())).collect::<Result<Vec<_>>>()?;
            return results.try_into().map_err(|_| Error::internal("a product is missing"));
        }
        Watch::saw(linears.iter().filter_map(|linear| linear.watch.as_ref()), &x)?;
        Self::products_of(linears, if round > 0 { rowwise::rounded_to_bytes(x)? } else { x })
    }

    /// Computes the gradient `[n, n_in]` of what the projection reads from the gradient `dy` `[n, n_out]` of what it writes. An
    /// input that is rounded is taken to be passed on as it is (Bengio, Léonard and Courville, "Estimating or propagating
    /// gradients through stochastic neurons for conditional computation", 2013).
    ///
    /// # Errors
    /// Those of [`backward::product::of_input`] and [`rowwise::host`].
    pub fn backward(&self, dy: Tensor<2>) -> Result<Tensor<2>> {
        let [n, n_out] = dy.dims();
        match &self.weight {
            Weight::Host(stored) => {
                let device = dy.device();
                let n_in = stored.len() / n_out.max(1);
                let dx = backward::product::of_input(&rowwise::host(dy)?, stored, [n_out, n_in])?;
                Ok(Tensor::from_data(TensorData::new(dx, [n, n_in]), &device))
            }
            Weight::Device(pieces) => {
                let (mut first, mut sum): (usize, Option<Tensor<2>>) = (0, None);
                for rows in pieces {
                    let rows = rows.decoded();
                    let [count, _] = rows.dims();
                    let part = dy.clone().narrow(1, first, count).matmul(rows);
                    first += count;
                    sum = Some(match sum {
                        Some(sum) => sum + part,
                        None => part,
                    });
                }
                sum.or_internal("a weight on the device has no rows")
            }
        }
    }

    /// Computes the gradient by the weight of a projection, `[n_out, n_in]`, from what it reads, `x` `[n, n_in]`, and the
    /// gradient `dy` `[n, n_out]` of what it writes.
    ///
    /// # Errors
    /// Those of [`rowwise::host`].
    pub fn weight_gradient(x: Tensor<2>, dy: Tensor<2>) -> Result<Tensor<2>> {
        let (device, [_, n_in], [_, n_out]) = (x.device(), x.dims(), dy.dims());
        if !rowwise::is_host(&device) {
            return Ok(dy.transpose().matmul(x));
        }
        let dw = backward::product::of_weight(&rowwise::host(dy)?, &rowwise::host(x)?, [n_out, n_in]);
        Ok(Tensor::from_data(TensorData::new(dw, [n_out, n_in]), &device))
    }

    /// Computes the products of several projections with the same `x`, as it is.
    fn products_of<const N: usize>(linears: [&Self; N], x: Tensor<2>) -> Result<[Tensor<2>; N]> {
        let [n, n_in] = x.dims();
        let mut hosted: Vec<(&Stored, usize)> = Vec::with_capacity(N);
        let mut results = Vec::with_capacity(N);
        for linear in linears {
            match &linear.weight {
                Weight::Host(stored) => hosted.push((stored.as_ref(), linear.n_out)),
                Weight::Device(pieces) => results.push(on_device(pieces, &x)?),
            }
        }
        if !hosted.is_empty() {
            if !results.is_empty() {
                return Err(Error::internal("weights of one product are on several devices"));
            }
            let device = x.device();
            for (y, linear) in products(&rowwise::host(x)?, n_in, &hosted)?.into_iter().zip(linears) {
                results.push(Tensor::from_data(TensorData::new(y, [n, linear.n_out]), &device));
            }
        }
        let biased = results.into_iter().zip(linears).map(|(y, linear)| match &linear.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        });
        let results: Vec<Tensor<2>> = biased.collect();
        results.try_into().map_err(|_| Error::internal("a product is missing"))
    }
}

/// Computes `x W^T` `[n, n_out]` from `x` `[n, n_in]`, with the rows of `W` in `pieces` on the device of `x`.
fn on_device(pieces: &[Rows], x: &Tensor<2>) -> Result<Tensor<2>> {
    let mut products: Vec<Tensor<2>> = pieces.iter().map(|rows| rows.product(x.clone())).collect();
    match products.len() {
        1 => products.pop().or_internal("a product is missing"),
        0 => Err(Error::internal("a weight on the device has no rows")),
        _ => Ok(Tensor::cat(products, 1)),
    }
}
