//! Tensors of a layer, taken out by role and uploaded.

use super::convolution::Convolution;
use super::delta_net::DeltaNet;
use super::experts::Experts;
use super::heads::{Attention, HeadWeights, Keys};
use super::input::LayerInput;
use super::linear::Linear;
use super::mamba::Mamba;
use super::mixer::Mixing;
use super::mlp::{Mlp, mlp_rows};
use super::norm::Norm;
use super::record::{Record, Watch};
use super::short_convolution::ShortConvolution;
use crate::device::Accelerator;
use crate::error::OrInternal;
use crate::format::stored::Stored;
use crate::model::Config;
use crate::model::architectures::{HeadNorms, Scaling};
use crate::model::config::{ExpertSizes, LayerKind, Mixer};
use crate::model::tensors::Role;
use crate::model::weights::fetch::InputSource;
use crate::model::weights::new_experts::NewExperts;
use crate::model::weights::storage::LayerStorage;
use crate::{Error, Result};

/// Tensors of a layer, which are taken out by role and uploaded.
pub(super) struct TensorsByRole<'a> {
    pub(super) config: &'a Config,
    /// What tells the layer apart.
    pub(super) kind: LayerKind,
    pub(super) tensors: Vec<(Role, Stored)>,
    /// Roles of the matrices of which what they multiply is rounded to 8 bits.
    pub(super) rounds_inputs: &'a [Role],
    pub(super) accelerator: &'a Accelerator,
    /// Where what the products read is recorded, if it is.
    pub(super) record: Option<Record>,
}

