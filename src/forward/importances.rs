//! Importances of the columns of matrices, collected in a pass through the layers of a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::Context;
use super::runner::Runner;
use super::states::to_host;
use crate::Result;
use crate::error::OrInternal;
use crate::model::importances::{Importances, LayerImportances, RoleImportances};
use crate::model::layers::record::{Read, Record, Squares, check_finite};
use crate::model::tensors::{OF_EXPERTS, Role};
use crate::model::weights::new_layer::NewLayer;
use crate::protocol::events::{Stage, Unit};

/// Runs the sequences of `context` through the model of `layers`, as its storage says, and collects what every product of a
/// layer reads.
///
/// # Errors
/// [`Error::Numeric`](crate::Error::Numeric) if what a product reads is not finite; those of [`Runner::embed`],
/// [`Runner::ahead`], [`Runner::forward`] and
/// [`Observer::event`](crate::protocol::events::Observer::event), and
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub async fn collect(context: &Context<'_>, layers: &[NewLayer]) -> Result<Importances> {
    let Context { model, accelerator, sequences, storage, observer, .. } = *context;
    let record = Record::default();
    let runner = Runner::new(model, accelerator, sequences.tokens())?.recording(record.clone());
    let mut states = runner.embed(sequences, context.storage).await?;
    let mut ahead = runner.ahead(layers, storage)?;
    let mut collected = Vec::with_capacity(layers.len());
    let total = layers.len() as u64;
    for (place, layer) in layers.iter().enumerate() {
        let detail = format!("importances, layer {} of {total}", place + 1);
        observer.progress(Stage::Plan, place as u64, total, Unit::Layers, detail).await?;
        let uploaded = ahead.next().await?.or_internal("a layer of the model was not read")?;
        states = runner.forward(&uploaded, &states).await?;
        let experts = layer.all_experts(&model.config)?.count();
        collected.push(Arc::new(recorded(&record, experts).await?));
    }
    observer.progress(Stage::Plan, total, total, Unit::Layers, format!("{total} layers")).await?;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Importances {
        layers: collected,
        datasets: Vec::new(),
        sequences: count(sequences.count()),
        tokens: count(sequences.tokens()),
    })
}

/// Sums of one role: the number of columns, and for each matrix the sums of squares and the number of rows.
struct Sums {
    width: usize,
    sums: Vec<f64>,
    counts: Vec<u64>,
    of_experts: bool,
}

/// Takes what the products of a layer with `experts` experts read out of `record`, and adds it up.
///
/// # Errors
/// [`Error::Numeric`](crate::Error::Numeric) if it is not finite, [`Error::Device`](crate::Error::Device) if the device
/// fails, and [`Error::Internal`](crate::Error::Internal) if the layer has fewer experts.
pub async fn recorded(record: &Record, experts: usize) -> Result<LayerImportances> {
    let mut all: BTreeMap<Role, Sums> = BTreeMap::new();
    for Read { role, expert, rows, factor, squares } in record.take() {
        let squares = match squares {
            Squares::Host(squares) => squares,
            Squares::Device(squares) => {
                let squares = to_host(*squares, "while importances were collected").await?;
                Arc::new(squares.into_iter().map(f64::from).collect())
            }
        };
        check_finite(role, &squares)?;
        let width = squares.len();
        let of_experts = OF_EXPERTS.contains(&role) && expert.is_some();
        let matrices = if of_experts { experts } else { 1 };
        let own = all.entry(role).or_insert_with(|| Sums {
            width,
            sums: vec![0.0; matrices * width],
            counts: vec![0; matrices],
            of_experts,
        });
        let matrix = expert.unwrap_or(0);
        let sums = own.sums.get_mut(matrix * width..(matrix + 1) * width);
        let (sums, count) = sums.zip(own.counts.get_mut(matrix)).or_internal("an expert is of no layer")?;
        *count += rows;
        sums.iter_mut().zip(squares.iter()).for_each(|(sum, more)| *sum += factor * more);
    }
    let mut columns = BTreeMap::new();
    for (role, Sums { width, sums, counts, of_experts }) in all {
        let sums = sums.into_iter().map(|sum| sum as f32).collect();
        let counts = counts.into_iter().map(|count| count as f32).collect();
        columns.insert(role, RoleImportances::new(width, sums, counts, of_experts)?);
    }
    Ok(LayerImportances::new(columns))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use futures::executor::block_on;

    use super::*;
    use crate::model::layers::record::Watch;

    /// What a GPU sums, and what the CPU sums, is added up by role and expert, and scaled back.
    #[test]
    fn sums_of_both_kinds_of_devices_are_added_up() {
        let record = Record::default();
        let watch = |role, expert, factor| Watch { record: record.clone(), role, expert, factor };
        let x = Tensor::<2>::from_data(TensorData::new(vec![1f32, 2.0, 3.0, -4.0], [2, 2]), &Device::flex());
        let on_host = Squares::of(&x).unwrap();
        assert!(matches!(&on_host, Squares::Host(sums) if **sums == [10.0, 20.0]));
        let on_device = Squares::Device(Box::new(x.square().sum_dim(0)));
        watch(Role::Output, None, 0.25).add(2, on_host.clone());
        watch(Role::Output, None, 0.25).add(2, on_device.clone());
        watch(Role::Down, Some(2), 1.0).add(2, on_device);
        let found = block_on(recorded(&record, 3)).unwrap();
        let output = found.of(Role::Output).unwrap();
        assert_eq!((output.matrices(), output.sums(0)), (1, Some(([5.0, 10.0].as_slice(), 4.0))));
        assert_eq!(output.means(0), Some([1.25, 2.5].as_slice()));
        let down = found.of(Role::Down).unwrap();
        assert_eq!(down.sums(1), Some(([0.0, 0.0].as_slice(), 0.0)), "no token came");
        assert_eq!(down.means(1), Some([1.0, 1.0].as_slice()));
        assert_eq!(down.sums(2), Some(([10.0, 20.0].as_slice(), 2.0)));
        assert!(record.take().is_empty());
        watch(Role::Down, Some(3), 1.0).add(2, on_host);
        assert!(block_on(recorded(&record, 3)).is_err(), "there are three experts");
        let nan = Tensor::<2>::from_data(TensorData::new(vec![1.0, f32::NAN], [1, 2]), &Device::flex());
        watch(Role::Query, None, 1.0).add(1, Squares::of(&nan).unwrap());
        let error = block_on(recorded(&record, 0)).unwrap_err();
        assert!(error.to_string().contains("column 1 of what the Query projection"), "{error}");
    }
}
