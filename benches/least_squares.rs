//! Speed of the least-squares stage.
//!
//! ```text
//! cargo bench --bench least_squares [-- M ...]
//! ```
//!
//! For each number of regressors: the rate of `Normal::add` in multiply-adds times two, a ridge of one strength,
//! elimination to a quarter, and the ridge-leverage score with its repair. 576 targets.

use std::time::Instant;

use laminate::maths::least_squares::{LAMBDAS, Normal, eliminate, eliminate_groups, leverage_keep, ridge};

const TARGETS: usize = 576;

#[path = "../tests/engine/least_squares/noise.rs"]
mod noise;

use noise::noise;

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = f();
    let seconds = start.elapsed().as_secs_f64();
    println!("  {what:<44} {seconds:8.3} s");
    (result, seconds)
}

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![2112, 6144] } else { sizes };
    let rows = 8192;
    for m in sizes {
        println!("m {m}, d {TARGETS}, {rows} rows, {} MB", Normal::bytes(m, TARGETS) / 1_000_000);
        let (z, y, w) = (noise(rows * m, 1), noise(rows * TARGETS, 2), noise(rows, 3));
        let mut fit = Normal::new(m, TARGETS).unwrap();
        let gflop = |rows: usize| rows as f64 * m as f64 * (m + 2 * TARGETS) as f64 / 1e9;
        for _ in 0..2 {
            let ((), seconds) = timed("add", || fit.add(&z, &y, &w).unwrap());
            println!("    {:.0} GFLOP/s", gflop(rows) / seconds);
        }
        let mut gram_only = Normal::new(m, 0).unwrap();
        let ((), seconds) = timed("add, no targets", || gram_only.add(&z, &[], &w).unwrap());
        println!("    {:.0} GFLOP/s", rows as f64 * (m * m) as f64 / 1e9 / seconds);
        let mut held_out = Normal::new(m, TARGETS).unwrap();
        held_out.add(&z[..2048 * m], &y[..2048 * TARGETS], &w[..2048]).unwrap();
        let b0 = noise(m * TARGETS, 4);
        timed("ridge, no strength", || ridge(&mut fit, &held_out, &b0, &[]).unwrap());
        timed("ridge, one strength", || ridge(&mut fit, &held_out, &b0, &[0.1]).unwrap());
        timed("ridge, five strengths", || ridge(&mut fit, &held_out, &b0, &LAMBDAS).unwrap());
        let keep = m / 4;
        timed("eliminate to a quarter in 6 rounds", || eliminate(&fit, keep, 6, 0.01).unwrap());
        let (kept, _) = timed("leverage_keep a quarter", || leverage_keep(&fit, keep, 10.0).unwrap().kept);
        timed("subset", || fit.subset(&kept).unwrap());
        let group = m / 12;
        timed("eliminate_groups, 12 to 3", || eliminate_groups(&fit, group, 3, 0.01).unwrap());
    }
}
