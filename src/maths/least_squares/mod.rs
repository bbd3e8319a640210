//! Closed-form least squares, which refits a merged layer to the hidden states that it must reproduce.
//!
//! ```text
//! activations Z, targets Y, row weights w --Normal::add--> G = (wZ)'(wZ), C = (wZ)'(wY)
//! G, C --eliminate, eliminate_groups, leverage_keep--> which neurons and heads stay
//! G, C of those --ridge--> B, the new projection
//! ```
//!
//! `Z` is `[n, m]`, with a row per token and a column per regressor (a channel of the attention context or a
//! gated activation); `Y` is `[n, d]`; `Z B` approximates `Y`, so `B` is `[m, d]`. **Every `B` passed in or
//! returned is stored transposed, row-major `[d, m]`, which is how a model stores the weight of a
//! projection.**
//!
//! The sums are `f32` and take memory for `m^2` numbers, however many rows are added. [`eliminate_groups`]
//! and [`leverage_keep`] rank in `f64`, since a rank has no tolerance; [`eliminate`](eliminate()) and
//! [`ridge`](ridge()) compute in `f32` with a fallback to `f64`.
//!
//! [`gptq`](gptq()) rounds a projection to a grid such that its products with given inputs change little, [`gptq_blocks`]
//! to those of quantisation blocks; [`awq_candidates`] and [`awq_round`] scale its columns first.
//!
//! Nothing here reads a file, touches a device or depends on the target.

mod awq;
mod eliminate;
mod factor;
mod gptq;
mod leverage;
mod matrix;
mod normal;
mod products;
mod ridge;

pub use awq::{CANDIDATES, LIMITS, Magnitudes, awq_candidates, awq_loss, awq_round};
pub use eliminate::{eliminate, eliminate_bytes, eliminate_groups, eliminate_groups_bytes};
pub use gptq::blocks::gptq_blocks;
pub use gptq::{Curvature, gptq};
pub use leverage::{Repair, leverage_bytes, leverage_keep};
pub use normal::Normal;
pub use ridge::{LAMBDAS, Refit, ridge, ridge_bytes, ridge_on_all};
