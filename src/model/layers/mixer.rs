//! Mixer of a layer: the part that lets tokens see those before them.

use burn::tensor::Tensor;

use super::attention::{KeysAndValues, Positions};
use super::beside::{Beside, KeyPair};
use super::delta_net::DeltaNet;
use super::heads::Attention;
use super::mamba::Mamba;
use super::short_convolution::ShortConvolution;
use crate::Result;

/// Mixer of a layer, without its output projection.
#[derive(Debug, Clone)]
pub enum Mixing {
    /// Attention.
    Attention(Box<Attention>),
    /// A state-space model.
    Mamba(Box<Mamba>),
    /// A convolution over a few tokens between two gates.
    ShortConvolution(Box<ShortConvolution>),
    /// A memory of keys and values that is corrected token by token.
    DeltaNet(Box<DeltaNet>),
}

/// What a layer remembers of the tokens so far.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// Keys and values of attention.
    attention: KeysAndValues,
    /// Memory of a mixer that goes through the tokens one after the other.
    memory: Memory,
}

/// What a mixer that goes through the tokens one after the other remembers of those so far; nothing at first.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Last inputs of the convolution, `[batch, taps - 1, channels]`.
    pub tail: Option<Tensor<3>>,
    /// States: `[batch, channels, states]` of a state-space model, `[batch * heads, key width, value width]` of a delta net.
    pub states: Option<Tensor<3>>,
}

impl Mixing {
    /// Computes what the output projection reads, `[batch * tokens, width]`, from normalised hidden states `x`
    /// `[batch * tokens, hidden]`, and the keys and values that later layers read, if they do. `beside` has those of layers
    /// before. With `past`, the tokens follow those that it is of.
    ///
    /// # Errors
    /// Those of the mixer, such as [`Attention::contexts`].
    pub fn forward(
        &self,
        x: Tensor<2>,
        [batch, tokens]: [usize; 2],
        positions: &Positions,
        beside: &Beside,
        past: Option<&mut Past>,
    ) -> Result<(Tensor<2>, Option<KeyPair>)> {
        let mixed = match self {
            Mixing::Attention(attention) => {
                let past = past.map(|past| &mut past.attention);
                return attention.contexts(x, [batch, tokens], positions, beside, past);
            }
            Mixing::Mamba(mamba) => mamba.forward(x, batch, past.map(|past| &mut past.memory)),
            Mixing::ShortConvolution(mixer) => mixer.forward(x, batch, past.map(|past| &mut past.memory)),
            Mixing::DeltaNet(mixer) => mixer.forward(x, batch, past.map(|past| &mut past.memory)),
        };
        Ok((mixed?, None))
    }
}
