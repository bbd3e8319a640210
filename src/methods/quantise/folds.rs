//! What gives the matrices of a layer what they read, where its columns can be scaled: a norm, whose weights are divided,
//! or the rows of a matrix before.

use super::Walk;
use super::inputs::Inputs;
use crate::Result;
use crate::error::OrInternal;
use crate::model::Config;
use crate::model::architectures::{HeadNorms, Norms};
use crate::model::config::{LayerKind, Mixer};
use crate::model::tensors::{Role, TensorId};
use crate::model::weights::fetch::read_new;
use crate::model::weights::new_layer::NewLayer;

/// What gives some matrices what they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A norm, which nothing else reads.
    Norm(Role),
    /// The rows of a matrix, and its bias.
    Rows(Role, Role),
}

/// Factors of the columns and of the rows of matrices of a layer.
#[derive(Debug, Default)]
pub struct Scales {
    columns: Vec<(Role, Vec<f32>)>,
    rows: Vec<(Role, Vec<f32>)>,
}

impl Scales {
    /// Returns the factors of the columns of the matrix of `role`, ones if it has none.
    pub fn of_columns(&self, role: Role, columns: usize) -> Vec<f32> {
        let found = self.columns.iter().find(|(each, _)| *each == role);
        found.map_or_else(|| vec![1.0; columns], |(_, scales)| scales.clone())
    }

    /// Multiplies `weights`, rows from `first` on of the matrix of `role`, by the factors of its rows.
    pub fn scale_rows(&self, role: Role, first: usize, columns: usize, weights: &mut [f32]) {
        let Some((_, scales)) = self.rows.iter().find(|(each, _)| *each == role) else { return };
        for (row, scale) in weights.chunks_mut(columns.max(1)).zip(scales.iter().skip(first)) {
            row.iter_mut().for_each(|w| *w *= scale);
        }
    }
}

/// Lists what the matrices of a layer of the kind `kind` read as [`Inputs::of`] does, each with what gives it, if its columns
/// can be scaled. Where attention and the MLP read the same norm, their matrices are one entry. Entries that are given by
/// rows of a matrix come first, so that the factors of its rows are known when it is rounded.
pub fn sources(config: &Config, kind: LayerKind) -> Vec<(Inputs, Option<Source>)> {
    let architecture = config.architecture;
    let shared = architecture.norms == Norms::Shared;
    let mut all: Vec<(Inputs, Option<Source>)> = Vec::new();
    for inputs in Inputs::of(config, kind) {
        let has = |role: Role| inputs.roles.contains(&role);
        // Router and experts read the same norm as what else reads it.
        let mlp_alone = !Inputs::has_experts(kind);
        let source = if has(Role::Query) {
            let alone = kind.mixer == Mixer::Attention && (!shared || mlp_alone);
            (architecture.norms_before() && alone).then_some(Source::Norm(Role::AttentionNorm))
        } else if has(Role::Gate) {
            let norm = if shared { Role::AttentionNorm } else { Role::MlpNorm };
            (architecture.norms_before() && mlp_alone).then_some(Source::Norm(norm))
        } else if has(Role::Down) {
            Some(Source::Rows(Role::Up, Role::UpBias))
        } else if has(Role::Output) {
            let values = Role::Value.shape(config, kind).first().copied();
            let is_own = Role::required(config, kind).contains(&Role::Value)
                && architecture.head_norms != HeadNorms::EachAndValues
                && values == Some(inputs.columns);
            is_own.then_some(Source::Rows(Role::Value, Role::ValueBias))
        } else {
            None
        };
        let is_same = |(_, other): &&mut (Inputs, Option<Source>)| {
            matches!(source, Some(Source::Norm(_))) && *other == source
        };
        match all.iter_mut().find(is_same) {
            Some((other, _)) => other.roles.extend(inputs.roles),
            None => all.push((inputs, source)),
        }
    }
    all.sort_by_key(|(_, source)| !matches!(source, Some(Source::Rows(..))));
    all
}

impl Walk<'_> {
    /// Divides what `source` gives by `scales`, and adds to `factors` what makes up for it in the matrices of `roles`, which
    /// read it. Returns the layer with its new norm or bias.
    ///
    /// A norm is stored in the type that it has. What its rounded weights divide by is what columns are multiplied by, so
    /// that nothing but the rounding of the matrices changes.
    pub(super) async fn fold(
        &self,
        layer: NewLayer,
        source: Source,
        roles: &[Role],
        scales: Vec<f32>,
        factors: &mut Scales,
    ) -> Result<NewLayer> {
        let model = self.context.model;
        let kind = self.config().kind(layer.mix().survivor()?)?;
        match source {
            Source::Norm(norm) => {
                let old = self.values(&layer, norm).await?;
                let divided = old.iter().zip(&scales).map(|(w, s)| w / s).collect();
                let layer = self.replacing(layer, norm, divided)?;
                let new = layer.replaced(norm).or_internal("a norm was not replaced")?.read().await?;
                let new = model.form(TensorId::Layer(0, norm)).read(new)?.to_f32()?;
                let made_up = |(old, new): (&f32, &f32)| {
                    let factor = old / new;
                    if factor.is_finite() && factor != 0.0 { factor } else { 1.0 }
                };
                let made_up: Vec<f32> = old.iter().zip(&new).map(made_up).collect();
                factors.columns.extend(roles.iter().map(|role| (*role, made_up.clone())));
                Ok(layer)
            }
            Source::Rows(matrix, bias) => {
                let inverse: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
                let layer = match Role::required(self.config(), kind).contains(&bias) {
                    true => {
                        let old = self.values(&layer, bias).await?;
                        self.replacing(layer, bias, old.iter().zip(&inverse).map(|(b, s)| b * s).collect())?
                    }
                    false => layer,
                };
                factors.rows.push((matrix, inverse));
                factors.columns.extend(roles.iter().map(|role| (*role, scales.clone())));
                Ok(layer)
            }
        }
    }

    fn replacing(&self, layer: NewLayer, role: Role, values: Vec<f32>) -> Result<NewLayer> {
        let parts: Vec<usize> = layer.mix().parts().iter().map(|(layer, _)| *layer).collect();
        let storage = self.context.storage.before_rounding();
        layer.replacing(self.context.model, &parts, storage, vec![(role, values)])
    }

    /// Reads a norm or a bias as the arithmetic reads it.
    async fn values(&self, layer: &NewLayer, role: Role) -> Result<Vec<f32>> {
        let Self { context, .. } = self;
        let element = layer.element(context.model, role, context.storage.before_rounding())?;
        let stored = read_new(context.model, layer, role, element).await?;
        context.model.form(TensorId::Layer(0, role)).read(stored)?.to_f32()
    }
}
