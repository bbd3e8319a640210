//! Types that each group of matrices can have, with the bytes that they take and the errors that they make.

use crate::Result;
use crate::error::OrInternal;
use crate::format::blocks::BlockType;
use crate::format::element::{Element, check_finite, decode_into, encode_weighted};
use crate::format::stored::Stored;
use crate::forward::context::Context;
use crate::kernels::threads;
use crate::model::Model;
use crate::model::importances::Importances;
use crate::model::open::TensorEntry;
use crate::model::tensors::{Role, TensorId};
use crate::model::weights::fetch::read_rows;
use crate::model::weights::file_type::Place;
use crate::model::weights::part_types::Group;
use crate::model::weights::whole::Reads;
use crate::protocol::events::{Stage, Unit};

/// Types that are tried, from the smallest to the largest. Where a row is not a whole number of blocks, others take their
/// places ([`Element::fitting`]).
const TRIED: [BlockType; 12] = {
    use BlockType::*;
    [Q2K, Q3K, Iq4Xs, Iq4Nl, Q4_0, Q4K, Q4_1, Q5K, Q5_0, Q5_1, Q6K, Q8_0]
};

/// Most rows of a matrix of which the errors are computed; they lie in [`SLABS`] slabs at equal distances.
const ROWS: u64 = 128;
const SLABS: u64 = 4;

/// Most experts of a layer of which the errors are computed.
const EXPERTS: usize = 4;

/// A type that the matrices of a group can have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The type; `None` if the matrices keep theirs.
    pub kind: Option<BlockType>,
    /// Bytes of all matrices of the group in the original.
    pub bytes: u64,
    /// Sum over the matrices and their rows of `sum_j m_j (w_j - v_j)^2`, where `v` are the stored weights and `m` the
    /// importances of the columns: the mean square of what storing changes of the products. 0 for matrices that are kept.
    pub error: f64,
}

/// A group of matrices and the types that it can have, in ascending order of bytes and descending order of errors: types
/// that are larger than another one without being better are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupChoices {
    /// The group.
    pub group: Group,
    /// The types; at least one.
    pub choices: Vec<Choice>,
}

/// Finds the types that the groups of the model of `context` can have in a GGUF file. Matrices of layers are encoded by the
/// `importances` of the original, if given.
///
/// # Errors
/// Those of [`read_rows`], [`encode_weighted`] and
/// [`Observer::event`](crate::protocol::events::Observer::event).
pub async fn choices(context: &Context<'_>, importances: Option<&Importances>) -> Result<Vec<GroupChoices>> {
    let model = context.model;
    let matrices = matrices(model);
    let mut found: Vec<GroupChoices> = Vec::new();
    for (place, (group, of_group)) in matrices.iter().enumerate() {
        let (done, total) = (place as u64, matrices.len() as u64);
        let detail = format!("errors of types, {group}");
        context.observer.progress(Stage::Plan, done, total, Unit::Parts, detail).await?;
        let kinds = kinds(of_group);
        let mut errors = vec![0.0; kinds.len()];
        for entry in of_group.iter().filter(|entry| is_sampled(model, entry.id)) {
            let of_entry = errors_of(model, entry, &kinds, importances).await?;
            errors.iter_mut().zip(of_entry).for_each(|(sum, error)| *sum += error);
        }
        let kept = Choice { kind: None, bytes: of_group.iter().map(|entry| entry.bytes).sum(), error: 0.0 };
        let quantised = kinds.iter().zip(errors).map(|(kind, error)| Choice {
            kind: Some(*kind),
            bytes: of_group.iter().map(|entry| stored_bytes(entry, *kind)).sum(),
            error,
        });
        let choices = worth(quantised.chain([kept]).collect());
        found.push(GroupChoices { group: *group, choices });
    }
    Ok(found)
}