impl TensorsByRole<'_> {
    fn take(&mut self, role: Role) -> Option<Stored> {
        let place = self.tensors.iter().position(|(r, _)| *r == role)?;
        Some(self.tensors.swap_remove(place).1)
    }

    fn require(&mut self, role: Role) -> Result<Stored> {
        let expected: usize = role.shape(self.config, self.kind).iter().product();
        match self.take(role) {
            Some(stored) if stored.len() == expected => Ok(stored),
            Some(stored) => Err(Error::Shape(format!(
                "a layer's {role:?} has {} elements, but the configuration demands {expected}",
                stored.len()
            ))),
            None => Err(Error::Shape(format!("a layer has no {role:?} tensor"))),
        }
    }

    pub(super) fn norm(&mut self, role: Role) -> Result<Norm> {
        let weight = self.values(role)?;
        Ok(self.norm_of(weight))
    }

    /// Takes out the mixer and its output projection. `keys_are_read` says whether later layers read its keys and values.
    pub(super) fn mixer(&mut self, keys_are_read: bool) -> Result<(Mixing, Linear)> {
        let kind = self.kind;
        let mixer = match kind.mixer {
            Mixer::Attention => Mixing::Attention(Box::new(self.attention(kind, keys_are_read)?)),
            Mixer::Mamba => Mixing::Mamba(Box::new(self.mamba()?)),
            Mixer::ShortConvolution => Mixing::ShortConvolution(Box::new(self.short_convolution()?)),
            Mixer::DeltaNet => Mixing::DeltaNet(Box::new(self.delta_net()?)),
        };
        let output = Role::output_of(kind.mixer);
        let output = match kind.mixer {
            Mixer::Attention => self.linear(output, Role::OutputBias)?,
            _ => self.projection(output)?,
        };
        Ok((mixer, output))
    }

    fn attention(&mut self, kind: LayerKind, are_read: bool) -> Result<Attention> {
        let config = self.config;
        Ok(Attention {
            n_heads: config.n_heads,
            n_kv_heads: config.kv_heads(kind),
            head_dim: config.head_width(kind),
            kind,
            head_norms: self.head_norms()?,
            value_norm: (config.architecture.head_norms == HeadNorms::EachAndValues)
                .then(|| self.norm_of(vec![1.0; config.head_width(kind)])),
            gated: config.architecture.gated_heads,
            score_scale: config.score_scale(),
            score_cap: config.scales.score_cap,
            sinks: if config.architecture.sinks { self.values(Role::Sinks)? } else { Vec::new() },
            query: self.linear(Role::Query, Role::QueryBias)?,
            keys: match kind.shares_keys {
                true => Keys::Shared,
                false => Keys::Own {
                    key: Box::new(self.linear(Role::Key, Role::KeyBias)?),
                    value: match config.full_heads(kind) {
                        Some(heads) if heads.keys_are_values => None,
                        _ => Some(Box::new(self.linear(Role::Value, Role::ValueBias)?)),
                    },
                    are_read,
                },
            },
        })
    }

    /// Takes out what belongs to the input that the layer has of its own.
    pub(super) fn input(&mut self, source: InputSource) -> Result<LayerInput> {
        let InputSource { mix, element, norm } = source;
        Ok(LayerInput {
            activation: self.config.architecture.activation,
            projection: self.projection(Role::InputProjection)?,
            norm: self.norm_of(norm),
            gate: self.projection(Role::InputGate)?,
            output: self.projection(Role::InputOutput)?,
            after: self.norm(Role::InputAfterNorm)?,
            mix,
            element,
        })
    }

    /// Takes out the number by which the stream after the layer is multiplied; 1 where layers have none.
    pub(super) fn output_scale(&mut self) -> Result<f64> {
        if self.config.architecture.scaling != Scaling::Layers {
            return Ok(1.0);
        }
        let scale = self.values(Role::LayerScale)?;
        scale.first().copied().map(f64::from).or_internal("a layer has no scale")
    }

    /// Takes out the MLP.
    pub(super) fn mlp(&mut self) -> Result<Mlp> {
        Ok(Mlp::new(
            self.config.architecture.activation,
            self.linear(Role::Gate, Role::GateBias)?,
            self.linear(Role::Up, Role::UpBias)?,
            self.linear(Role::Down, Role::DownBias)?,
            mlp_rows(self.kind.mlp_width, self.accelerator.max_binding_bytes()),
        ))
    }

    fn norm_of(&self, weight: Vec<f32>) -> Norm {
        Norm::new(self.config.architecture.norm, weight, self.config.norm_epsilon, self.accelerator.device())
    }

    fn head_norms(&mut self) -> Result<HeadWeights> {
        Ok(match self.config.architecture.head_norms {
            HeadNorms::None => HeadWeights::None,
            HeadNorms::Each | HeadNorms::EachAndValues if self.kind.shares_keys => {
                HeadWeights::Queries(self.norm(Role::QueryNorm)?)
            }
            HeadNorms::Each | HeadNorms::EachAndValues => {
                HeadWeights::Each([self.norm(Role::QueryNorm)?, self.norm(Role::KeyNorm)?])
            }
            HeadNorms::All => HeadWeights::All([self.norm(Role::QueryNorm)?, self.norm(Role::KeyNorm)?]),
            HeadNorms::EachRotated => {
                let (queries, keys) = (self.values(Role::QueryNorm)?, self.values(Role::KeyNorm)?);
                let ones = || self.norm_of(vec![1.0; queries.len()]);
                let weights = queries.iter().zip(&keys).map(|(query, key)| query * key).collect();
                HeadWeights::EachRotated([ones(), ones()], weights)
            }
        })
    }

    /// Takes out the router and the expert that serves every token. The other experts are `made_of` those of the original,
    /// stored as `stored` says.
    pub(super) fn experts(&mut self, made_of: NewExperts, stored: LayerStorage) -> Result<Experts> {
        let sizes = self.config.experts.or_internal("a layer has experts, but the model has none")?;
        let sizes = ExpertSizes { count: made_of.count(), ..sizes };
        let activation = self.config.architecture.activation;
        let rows = self.take(Role::Router).or_internal("a layer with experts has no router")?;
        let bias = self.take(Role::RouterBias).map(|bias| bias.to_f32()).transpose()?;
        let (hidden, most) = (self.config.hidden_size, self.accelerator.max_binding_bytes());
        if rows.len() != sizes.count * hidden || bias.as_ref().is_some_and(|bias| bias.len() != sizes.count) {
            return Err(Error::internal(format!(
                "{} experts have a router of {} numbers with a bias of {}",
                sizes.count,
                rows.len(),
                bias.map_or(0, |bias| bias.len())
            )));
        }
        let router = Linear::new(rows, sizes.count, hidden, bias, most, self.accelerator.device())?;
        let router = router.watched(self.watch(Role::Router));
        let shared = match sizes.shared_width {
            Some(width) => Some((
                Mlp::new(
                    activation,
                    self.projection(Role::SharedGate)?,
                    self.projection(Role::SharedUp)?,
                    self.projection(Role::SharedDown)?,
                    mlp_rows(width, self.accelerator.max_binding_bytes()),
                ),
                self.projection(Role::SharedRouter)?,
            )),
            None => None,
        };
        let record = self.record.clone();
        Ok(Experts { made_of, stored, sizes, activation, router, shared, record })
    }

    fn mamba(&mut self) -> Result<Mamba> {
        let sizes = self.config.mamba.or_internal("a layer has a Mamba mixer, but the model has none")?;
        Ok(Mamba {
            sizes,
            input: self.projection(Role::MambaInput)?,
            convolution: Convolution {
                weight: self.values(Role::MambaConvolution)?,
                bias: self.values(Role::MambaConvolutionBias)?,
                channels: sizes.channels,
                taps: sizes.taps,
                activated: true,
            },
            selection: self.projection(Role::MambaSelection)?,
            norms: [
                self.norm(Role::MambaStepNorm)?,
                self.norm(Role::MambaBNorm)?,
                self.norm(Role::MambaCNorm)?,
            ],
            step: self.linear(Role::MambaStep, Role::MambaStepBias)?,
            decay: self.values(Role::MambaDecay)?,
            past: self.values(Role::MambaPast)?,
        })
    }

    fn short_convolution(&mut self) -> Result<ShortConvolution> {
        let taps = self.config.short_convolution;
        let taps = taps.or_internal("a layer has a short convolution, but the model has none")?;
        Ok(ShortConvolution {
            input: self.projection(Role::ConvolutionInput)?,
            convolution: Convolution {
                weight: self.values(Role::ConvolutionTaps)?,
                bias: Vec::new(),
                channels: self.config.hidden_size,
                taps,
                activated: false,
            },
        })
    }

    fn delta_net(&mut self) -> Result<DeltaNet> {
        let sizes = self.config.delta_net.or_internal("a layer has a delta net, but the model has none")?;
        Ok(DeltaNet {
            sizes,
            input: self.projection(Role::DeltaInput)?,
            convolution: Convolution {
                weight: self.values(Role::DeltaConvolution)?,
                bias: Vec::new(),
                channels: sizes.convolved(),
                taps: sizes.taps,
                activated: true,
            },
            gate: self.projection(Role::DeltaGate)?,
            rate: self.projection(Role::DeltaRate)?,
            step: self.linear(Role::DeltaStep, Role::DeltaStepBias)?,
            decay: self.values(Role::DeltaDecay)?,
            norm: self.norm(Role::DeltaNorm)?,
        })
    }

    /// Takes out a tensor that is not multiplied by, in `f32`.
    fn values(&mut self, role: Role) -> Result<Vec<f32>> {
        self.require(role)?.to_f32()
    }

    fn projection(&mut self, weight: Role) -> Result<Linear> {
        self.matrix(weight, None)
    }

    fn linear(&mut self, weight: Role, bias: Role) -> Result<Linear> {
        let mut values = self.take(bias).map(|bias| bias.to_f32()).transpose()?;
        if matches!(bias, Role::OutputBias | Role::DownBias) {
            let scale = self.config.scales.residual as f32;
            values.iter_mut().flatten().for_each(|value| *value *= scale);
        }
        self.matrix(weight, values)
    }

    fn matrix(&mut self, weight: Role, bias: Option<Vec<f32>>) -> Result<Linear> {
        let shape = weight.shape(self.config, self.kind);
        let [n_out, n_in] = shape[..] else {
            return Err(Error::Shape(format!("{weight:?} is not a matrix")));
        };
        let values = self.require(weight)?;
        let most = self.accelerator.max_binding_bytes();
        let linear = Linear::new(values, n_out, n_in, bias, most, self.accelerator.device())?;
        Ok(linear.watched(self.watch(weight)).rounding_inputs(self.rounds_inputs.contains(&weight)))
    }

    /// Returns where what the product with the matrix of `role` reads is recorded, if it is. What the projections that
    /// add to the stream read is scaled as residuals are.
    fn watch(&self, role: Role) -> Option<Watch> {
        // The projection to the inputs of all layers is no tensor of a layer in files.
        if role == Role::InputProjection {
            return None;
        }
        let scale = match role == Role::Down || role == Role::output_of(self.kind.mixer) {
            true => self.config.scales.residual,
            false => 1.0,
        };
        let factor = 1.0 / (scale * scale);
        self.record.clone().map(|record| Watch { record, role, expert: None, factor })
    }
}
