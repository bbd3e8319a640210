//! The divergence of the new model's next-word distribution from the original's, and its gradient.
//!
//! Of the original's distribution `p` the likeliest words are known, and how likely the rest is together, `r`. With the new
//! model's distribution `q`, and `s` for how likely that takes the rest: `L = sum p log(p / q) + r log(r / s)` over the known
//! words. That is at most the divergence of the whole distributions. By the logits, the gradient is `q - p` of the known words,
//! and `q (1 - r / s)` of the rest. It is computed slice by slice of the head.

use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};

use super::teacher::Distributions;
use crate::error::OrInternal;
use crate::evaluate::score::Softmax;
use crate::forward::context::Context;
use crate::forward::states::to_host;
use crate::kernels::backward::rowwise::scaled_softmax;
use crate::kernels::rowwise::row_softmax;
use crate::kernels::threads;
use crate::model::layers::head::{Head, HeadSlice};
use crate::model::weights::storage::Storage;
use crate::{Error, Result};

/// Most bytes of logits that are kept from the first pass over the head to the second; beyond, they are computed again.
const KEPT_LOGITS: usize = 256 << 20;

/// Least probability of the rest.
const LEAST_REST: f64 = 1e-7;

/// The head, all of its slices on the device.
pub struct HeadSlices<'a> {
    head: Head<'a>,
    slices: Vec<HeadSlice>,
}

impl<'a> HeadSlices<'a> {
    /// Reads the head of the model of `context` as `storage` stores it, for `n_rows` rows at a time.
    ///
    /// # Errors
    /// Those of [`Head::open`], [`Head::fetch`] and [`Head::upload`].
    pub async fn open(context: &Context<'a>, storage: Storage, n_rows: usize) -> Result<Self> {
        let head = Head::open(context.model, storage, context.accelerator, n_rows).await?;
        let mut slices: Vec<HeadSlice> = Vec::new();
        let mut first = 0;
        while let Some(fetched) = head.fetch(first)? {
            let slice = head.upload(fetched).await?;
            first = slice.first + slice.count;
            slices.push(slice);
        }
        Ok(Self { head, slices })
    }

    /// Applies the final norm to states `[n, hidden]`.
    ///
    /// # Errors
    /// Those of [`Head::normalise`].
    pub fn normalise(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        self.head.normalise(states)
    }

    /// Returns the slices.
    pub fn all(&self) -> &[HeadSlice] {
        &self.slices
    }
}

/// What is known of a row after the first pass.
struct Row {
    log_sum: f64,
    /// Factor of the probabilities of words that are not known: `1 - r / s`.
    rest: f64,
    loss: f64,
}

