//! Text that a model writes itself: calibration text for users who have none, on the subjects that the model
//! knows best.

use super::sample;
use crate::Result;
use crate::error::OrInternal;
use crate::forward::pass::Pass;
use crate::forward::runner::Runner;
use crate::forward::sequences::Sequences;
use crate::forward::states::{HiddenStates, sequences_per_chunk};
use crate::maths::random::number;
use crate::model::config::LayerKind;
use crate::model::layers::attention::Positions;
use crate::model::layers::mixer::Past;
use crate::protocol::events::{Stage, Unit};

/// Most bytes of the key-value caches of all layers together; one sequence is always cached.
const PAST_BYTES: usize = 256 << 20;

/// Writes `count` texts of `tokens` tokens each, or as many tokens as the context of the model `pass` has,
/// and joins the texts by empty lines. Each token is drawn with the probability that the model gives to it;
/// random numbers depend only on `seed`.
///
/// A text begins with BOS, which is left out of the result, or with any token if the model has no BOS. BOS
/// and EOS are not drawn. Each token costs a pass over all layers, for all texts whose keys and values fit in
/// 256 MiB together, so the function is meant for small models.
///
/// # Errors
/// Those of [`Sequences::padded`], [`Runner::embed`], [`Runner::ahead`],
/// [`Ahead::next`](crate::forward::runner::Ahead::next),
/// [`Runner::forward_after`], [`sample()`] and [`Observer::event`](crate::protocol::events::Observer::event).
pub async fn write_texts(pass: &Pass<'_>, count: usize, tokens: usize, seed: u64) -> Result<String> {
    let config = &pass.model.config;
    let tokens = tokens.min(config.context);
    let of_layer = |kind: &LayerKind| config.kv_heads(*kind) * config.head_width(*kind);
    let past_bytes = 8 * tokens * config.layers.iter().map(of_layer).sum::<usize>();
    // One token of each text is one chunk of the states.
    let at_once = (PAST_BYTES / past_bytes.max(1)).clamp(1, sequences_per_chunk(1));
    let mut texts = Vec::with_capacity(count);
    for first in (0..count).step_by(at_once) {
        let mut writer = Writer::begin(pass, first..count.min(first + at_once), seed);
        for place in 1..tokens {
            let detail = format!("token {place} of {tokens}, texts from {} of {count}", first + 1);
            let (done, total) = ((first * tokens + place) as u64, (count * tokens) as u64);
            pass.observer.progress(Stage::Capture, done, total, Unit::Tokens, detail).await?;
            writer.step(place).await?;
        }
        texts.extend(writer.texts());
    }
    Ok(texts.join("\n\n"))
}

/// Texts that grow together, token by token.
struct Writer<'a> {
    pass: &'a Pass<'a>,
    /// Indices of these texts among all texts.
    places: std::ops::Range<usize>,
    seed: u64,
    /// Tokens of each text so far.
    ids: Vec<Vec<u32>>,
    /// Key-value cache of each layer.
    pasts: Vec<Past>,
    /// Tokens that are never drawn.
    barred: Vec<u32>,
}

impl<'a> Writer<'a> {
    fn begin(pass: &'a Pass<'a>, places: std::ops::Range<usize>, seed: u64) -> Self {
        let config = &pass.model.config;
        let any = |place: usize| (number(seed, place as u64) % config.vocab_size.max(1) as u64) as u32;
        let ids =
            places.clone().map(|place| vec![config.bos_token_id.unwrap_or_else(|| any(place))]).collect();
        let barred = config.bos_token_id.into_iter().chain(config.eos_token_id).collect();
        Self { pass, places, seed, ids, pasts: vec![Past::default(); pass.layers.len()], barred }
    }

    /// Draws the token at position `place` of every text.
    async fn step(&mut self, place: usize) -> Result<()> {
        let Pass { model, accelerator, storage, .. } = *self.pass;
        let config = &model.config;
        let last: Vec<Vec<u32>> =
            self.ids.iter().map(|ids| ids.last().copied().into_iter().collect()).collect();
        let runner = Runner::new(model, accelerator, 1)?;
        let positions = Positions::after(config, place - 1, 1, accelerator.device())?;
        let mut states = runner.embed(&Sequences::padded(config, &last, 0)?, storage).await?;
        let mut layers = runner.ahead(&self.pass.layers, storage)?;
        for past in &mut self.pasts {
            let layer = layers.next().await?.or_internal("a layer of the model was not read")?;
            // The new tokens of all texts are one chunk.
            let mut chunks = Vec::with_capacity(1);
            let mut besides = Vec::with_capacity(1);
            for (x, beside) in states.chunks.into_iter().zip(states.beside) {
                let (x, beside) = runner.forward_after(&layer, x, beside, &positions, past).await?;
                chunks.push(x);
                besides.push(beside);
            }
            states = HiddenStates { chunks, beside: besides };
        }
        let rows: Vec<(usize, usize)> = (0..self.ids.len()).map(|text| (text, 0)).collect();
        let (seed, first) = (self.seed, self.places.start);
        let noise = |row: usize, token: u32| uniform(seed, first + row, place, token);
        let drawn = sample(self.pass, states.rows(&rows)?, &self.barred, noise).await?;
        self.ids.iter_mut().zip(drawn).for_each(|(ids, token)| ids.push(token));
        Ok(())
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        let begun = usize::from(self.pass.model.config.bos_token_id.is_some());
        self.ids.iter().map(move |ids| self.pass.model.tokenizer.decode(ids.get(begun..).unwrap_or_default()))
    }
}

/// Returns a uniform number in the open interval from 0 to 1, which depends on seed, text, place and token.
fn uniform(seed: u64, text: usize, place: usize, token: u32) -> f64 {
    let key = number(number(seed, text as u64), place as u64);
    ((number(key, token.into()) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_uniform_and_its_own_everywhere() {
        let n = 4000;
        let mean = (0..n).map(|token| uniform(1, 2, 3, token)).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let all = [
            uniform(1, 2, 3, 4),
            uniform(2, 2, 3, 4),
            uniform(1, 3, 3, 4),
            uniform(1, 2, 4, 4),
            uniform(1, 2, 3, 5),
        ];
        assert!(all.iter().enumerate().all(|(i, a)| all.iter().skip(i + 1).all(|b| a != b)));
        assert!((0..n).all(|token| (1e-17..1.0).contains(&uniform(9, 9, 9, token))));
    }
}
