//! What a model is worth on a text and on questions, and what a compressed one lost.

pub mod generate;
pub mod held_out;
pub mod perplexity;
pub mod questions;
pub mod reference;
pub mod score;

pub use perplexity::evaluate;
pub use score::{Output, Prediction, predict, score, score_all};