/// Returns the bytes of the groups of `model` in the smallest type that each can have in a GGUF file, if that is smaller
/// than what they take now.
pub fn smallest(model: &Model) -> Vec<(Group, Option<BlockType>)> {
    let of_group = |(group, entries): &(Group, Vec<&TensorEntry>)| {
        let size = |kind: &BlockType| entries.iter().map(|entry| stored_bytes(entry, *kind)).sum::<u64>();
        let now: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let least = kinds(entries).into_iter().min_by_key(size).filter(|kind| size(kind) < now);
        (*group, least)
    };
    matrices(model).iter().map(of_group).collect()
}

/// Lists the matrices of `model` that a file type may change, by group.
fn matrices(model: &Model) -> Vec<(Group, Vec<&TensorEntry>)> {
    let places = Place::of_all(&model.config, &model.config.layers);
    let is_stale = |id: TensorId| id == TensorId::Head && model.config.tied_head;
    let is_matrix = |entry: &&TensorEntry| {
        let small = entry.id.role().is_some_and(|role| role.is_small() || role == Role::InputProjection);
        entry.id.shape(&model.config).len() == 2 && !small && !is_stale(entry.id)
    };
    let mut groups: Vec<(Group, Vec<&TensorEntry>)> = Group::all().map(|group| (group, Vec::new())).collect();
    for entry in model.tensors().iter().filter(is_matrix) {
        let place = entry.id.layer().and_then(|layer| places.get(layer)).copied().unwrap_or_default();
        let own = Group::of(&model.config, entry.id, place);
        if let Some((_, entries)) = groups.iter_mut().find(|(group, _)| *group == own) {
            entries.push(entry);
        }
    }
    groups.retain(|(_, entries)| !entries.is_empty());
    groups
}

/// Returns those of [`TRIED`] that are stored differently in `entries`, and in blocks.
fn kinds(entries: &[&TensorEntry]) -> Vec<BlockType> {
    let mut seen: Vec<Vec<Element>> = Vec::new();
    let mut kinds = Vec::new();
    for kind in TRIED {
        let elements: Vec<Element> = entries.iter().map(|entry| stored(entry, kind)).collect();
        let in_blocks = elements.iter().all(|element| matches!(element, Element::Block(_)));
        if in_blocks && !seen.contains(&elements) {
            seen.push(elements);
            kinds.push(kind);
        }
    }
    kinds
}

fn stored(entry: &TensorEntry, kind: BlockType) -> Element {
    Element::Block(kind).fitting(entry.shape.last().copied().unwrap_or(1))
}

fn stored_bytes(entry: &TensorEntry, kind: BlockType) -> u64 {
    stored(entry, kind).bytes(entry.values()).unwrap_or(u64::MAX)
}

/// Whether the errors of the matrix `id` are computed, or those of its neighbours stand for them.
fn is_sampled(model: &Model, id: TensorId) -> bool {
    let count = model.config.experts.map_or(1, |experts| experts.count);
    match id {
        TensorId::Expert(_, expert, _) => expert.is_multiple_of(count.div_ceil(EXPERTS).max(1)),
        _ => true,
    }
}

