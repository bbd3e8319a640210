//! Use of the experts of a model by the tokens of a text, recorded while the layers run.

use std::cell::RefCell;

use burn::tensor::Tensor;

use super::states::to_host;
use crate::Result;
use crate::model::Config;
use crate::model::config::FeedForward;
use crate::model::layers::experts::Routed;

/// Use of one expert.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Used {
    /// Number of tokens that were routed to the expert.
    pub tokens: u64,
    /// Sum of the gates of these tokens.
    pub gates: f64,
    /// Sum over these tokens of gate times L2 norm of what the expert makes of the token.
    pub written: f64,
}

impl Used {
    /// Returns the mean over the tokens that were routed to the expert of gate times L2 norm of its output; 0 if there
    /// were none. This is the saliency of REAP (arXiv 2510.13999).
    pub fn saliency(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.written / self.tokens as f64 }
    }
}

/// Use of the experts of all layers: for each layer of the original, one record for each expert. Layers without experts
/// have no records.
pub type ExpertUse = Vec<Vec<Used>>;

/// Record of the use of experts, which a pass through the unchanged layers of a model fills.
#[derive(Debug, Default)]
pub struct ExpertWatch(RefCell<ExpertUse>);

impl ExpertWatch {
    /// Records that the original's layer `layer` with `count` experts was run. `seen` holds, for each expert and chunk
    /// of tokens, the number of the expert, the tokens that were routed to it, and the L2 norms `[n]` of its outputs.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub async fn record(
        &self,
        layer: usize,
        count: usize,
        seen: Vec<(usize, &Routed, Tensor<1>)>,
    ) -> Result<()> {
        let mut used = vec![Used::default(); count];
        if !seen.is_empty() {
            let norms = Tensor::cat(seen.iter().map(|(.., norms)| norms.clone()).collect(), 0);
            let mut norms = to_host(norms, "while experts were watched").await?.into_iter();
            for (e, routed, _) in seen {
                let Some(used) = used.get_mut(e) else { continue };
                used.tokens += routed.gates.len() as u64;
                for (gate, norm) in routed.gates.iter().map(|gate| f64::from(*gate)).zip(&mut norms) {
                    used.gates += gate;
                    used.written += gate * f64::from(norm);
                }
            }
        }
        let mut layers = self.0.borrow_mut();
        if layers.len() <= layer {
            layers.resize(layer + 1, Vec::new());
        }
        if let Some(slot) = layers.get_mut(layer) {
            *slot = used;
        }
        Ok(())
    }

    /// Returns the use of the experts of a model with the configuration `config`; `None` if some layer with experts was
    /// not run.
    pub fn finish(self, config: &Config) -> Option<ExpertUse> {
        let mut layers = self.0.into_inner();
        layers.resize(config.n_layers, Vec::new());
        let has_experts = config.layers.iter().map(|kind| kind.feed_forward == FeedForward::Experts);
        has_experts.zip(&layers).all(|(has, used)| has != used.is_empty()).then_some(layers)
    }
}
