//! Quality of a model on texts and on questions, and the quality that a compressed model lost.

pub mod generate;
pub mod held_out;
pub mod logits;
pub mod perplexity;
pub mod questions;
pub mod reference;
pub mod score;

pub use perplexity::evaluate;
pub use score::{Output, Prediction, predict, score, score_all};
