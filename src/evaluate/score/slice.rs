//! Reduction of a slice of logits to a few numbers for each token, on the device that holds the logits.

use burn::tensor::{Int, Tensor, TensorData};

use crate::device::Accelerator;
use crate::forward::states::to_host;
use crate::kernels::rowwise::{self, RowSoftmax};
use crate::kernels::threads;
use crate::model::layers::head::HeadSlice;
use crate::{Error, Result};

/// Logits of the original for one slice of the vocabulary, in this process's memory.
pub struct HostReference {
    /// Row-major `[n_rows, width]`.
    logits: Vec<f32>,
    /// Softmax of each row, with indices within the slice.
    softmax: Vec<RowSoftmax>,
}

impl HostReference {
    /// Takes the logits `[n_rows, width]` from the tensor and reduces each row.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the tensor has another number of values, or is not
    /// `f32`.
    pub fn new(z: Tensor<2>, n_rows: usize, width: usize) -> Result<Self> {
        let logits = rows_of(z, n_rows, width)?;
        let softmax = threads::map_rows(n_rows, |i| rowwise::row_softmax(row(&logits, i, width)));
        Ok(Self { logits, softmax })
    }
}

/// Sums of one token over a slice of the vocabulary.
pub struct Row {
    /// Softmax of the model's logits; `argmax` is an index in the vocabulary.
    pub own: RowSoftmax,
    /// Model's logit of the target token, if the slice holds it.
    pub target: Option<f32>,
    /// Sums of the original's logits, if there is an original.
    pub reference: Option<ReferenceRow>,
}

/// Sums of one token over a slice of the vocabulary, for the original's logits.
pub struct ReferenceRow {
    /// Softmax of the original's logits; `argmax` is an index in the vocabulary.
    pub softmax: RowSoftmax,
    /// Original's logit of the target token, if the slice holds it.
    pub target: Option<f32>,
    /// `sum_v exp(z_v - max z) (z_v - y_v)` for logits `z` of the original and `y` of the model.
    pub divergence: f32,
}

/// Reduces the logits `y` `[targets.len(), slice.count]`, and the original's in `reference`, row by row in
/// this process's memory.
///
/// # Errors
/// [`Error::Internal`] if a tensor has another number of values, or is not `f32`.
pub fn rows_on_host(
    y: Tensor<2>,
    reference: Option<&HostReference>,
    targets: &[u32],
    slice: &HeadSlice,
) -> Result<Vec<Row>> {
    let y = rows_of(y, targets.len(), slice.count)?;
    if reference.is_some_and(|r| r.logits.len() != y.len()) {
        return Err(Error::internal("two models' logits of a slice differ in number"));
    }
    Ok(threads::map_rows(targets.len(), |i| {
        let logits = row(&y, i, slice.count);
        let in_slice = |softmax: RowSoftmax| RowSoftmax { argmax: slice.first + softmax.argmax, ..softmax };
        let target = |row: &[f32]| place_in(slice, targets, i).and_then(|place| row.get(place)).copied();
        let of_reference = reference.and_then(|r| Some((row(&r.logits, i, slice.count), r.softmax.get(i)?)));
        Row {
            own: in_slice(rowwise::row_softmax(logits)),
            target: target(logits),
            reference: of_reference.map(|(z, softmax)| ReferenceRow {
                softmax: in_slice(*softmax),
                target: target(z),
                divergence: rowwise::row_divergence(z, logits, softmax.max),
            }),
        }
    }))
}

/// Returns the values of a CPU tensor `[n_rows, width]`.
fn rows_of(x: Tensor<2>, n_rows: usize, width: usize) -> Result<Vec<f32>> {
    let values = rowwise::host(x)?;
    if values.len() != n_rows * width {
        return Err(Error::internal(format!("{} logits are not {n_rows} rows of {width}", values.len())));
    }
    Ok(values)
}

/// Returns row `i`; [`rows_of`] has checked that it exists.
fn row(values: &[f32], i: usize, width: usize) -> &[f32] {
    values.get(i * width..(i + 1) * width).unwrap_or_default()
}

/// Reduces the logits `y` and, of the original, `z`, both `[targets.len(), slice.count]`, on the device and
/// copies a few numbers for each row to the host.
///
/// # Errors
/// Those of [`to_host`].
pub async fn rows_on_device(
    y: Tensor<2>,
    z: Option<Tensor<2>>,
    targets: &[u32],
    slice: &HeadSlice,
    accelerator: &Accelerator,
) -> Result<Vec<Row>> {
    let places: Vec<Option<usize>> = (0..targets.len()).map(|i| place_in(slice, targets, i)).collect();
    let local: Vec<i32> = places.iter().map(|place| place.unwrap_or(0) as i32).collect();
    let shape = [local.len(), 1];
    let local = Tensor::<2, Int>::from_data(TensorData::new(local, shape), accelerator.device());
    let mut columns = vec![y.clone().gather(1, local.clone())];
    columns.extend(softmax_columns(&y));
    if let Some(z) = z.clone() {
        let [max, sum, argmax] = softmax_columns(&z);
        let weights = (z.clone() - max.clone()).exp();
        let divergence = (weights * (z.clone() - y)).sum_dim(1);
        columns.extend([z.gather(1, local), max, sum, argmax, divergence]);
    }
    let width = columns.len();
    let sums = to_host(Tensor::cat(columns, 1), "while scoring").await?;
    let rows = sums.chunks_exact(width).zip(places).map(|(sums, place)| {
        let value = |i: usize| sums.get(i).copied().unwrap_or(f32::NAN);
        let softmax = |i: usize| RowSoftmax {
            max: value(i),
            sum: value(i + 1),
            argmax: slice.first + value(i + 2) as usize,
        };
        Row {
            own: softmax(1),
            target: place.map(|_| value(0)),
            reference: z.is_some().then(|| ReferenceRow {
                softmax: softmax(5),
                target: place.map(|_| value(4)),
                divergence: value(8),
            }),
        }
    });
    Ok(rows.collect())
}

/// Returns the index of target `i` within the slice, if the slice holds this token.
fn place_in(slice: &HeadSlice, targets: &[u32], i: usize) -> Option<usize> {
    let target = *targets.get(i)? as usize;
    target.checked_sub(slice.first).filter(|place| *place < slice.count)
}

/// Returns the maximum, `sum exp(x - max)` and the index of the maximum of each row, as columns `[n, 1]`.
fn softmax_columns(x: &Tensor<2>) -> [Tensor<2>; 3] {
    let max = x.clone().max_dim(1);
    let sum = (x.clone() - max.clone()).exp().sum_dim(1);
    // A slice has far fewer than 2^24 rows, so the indices of its rows are exact in `f32`.
    let argmax = x.clone().argmax(1).float();
    [max, sum, argmax]
}