/// Computes the mean divergence, in nats per token, of the model that leaves `states` `[n, hidden]` after its last layer from
/// the distributions `aims` of consecutive sequences, and its gradient by the states `[n, hidden]`.
///
/// # Errors
/// [`Error::Internal`] if there are not as many distributions as states; those of [`HeadSlice::logits`],
/// [`HeadSlice::backward`] and [`Head::normalise_backward`], and [`Error::Device`] if the device fails.
pub async fn distance(
    slices: &HeadSlices<'_>,
    states: Tensor<2>,
    aims: &[Rc<Distributions>],
) -> Result<(f64, Tensor<2>)> {
    let [n, hidden] = states.dims();
    let device = states.device();
    let of_row: Vec<(&[u32], &[f32])> = aims
        .iter()
        .flat_map(|aim| (0..aim.words.len() / aim.kept.max(1)).map(|place| aim.of_token(place)))
        .collect();
    if of_row.len() != n {
        return Err(Error::internal(format!("{n} states have {} distributions", of_row.len())));
    }
    let rows = slices.normalise(states.clone())?;
    let keeps = 4 * n * slices.head.n_rows() <= KEPT_LOGITS;
    let mut kept = Vec::new();
    let mut running = vec![Softmax::default(); n];
    let mut known: Vec<Vec<f32>> = of_row.iter().map(|(words, _)| Vec::with_capacity(words.len())).collect();
    for slice in &slices.slices {
        let logits = to_host(slice.logits(rows.clone())?, "while healing").await?;
        let width = slice.count;
        let found = threads::map_rows(n, |row| {
            let logits = row_of(&logits, row, width);
            let softmax = row_softmax(logits);
            let own = words_in(of_row.get(row).map_or(&[][..], |(words, _)| words), slice);
            let of_words =
                own.iter().map(|word| logits.get(*word as usize - slice.first).copied().unwrap_or(f32::NAN));
            (softmax, of_words.collect::<Vec<f32>>())
        });
        for ((running, known), (softmax, of_words)) in running.iter_mut().zip(&mut known).zip(found) {
            running.absorb(&softmax);
            known.extend(of_words);
        }
        if keeps {
            kept.push(logits);
        }
    }
    let vocabulary = slices.head.n_rows();
    let found: Vec<Row> = running
        .iter()
        .zip(&known)
        .zip(&of_row)
        .map(|((running, logits), (words, p))| row_loss(running, logits, p, words.len() < vocabulary))
        .collect();
    let loss = found.iter().map(|row| row.loss).sum::<f64>() / n.max(1) as f64;
    let mut d_rows: Option<Tensor<2>> = None;
    let mut kept = kept.into_iter();
    for slice in &slices.slices {
        let width = slice.count;
        let logits = match kept.next() {
            Some(logits) => logits,
            None => to_host(slice.logits(rows.clone())?, "while healing").await?,
        };
        let capped = slice.cap().map(|_| logits.clone());
        let mut d = logits;
        let share = 1.0 / n.max(1) as f64;
        threads::for_pieces(d.chunks_mut(width.max(1)).enumerate(), |(row, d)| {
            let (Some(found), Some((words, p))) = (found.get(row), of_row.get(row)) else { return };
            let own = words_in(words, slice);
            let skipped = words.partition_point(|word| (*word as usize) < slice.first);
            let before: Vec<f64> = own
                .iter()
                .map(|word| {
                    d.get(*word as usize - slice.first).map_or(0.0, |z| (f64::from(*z) - found.log_sum).exp())
                })
                .collect();
            scaled_softmax(d, found.log_sum as f32, (found.rest * share) as f32);
            for ((word, q), p) in own.iter().zip(before).zip(p.iter().skip(skipped)) {
                if let Some(d) = d.get_mut(*word as usize - slice.first) {
                    *d = ((q - f64::from(*p)) * share) as f32;
                }
            }
        });
        let tensor = |values| Tensor::<2>::from_data(TensorData::new(values, [n, width]), &device);
        let part = slice.backward(tensor(d), capped.map(tensor))?;
        d_rows = Some(match d_rows {
            Some(sum) => sum + part,
            None => part,
        });
    }
    let d_rows = d_rows.or_internal("the head has no rows")?;
    debug_assert_eq!(d_rows.dims(), [n, hidden]);
    Ok((loss, slices.head.normalise_backward(states, d_rows)?))
}

fn row_of(logits: &[f32], row: usize, width: usize) -> &[f32] {
    logits.get(row * width..(row + 1) * width).unwrap_or_default()
}

/// Returns those of the ascending `words` that are of a slice.
fn words_in<'w>(words: &'w [u32], slice: &HeadSlice) -> &'w [u32] {
    let start = words.partition_point(|word| (*word as usize) < slice.first);
    let end = words.partition_point(|word| (*word as usize) < slice.first + slice.count);
    words.get(start..end).unwrap_or_default()
}

