//! Greedy continuation of prompts, which shows how a compressed model writes.

use crate::evaluate::predict;
use crate::forward::pass::Pass;
use crate::forward::sequences::Sequences;
use crate::protocol::events::Share;
use crate::{Error, Result};

/// Continues each of `prompts` by up to `n_tokens` tokens, each the most likely according to the model
/// `pass`, and returns the continuations without the prompts. A text ends early at EOS, or where the model's
/// context is full.
///
/// Without a key-value cache, each token costs a pass over all layers with all prompts, so the function is
/// meant for small models and short prompts.
///
/// # Errors
/// [`Error::Usage`] if a prompt has no tokens, or leaves no room in the context for another token; those of
/// [`Tokenizer::encode`](crate::model::tokenizer::Tokenizer::encode), [`Sequences::padded`], [`Pass::run`]
/// and [`predict`].
pub async fn generate(pass: &Pass<'_>, prompts: &[String], n_tokens: usize) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for prompt in prompts {
        texts.push(Continuation::begin(pass, prompt)?);
    }
    let layers = pass.layers.len();
    for index in 0..n_tokens {
        let mut open: Vec<&mut Continuation> = texts.iter_mut().filter(|text| !text.ended).collect();
        if open.is_empty() {
            break;
        }
        let ids: Vec<Vec<u32>> = open.iter().map(|text| text.ids.clone()).collect();
        let sequences = Sequences::padded(&pass.model.config, &ids, 0)?;
        let part = Share { whole: pass.observer, index, count: n_tokens, layers, name: "token" };
        let states = pass.run(&sequences, &part).await?;
        let ends: Vec<(usize, usize)> =
            ids.iter().enumerate().map(|(place, ids)| (place, ids.len().saturating_sub(1))).collect();
        // Only the most likely token is used, so the targets do not matter.
        let targets = vec![0; ends.len()];
        let said = predict(pass, states.rows(&ends)?, &targets, &part).await?;
        for (text, said) in open.iter_mut().zip(said) {
            text.push(pass, said.best);
        }
    }
    Ok(texts.iter().map(|text| text.continuation(pass)).collect())
}

/// Tokens of a prompt and of its continuation so far.
struct Continuation {
    ids: Vec<u32>,
    n_prompt: usize,
    ended: bool,
}

impl Continuation {
    fn begin(pass: &Pass<'_>, prompt: &str) -> Result<Self> {
        let config = &pass.model.config;
        let mut ids: Vec<u32> = config.bos_token_id.into_iter().collect();
        ids.extend(pass.model.tokenizer.encode(prompt)?);
        if ids.is_empty() || ids.len() >= config.context {
            return Err(Error::Usage(format!(
                "a prompt of {} tokens cannot be continued; {} takes 1 to {}",
                ids.len(),
                pass.model.name,
                config.context.saturating_sub(1)
            )));
        }
        Ok(Self { n_prompt: ids.len(), ids, ended: false })
    }

    fn push(&mut self, pass: &Pass<'_>, id: u32) {
        let config = &pass.model.config;
        self.ended = config.eos_token_id == Some(id);
        if !self.ended {
            self.ids.push(id);
            self.ended = self.ids.len() >= config.context;
        }
    }

    /// Returns the text of the continuation. Decoders treat the start of a text in their own way, so the text
    /// of the prompt is cut from the text of all tokens.
    fn continuation(&self, pass: &Pass<'_>) -> String {
        let tokenizer = &pass.model.tokenizer;
        let (start, added) = self.ids.split_at(self.n_prompt.min(self.ids.len()));
        let whole = tokenizer.decode(&self.ids);
        match whole.strip_prefix(&tokenizer.decode(start)) {
            Some(end) => end.to_owned(),
            None => tokenizer.decode(added),
        }
    }
}