/// Returns the error of the matrix of `entry` in each of `kinds`, with what it stands for.
async fn errors_of(
    model: &Model,
    entry: &TensorEntry,
    kinds: &[BlockType],
    importances: Option<&Importances>,
) -> Result<Vec<f64>> {
    let columns = entry.shape.last().map_or(1, |n| *n as usize).max(1);
    let rows = entry.shape.first().copied().unwrap_or(1);
    let mut values = Vec::new();
    if rows <= ROWS || entry.turns.is_some() {
        let bytes = Reads::default().start(model, entry)?.await?;
        check_finite(&entry.name, entry.element, &bytes)?;
        let read = Stored { element: entry.element, bytes };
        let count = read.len() / columns;
        let step = count.div_ceil(ROWS as usize).max(1);
        for row in (0..count).step_by(step) {
            values.extend_from_slice(&read.rows(row, 1, columns)?);
        }
    } else {
        for slab in 0..SLABS {
            let first = slab * (rows - ROWS / SLABS) / (SLABS - 1);
            values.extend(read_rows(model, entry.id, first, ROWS / SLABS).await?.to_f32()?);
        }
    }
    let sampled = values.len() / columns;
    let experts = model.config.experts.map_or(1, |experts| experts.count);
    let stands_for = match entry.id {
        TensorId::Expert(..) => experts as f64 / experts.div_ceil(experts.div_ceil(EXPERTS).max(1)) as f64,
        _ => 1.0,
    };
    let factor = stands_for * rows as f64 / sampled.max(1) as f64;
    let means = match (entry.id, importances) {
        (TensorId::Layer(layer, role), Some(all)) => all.means(layer, role, None),
        (TensorId::Expert(layer, expert, role), Some(all)) => all.means(layer, role, Some(expert)),
        _ => None,
    };
    let means = means.map(|means| model.form(entry.id).columns_written(means)).transpose()?;
    let elements: Vec<Element> = kinds.iter().map(|kind| stored(entry, *kind)).collect();
    let errors = threads::map(&elements, |element| error(*element, &values, columns, means.as_deref()));
    errors.into_iter().map(|error| error.map(|error| factor * error)).collect()
}

/// Returns `sum_j m_j (w_j - v_j)^2`, summed over the rows of `values`, for weights stored as `element`.
fn error(element: Element, values: &[f32], columns: usize, means: Option<&[f32]>) -> Result<f64> {
    let bytes = encode_weighted(element, values, means)?;
    let mut stored = vec![0.0; values.len()];
    decode_into(element, &bytes, &mut stored)?;
    let ones = vec![1.0; columns];
    let means = means.unwrap_or(&ones);
    if means.len() != columns {
        return None.or_internal("importances are of other columns");
    }
    let rows = values.chunks(columns).zip(stored.chunks(columns));
    Ok(rows
        .map(|(values, stored)| {
            let squares = values.iter().zip(stored).zip(means);
            squares.map(|((w, v), m)| f64::from(*m) * f64::from(w - v).powi(2)).sum::<f64>()
        })
        .sum())
}

/// Sorts `choices` by bytes, and leaves out those than which another is no larger and no worse.
fn worth(mut choices: Vec<Choice>) -> Vec<Choice> {
    choices.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
    let mut least = f64::INFINITY;
    choices.retain(|choice| {
        let better = choice.error < least;
        least = least.min(choice.error);
        better
    });
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_and_no_better_is_left_out() {
        let choice = |bytes, error| Choice { kind: None, bytes, error };
        let all = vec![
            choice(9, 0.0),
            choice(4, 2.0),
            choice(5, 2.0),
            choice(6, 1.0),
            choice(4, 3.0),
            choice(8, 1.5),
        ];
        assert_eq!(worth(all), [choice(4, 2.0), choice(6, 1.0), choice(9, 0.0)]);
    }

    #[test]
    fn an_error_is_the_mean_square_of_what_storing_changes_of_a_product() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37) % 19) as f32 / 7.0 - 1.2).collect();
        let element = Element::Block(BlockType::Q4_0);
        let plain = error(element, &values, 32, None).unwrap();
        let mut stored = vec![0.0; 64];
        decode_into(element, &encode_weighted(element, &values, None).unwrap(), &mut stored).unwrap();
        let naive: f64 = values.iter().zip(&stored).map(|(w, v)| f64::from(w - v).powi(2)).sum();
        assert!(plain > 0.0 && (plain - naive).abs() < 1e-9);
        // A column that nothing comes to does not count.
        let mut means = vec![1.0; 32];
        means[..31].fill(0.0);
        let last = error(element, &values, 32, Some(&means)).unwrap();
        assert!(last < plain / 8.0, "{last} {plain}");
        assert!(error(element, &values, 32, Some(&means[1..])).is_err());
    }
}