/// Computes the divergence of a row from the `logits` of the known words, whose probabilities are `p`. `has_rest` says whether
/// there are other words.
fn row_loss(running: &Softmax, logits: &[f32], p: &[f32], has_rest: bool) -> Row {
    let log_sum = running.log_sum();
    let (mut loss, mut of_p, mut of_q) = (0.0, 0.0, 0.0);
    for (z, p) in logits.iter().zip(p) {
        let (log_q, p) = (f64::from(*z) - log_sum, f64::from(*p));
        if p > 0.0 {
            loss += p * (p.ln() - log_q);
        }
        of_p += p;
        of_q += log_q.exp();
    }
    if !has_rest {
        return Row { log_sum, rest: 0.0, loss };
    }
    let (r, s) = ((1.0 - of_p).max(LEAST_REST), (1.0 - of_q).max(LEAST_REST));
    Row { log_sum, rest: 1.0 - r / s, loss: loss + r * (r / s).ln() }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::demo;
    use crate::device::Accelerator;
    use crate::forward::sequences::Sequences;
    use crate::kernels::backward::differences::{assert_close, gradient, noise, single};
    use crate::protocol::events::Silent;

    /// The demo's head, in `f64`: states to logits.
    struct Naive {
        norm: Vec<f64>,
        rows: Vec<f64>,
        epsilon: f64,
    }

    impl Naive {
        fn loss(&self, states: &[f64], aims: &[(Vec<u32>, Vec<f32>)]) -> f64 {
            let hidden = self.norm.len();
            let of_row = |(state, (words, p)): (&[f64], &(Vec<u32>, Vec<f32>))| {
                let scale =
                    1.0 / (state.iter().map(|x| x * x).sum::<f64>() / hidden as f64 + self.epsilon).sqrt();
                let logits: Vec<f64> = self
                    .rows
                    .chunks(hidden)
                    .map(|row| {
                        row.iter().zip(state).zip(&self.norm).map(|((w, x), n)| w * x * n * scale).sum()
                    })
                    .collect();
                let sum: f64 = logits.iter().map(|z| z.exp()).sum();
                let q = |word: &u32| logits[*word as usize].exp() / sum;
                let (of_p, of_q): (f64, f64) =
                    (p.iter().map(|p| f64::from(*p)).sum(), words.iter().map(q).sum());
                let known: f64 =
                    words.iter().zip(p).map(|(w, p)| f64::from(*p) * (f64::from(*p) / q(w)).ln()).sum();
                known + (1.0 - of_p) * ((1.0 - of_p) / (1.0 - of_q)).ln()
            };
            states.chunks(hidden).zip(aims).map(of_row).sum::<f64>() / aims.len() as f64
        }
    }

    #[test]
    fn divergence_and_gradient_are_those_of_the_naive_sums() {
        let model = block_on(demo::open()).unwrap();
        let accelerator = Accelerator::cpu("a test");
        let sequences = Sequences::cut(&model.config, &(0..40).collect::<Vec<u32>>(), 1, 8).unwrap();
        let context = Context::new(&model, &accelerator, &sequences, &Silent);
        // More rows at a time make smaller slices.
        let slices = block_on(HeadSlices::open(&context, context.storage, 1 << 16)).unwrap();
        let (hidden, vocabulary) = (model.config.hidden_size, model.config.vocab_size);
        assert!(slices.slices.len() > 2, "{} slices", slices.slices.len());
        let n = 3;
        let kept = 20;
        let states: Vec<f64> = noise(n * hidden, 31).iter().map(|x| 2.0 * x).collect();
        let aims: Vec<(Vec<u32>, Vec<f32>)> = (0..n)
            .map(|row| {
                let words: Vec<u32> =
                    (0..kept).map(|i| ((i * (vocabulary / kept - 1)) + row) as u32).collect();
                let weights: Vec<f32> = (0..kept).map(|i| 1.0 + ((i * 7 + row) % 5) as f32).collect();
                let sum: f32 = weights.iter().sum();
                (words, weights.iter().map(|w| 0.9 * w / sum).collect())
            })
            .collect();
        let all = Rc::new(Distributions {
            words: aims.iter().flat_map(|(words, _)| words.clone()).collect(),
            probabilities: aims.iter().flat_map(|(_, p)| p.clone()).collect(),
            kept,
        });
        let ids: Vec<u32> = (0..vocabulary as u32).collect();
        let rows = block_on(slices.head.rows_of(&ids)).unwrap();
        let ones =
            Tensor::<2>::from_data(TensorData::new(vec![1.0f32; hidden], [1, hidden]), accelerator.device());
        let norm = crate::kernels::rowwise::host(slices.normalise(ones).unwrap()).unwrap();
        let epsilon = model.config.norm_epsilon;
        let naive = Naive {
            norm: norm.iter().map(|w| f64::from(*w) * (1.0 + epsilon).sqrt()).collect(),
            rows: rows.iter().map(|w| f64::from(*w)).collect(),
            epsilon,
        };
        let tensor =
            Tensor::<2>::from_data(TensorData::new(single(&states), [n, hidden]), accelerator.device());
        let (loss, found) = block_on(distance(&slices, tensor, &[all])).unwrap();
        let exact = naive.loss(&states, &aims);
        assert!((loss - exact).abs() < 1e-5 * exact, "{loss} for {exact}");
        let found = crate::kernels::rowwise::host(found).unwrap();
        assert_close("states", &found, &gradient(&states, |x| naive.loss(x, &aims)), 1e-4);
    }

    #[test]
    fn equal_distributions_have_no_divergence() {
        let logits = [0.5f32, 1.5, -0.3];
        let sum: f64 = logits.iter().map(|z| f64::from(*z).exp()).sum();
        let p: Vec<f32> = logits.iter().map(|z| (f64::from(*z).exp() / sum) as f32).collect();
        let running = Softmax { max: 1.5, sum: sum * (-1.5f64).exp(), argmax: 1 };
        assert!(row_loss(&running, &logits, &p, false).loss.abs() < 1e-7);
        let part = row_loss(&running, &logits[..2], &p[..2], true);
        assert!(part.loss.abs() < 1e-6 && part.rest.abs() < 1e-6);
    }
}
