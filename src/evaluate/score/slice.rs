//! What a slice of logits says about each token, reduced where the logits are.

use burn::tensor::{Int, Tensor, TensorData};

use crate::device::Accelerator;
use crate::forward::states::to_host;
use crate::kernels::rowwise::{self, RowSoftmax};
use crate::kernels::threads;
use crate::model::layers::head::HeadSlice;
use crate::{Error, Result};

/// The original's logits of a slice, in memory.
pub struct HostReference {
    logits: Vec<f32>,
    /// Of each row, places within the slice.
    softmax: Vec<RowSoftmax>,
}

impl HostReference {
    /// Takes `[n_rows, width]` logits from the tensor and reduces each row.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the tensor has another shape.
    pub fn new(z: Tensor<2>, n_rows: usize, width: usize) -> Result<Self> {
        let logits = rows_of(z, n_rows, width)?;
        let softmax = threads::map_rows(n_rows, |i| rowwise::row_softmax(row(&logits, i, width)));
        Ok(Self { logits, softmax })
    }
}

/// What a slice of logits says about one token.
pub struct Row {
    /// What the model's logits say; the place is one of the vocabulary.
    pub own: RowSoftmax,
    /// The logit of the token that follows, if it is in the slice.
    pub target: Option<f32>,
    /// What the original's logits of the slice say.
    pub reference: Option<ReferenceRow>,
}

/// What a slice of the original's logits says about one token.
pub struct ReferenceRow {
    /// As [`Row::own`].
    pub softmax: RowSoftmax,
    /// As [`Row::target`].
    pub target: Option<f32>,
    /// `sum_v exp(z_v - max z) (z_v - y_v)`.
    pub divergence: f32,
}

/// Reduces logits in memory, one pass over each row.
///
/// # Errors
/// [`Error::Internal`] if the tensors have other shapes.
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

/// The numbers of a tensor `[n_rows, width]` of the CPU.
fn rows_of(x: Tensor<2>, n_rows: usize, width: usize) -> Result<Vec<f32>> {
    let values = rowwise::host(x)?;
    if values.len() != n_rows * width {
        return Err(Error::internal(format!("{} logits are not {n_rows} rows of {width}", values.len())));
    }
    Ok(values)
}

/// Row `i`, which [`rows_of`] has seen to be there.
fn row(values: &[f32], i: usize, width: usize) -> &[f32] {
    values.get(i * width..(i + 1) * width).unwrap_or_default()
}

/// Reduces logits on the device and reads back a few numbers for each row.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
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

/// Where the `i`-th target is in the slice.
fn place_in(slice: &HeadSlice, targets: &[u32], i: usize) -> Option<usize> {
    let target = *targets.get(i)? as usize;
    target.checked_sub(slice.first).filter(|place| *place < slice.count)
}

/// Maximum, `sum exp(x - max)` and the place of the maximum of each row, as columns.
fn softmax_columns(x: &Tensor<2>) -> [Tensor<2>; 3] {
    let max = x.clone().max_dim(1);
    let sum = (x.clone() - max.clone()).exp().sum_dim(1);
    // A slice has far fewer than 2^24 rows, so that its places are exact in f32.
    let argmax = x.clone().argmax(1).float();
    [max, sum, argmax]
}
