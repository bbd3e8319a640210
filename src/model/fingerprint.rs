//! A fingerprint that tells models apart without reading them whole.

use super::Model;
use super::open::TensorEntry;
use super::tensors::TensorId;
use crate::Result;
use crate::files::source::read_checked;

/// Bytes that are sampled of a tensor.
const SAMPLE_BYTES: u64 = 256;

/// Samples that are read at the same time.
const READS: usize = 8;

/// Computes a 64-bit hash of the model's settings, of the names, element types, shapes and positions of its
/// tensors, and of some bytes from the middle of every tensor.
///
/// The names of the files do not matter: two files of the same weights have the same fingerprint. Models that
/// differ in any tensor, as a fine-tuned model does from its base, have different fingerprints, unless they
/// agree in all sampled bytes.
///
/// # Errors
/// Those of [`read_checked`].
pub async fn fingerprint(model: &Model) -> Result<u64> {
    let mut hash = Fnv::default();
    let config = &model.config;
    hash.text(&format!(
        "{:?} {} {} {} {} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        model.container(),
        config.architecture_name(),
        config.n_layers,
        config.n_heads,
        config.n_kv_heads,
        config.head_dim,
        config.norm_epsilon,
        config.ropes,
        config.layers,
        config.tied_head,
        config.rotated_width,
        config.query_growth,
        config.experts,
        config.scales,
        config.bos_token_id,
    ));
    if let Some(heads) = config.full_heads {
        hash.text(&format!("{heads:?}"));
    }
    for tensor in model.tensors() {
        hash.text(&format!(
            "{} {:?} {:?} {} {}",
            tensor.name, tensor.element, tensor.shape, tensor.shard, tensor.offset
        ));
    }
    // A fine-tune may have changed one kind of tensor only, such as the query projections.
    // Of many experts, the first of each layer stands for all.
    let is_sampled =
        |tensor: &&TensorEntry| !matches!(tensor.id, TensorId::Expert(_, expert, _) if expert > 0);
    let sampled: Vec<&TensorEntry> = model.tensors().iter().filter(is_sampled).collect();
    for group in sampled.chunks(READS) {
        // All reads of a group are in progress at the same time.
        let reads: Vec<_> = group
            .iter()
            .filter_map(|tensor| {
                let bytes = tensor.bytes_in_place();
                let length = SAMPLE_BYTES.min(bytes);
                let offset = tensor.offset + (bytes - length) / 2;
                Some(read_checked(model.shards.get(tensor.shard)?.as_ref(), offset, length))
            })
            .collect();
        for bytes in futures::future::join_all(reads).await {
            hash.bytes(&bytes?);
        }
    }
    Ok(hash.value())
}

/// State of the 64-bit hash of Fowler, Noll and Vo, variant 1a (FNV-1a). The hash tells things apart; it is
/// not cryptographic.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes to the hash.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a text to the hash, followed by a zero byte that marks its end.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
    }

    /// Returns the hash of everything that was added.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        let of = |text: &str| {
            let mut hash = Fnv::default();
            hash.bytes(text.as_bytes());
            hash.value()
        };
        assert_eq!(of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
    }
}
