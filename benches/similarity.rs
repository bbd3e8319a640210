//! Time from points to the similarity matrix, against the same definition in numpy and scipy.
//!
//! ```text
//! cargo bench --bench similarity [-- LAYERS POINTS WIDTH]
//! ```
//!
//! 32 layers of 512 points of width 4096 by default, in double precision, mutual information of maps of two
//! dimensions with five neighbours. The Python side is `tests/bench/mka_spec.py`, run by `python3` or by what
//! the environment variable `PYTHON` names, on equal data; without numpy and scipy only our own time is printed.

mod planted;

use std::process::Command;
use std::time::Instant;

use laminate::maths::manifold::Points;
use laminate::maths::similarity::SimilarityMatrix;
use planted::{layer_points, similarities};

/// Timed runs, of which the median counts.
const REPEATS: usize = 5;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [n_layers, n_points, width] = <[usize; 3]>::try_from(sizes).unwrap_or([32, 512, 4096]);
    let layers: Vec<Points> = (0..n_layers).map(|layer| layer_points(layer, n_points, width)).collect();

    let matrix = similarities(&layers);
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(similarities(&layers));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let ours = times[REPEATS / 2];
    println!("{n_layers} layers x {n_points} points x {width}, {REPEATS} runs");
    println!("this engine    {ours:8.0} ms (median; {:.0} to {:.0})", times[0], times[REPEATS - 1]);

    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_string());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/mka_spec.py");
    let sizes = [n_layers, n_points, width].map(|n| n.to_string());
    match Command::new(&python).arg(script).args(sizes).output() {
        Ok(output) if output.status.success() => {
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
            let theirs = report["milliseconds"].as_f64().expect("a number");
            println!("numpy and scipy{theirs:8.0} ms (median)");
            println!("ratio          {:8.1}", theirs / ours);
            println!(
                "largest difference of a similarity: {:.1e}",
                largest_difference(&matrix, &report["similarity"])
            );
        }
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            println!("no comparison: {python} failed ({})", error.lines().last().unwrap_or("no message"));
        }
        Err(error) => println!("no comparison: {python} does not run ({error})"),
    }
}

fn largest_difference(matrix: &SimilarityMatrix, rows: &serde_json::Value) -> f64 {
    let mut largest = 0.0_f64;
    for (l, row) in matrix.to_rows().iter().enumerate() {
        for (m, ours) in row.iter().enumerate() {
            let theirs = rows[l][m].as_f64().expect("a square matrix of numbers");
            largest = largest.max((ours - theirs).abs());
        }
    }
    largest
}
