//! Closed-form least squares: what refits a merged layer to the states that it must reproduce.
//!
//! ```text
//! activations Z, targets Y, row weights w --Normal::add--> G = (wZ)'(wZ), C = (wZ)'(wY)
//! G, C --eliminate, eliminate_groups, leverage_keep--> which neurons and heads stay
//! G, C of those --ridge--> B, the new projection
//! ```
//!
//! `Z` is `[n, m]`, a row per token and a column per regressor (an attention context's channel or a gated
//! activation); `Y` is `[n, d]`; `Z B` approximates `Y`, so `B` is `[m, d]`. **Every `B` that goes in or
//! comes out is stored transposed, row-major `[d, m]`, which is how a model stores the weight of a
//! projection.**
//!
//! The sums are `f32` and need memory for `m^2` numbers, however many rows are added. What ranks regressors
//! is computed in `f64`, since a rank has no tolerance; what solves for `B` in `f32` with a fallback to
//! `f64`.
//!
//! Nothing here reads a file, touches a device or depends on the target.

mod eliminate;
mod factor;
mod leverage;
mod matrix;
mod normal;
mod products;
mod ridge;

pub use eliminate::{eliminate, eliminate_bytes, eliminate_groups, eliminate_groups_bytes};
pub use leverage::{Repair, leverage_bytes, leverage_keep};
pub use normal::Normal;
pub use ridge::{LAMBDAS, Refit, ridge, ridge_bytes, ridge_on_all};
