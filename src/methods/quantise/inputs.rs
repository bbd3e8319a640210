//! What the packed matrices of a layer read: which read the same, and what is gathered of it.

use super::Walk;
use crate::Result;
use crate::error::OrInternal;
use crate::forward::states::{HiddenStates, to_host};
use crate::maths::least_squares::Normal;
use crate::model::Config;
use crate::model::config::{FeedForward, LayerKind};
use crate::model::layers::decoder::DecoderLayer;
use crate::model::tensors::Role;

/// Packed matrices of a layer that read the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Roles of the matrices.
    pub roles: Vec<Role>,
    /// Width of what they read.
    pub columns: usize,
}

/// What was gathered of what some matrices read.
pub struct Gathered {
    /// Gram matrix of its columns; without columns if it was not asked for.
    pub gram: Option<Normal>,
    /// Sums of the magnitudes of its columns.
    pub magnitudes: Vec<f64>,
    /// Largest magnitudes of its columns.
    pub largest: Vec<f32>,
    /// Number of rows.
    pub rows: u64,
}

impl Inputs {
    /// Lists the inputs of the matrices of a layer of the kind `kind` that can be packed, experts aside.
    pub fn of(config: &Config, kind: LayerKind) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for role in Role::required(config, kind).into_iter().filter(|role| role.is_projection()) {
            let first = match role {
                Role::Key | Role::Value => Role::Query,
                Role::Up => Role::Gate,
                Role::SharedUp => Role::SharedGate,
                role => role,
            };
            let columns = role.shape(config, kind).get(1).copied().unwrap_or(0);
            match all.iter_mut().find(|inputs| inputs.roles.contains(&first)) {
                Some(inputs) => inputs.roles.push(role),
                None => all.push(Self { roles: vec![role], columns }),
            }
        }
        all
    }

    /// Returns whether layers of the kind `kind` have experts.
    pub fn has_experts(kind: LayerKind) -> bool {
        kind.feed_forward == FeedForward::Experts
    }

    /// Returns the bytes of the Gram matrix.
    pub fn gram_bytes(&self) -> u64 {
        Normal::bytes(self.columns, 0)
    }
}

/// Bytes of Gram matrices from which on no others are made at the same time, so that a layer of an 8B model and they fit in
/// 1.5 GB. Each division of the inputs takes one more pass of the text through the layer.
const AT_ONCE: u64 = 1_000_000_000;

/// Divides `inputs` into such whose Gram matrices are made at the same time, which together need at most `bytes`, and at most
/// 1 GB if there are several. Returns those that need more than `bytes` by themselves besides.
pub fn divided(inputs: Vec<Inputs>, bytes: u64) -> (Vec<Vec<Inputs>>, Vec<Inputs>) {
    let (fitting, too_wide): (Vec<Inputs>, Vec<Inputs>) =
        inputs.into_iter().partition(|each| each.gram_bytes() <= bytes);
    let mut parts: Vec<Vec<Inputs>> = Vec::new();
    let mut left = 0;
    for each in fitting {
        let needed = each.gram_bytes();
        match parts.last_mut().filter(|_| needed <= left) {
            Some(part) => {
                left -= needed;
                part.push(each);
            }
            None => {
                left = bytes.min(AT_ONCE).saturating_sub(needed);
                parts.push(vec![each]);
            }
        }
    }
    (parts, too_wide)
}

/// Returns the most bytes that the Gram matrices of a layer need at a time.
pub fn gram_bytes(inputs: &[Inputs], fit_bytes: u64) -> u64 {
    let (parts, _) = divided(inputs.to_vec(), fit_bytes);
    parts.iter().map(|part| part.iter().map(Inputs::gram_bytes).sum()).max().unwrap_or(0)
}

impl Walk<'_> {
    /// Runs `layer`, which `states` enter, chunk by chunk, and gathers what the matrices of each of `inputs` read, with its
    /// Gram matrix if `with_gram`.
    pub(super) async fn gather(
        &self,
        layer: &DecoderLayer,
        states: &HiddenStates,
        inputs: &[Inputs],
        with_gram: bool,
    ) -> Result<Vec<Gathered>> {
        let first = |inputs: &Inputs| inputs.roles.first().copied().or_internal("inputs are of no matrix");
        let firsts = inputs.iter().map(first).collect::<Result<Vec<Role>>>()?;
        let mut gathered = inputs
            .iter()
            .map(|Inputs { columns, .. }| {
                Ok(Gathered {
                    gram: with_gram.then(|| Normal::new(*columns, 0)).transpose()?,
                    magnitudes: vec![0.0; *columns],
                    largest: vec![0.0; *columns],
                    rows: 0,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.record.record_rows_of(&firsts);
        for (x, beside) in states.with_beside() {
            let chunk = HiddenStates { chunks: vec![x.clone()], beside: vec![beside.clone()] };
            self.runner.forward(layer, &chunk).await?;
            for (role, x) in self.record.take_rows() {
                let place = firsts.iter().position(|first| *first == role);
                let own =
                    place.and_then(|place| gathered.get_mut(place)).or_internal("inputs are of no matrix")?;
                own.add(&to_host(x, "while inputs were gathered").await?)?;
            }
        }
        self.record.record_rows_of(&[]);
        Ok(gathered)
    }
}

impl Gathered {
    /// Adds `rows` `[n, columns]`.
    ///
    /// # Errors
    /// Those of [`Normal::add`].
    pub fn add(&mut self, rows: &[f32]) -> Result<()> {
        let columns = self.largest.len();
        let n = rows.len() / columns.max(1);
        for row in rows.chunks_exact(columns.max(1)) {
            for ((x, sum), largest) in row.iter().zip(&mut self.magnitudes).zip(&mut self.largest) {
                *sum += f64::from(x.abs());
                *largest = largest.max(x.abs());
            }
        }
        if let Some(gram) = &mut self.gram {
            gram.add(rows, &[], &vec![1.0; n])?;
        }
        self.rows += n as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_divided_by_the_memory_of_their_gram_matrices() {
        let of = |columns| Inputs { roles: Vec::new(), columns };
        let bytes = |columns: usize| of(columns).gram_bytes();
        let all = || vec![of(10), of(20), of(15), of(40), of(5)];
        let sum = bytes(10) + bytes(20) + bytes(15) + bytes(40) + bytes(5);
        assert_eq!(divided(all(), sum), (vec![all()], Vec::new()));
        let (parts, too_wide) = divided(all(), bytes(10) + bytes(20));
        assert_eq!(parts, [vec![of(10), of(20)], vec![of(15), of(5)]]);
        assert_eq!(too_wide, [of(40)]);
        assert_eq!(divided(all(), 1), (Vec::new(), all()));
    }
}
