//! Check of a graphics device before it is used: it computes a little of everything that layers ask of it, and what comes
//! out is compared with the CPU.
//!
//! There are browsers whose WebGPU gives wrong numbers without an error (Firefox 154 to llama.cpp,
//! <https://github.com/hybridgroup/yzma/pull/324>), products of zeros
//! (<https://github.com/tracel-ai/burn/issues/2178>), or none: a shader that needs more than the device has stops the
//! runtime (<https://github.com/tracel-ai/cubecl/issues/834>).

use std::time::Duration;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use web_time::Instant;

use super::DeviceKind;
use crate::format::blocks::BlockType;
use crate::format::element::{Element, decode, encode};
use crate::format::stored::Stored;
use crate::kernels::gpu::StoredRows;
use crate::kernels::gpu::product::{self, Products, Tile};
use crate::kernels::product::products;
use crate::kernels::rowwise::{NormKind, norm};
use crate::maths::random::unit;

/// Shapes `[n, k, m]` of products of `[n, k]` and `[k, m]`: whole tiles of a kernel, and not.
const PRODUCTS: [[usize; 3]; 2] = [[64, 256, 64], [33, 191, 70]];

/// Shape of what is done to rows: no power of two.
const ROWS: [usize; 2] = [37, 193];

/// Shape of the weights that are decoded: two rows of two of the largest blocks.
const WEIGHTS: [usize; 2] = [2, 512];

/// Largest difference of a right answer, as a fraction of the largest number of the answer.
const TOLERANCE: f64 = 1e-4;

/// Shape `[n, k, m]` of products by our own tiles: two blocks of the largest type deep, and no whole tiles.
const OWN: [usize; 3] = [70, 512, 66];

/// Rows below which quantised weights may be decoded in the product: the more rows, the less it is to decode them before.
const FEW_ROWS: usize = 512;

/// Rounds of timing; the best counts, and the first compiles shaders.
const ROUNDS: usize = 3;

/// How many times slower than the CPU the first products of a device may be that is timed any further.
const FAR: f64 = 4.0;

/// How long a device may take for all answers.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The same for one that is emulated in software.
pub const PATIENCE_WITH_SOFTWARE: Duration = Duration::from_secs(180);

/// Checks that `device` answers, within `patience`, and that its answers are right.
///
/// # Errors
/// What is wrong with the device, in words after its name.
pub async fn answers_rightly(device: &Device, patience: Duration) -> Result<(), String> {
    let (own, names, expected) = (device.clone(), names(), expected()?);
    let work = async move {
        let mut answers = Vec::new();
        for answer in asked(&own)? {
            answers.push(read(answer).await?);
        }
        Ok::<_, String>(answers)
    };
    let answers = within(patience, work).await??;
    for ((name, expected), answer) in names.iter().zip(&expected).zip(&answers) {
        compare(name, answer, expected)?;
    }
    match names.len() == expected.len() && expected.len() == answers.len() {
        true => Ok(()),
        false => Err("answers other questions than it was asked".to_owned()),
    }
}

/// Times burn's product and ours of every tile on `device`, whose `kind` says how large a product is, and chooses the fastest
/// of those whose answers are right, for all products from then on; likewise whether quantised weights are decoded in
/// products of few rows. With `on_cpu`, the seconds of the same product there, the device has to be faster.
///
/// # Errors
/// What is wrong with the device, in words after its name.
pub async fn choose_products(
    device: &Device,
    kind: DeviceKind,
    patience: Duration,
    on_cpu: Option<f64>,
) -> Result<Products, String> {
    let (own, timed) = (device.clone(), Timed::of(kind));
    let limit = on_cpu.unwrap_or(f64::INFINITY);
    let work = async move {
        // What is far behind need not be timed well.
        let first = Timed { repeats: 1, ..timed }.burn(&own).await?;
        if first > FAR * limit {
            return Err(slower(first, limit));
        }
        let mut chosen = Products::default();
        let mut fastest = timed.burn(&own).await?;
        for tile in Tile::ALL {
            if is_right(&own, tile).await? {
                let seconds = timed.floats(&own, tile).await?;
                if seconds < fastest {
                    (chosen, fastest) = (Products { tile: Some(tile), fused_below: 0 }, seconds);
                }
            }
        }
        if fastest > limit {
            return Err(slower(fastest, limit));
        }
        if let Some(tile) = chosen.tile {
            let [before, inside] = timed.stored(&own, tile).await?;
            if inside < before {
                chosen.fused_below = FEW_ROWS;
            }
        }
        Ok::<_, String>(chosen)
    };
    let chosen = within(patience, work).await??;
    product::choose(chosen);
    Ok(chosen)
}

/// Returns the seconds that the CPU takes for the product by which a device of `kind` is timed.
///
/// # Errors
/// What is wrong, in words after the name of the device.
pub fn seconds_on_cpu(kind: DeviceKind) -> Result<f64, String> {
    let [n, k, m] = Timed::of(kind).shape;
    let (x, weight) = (values(n * k, 1), Stored::from_f32(&values(k * m, 2)));
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        products(&x, k, &[(&weight, m)]).map_err(|e| format!("cannot be compared with the CPU ({e})"))?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn slower(seconds: f64, on_cpu: f64) -> String {
    let [seconds, on_cpu] = [seconds, on_cpu].map(|s| 1e3 * s);
    format!(
        "is slower than the CPU here: {seconds:.1} milliseconds for a product that takes the CPU {on_cpu:.1}"
    )
}

/// A product that is timed.
#[derive(Clone, Copy)]
struct Timed {
    /// Sizes `[n, k, m]`.
    shape: [usize; 3],
    /// How many are asked for at a time: a short one is lost in the time of asking.
    repeats: usize,
}

impl Timed {
    fn of(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::SoftwareGpu => Self { shape: [64, 256, 256], repeats: 1 },
            _ => Self { shape: [256, 1024, 1024], repeats: 4 },
        }
    }

    async fn burn(&self, device: &Device) -> Result<f64, String> {
        let [n, k, m] = self.shape;
        let (x, w) = (tensor(device, 1, [n, k]), tensor(device, 2, [m, k]));
        self.seconds(|| x.clone().matmul(w.clone().transpose())).await
    }

    async fn floats(&self, device: &Device, tile: Tile) -> Result<f64, String> {
        let [n, k, m] = self.shape;
        let (x, w) = (tensor(device, 1, [n, k]), tensor(device, 2, [m, k]));
        self.seconds(|| product::multiply_floats(x.clone(), w.clone(), tile)).await
    }

    /// Times products of few rows by weights in blocks that are decoded before, and in the product.
    async fn stored(&self, device: &Device, tile: Tile) -> Result<[f64; 2], String> {
        let [n, k, m] = self.shape;
        let element = Element::Block(BlockType::Q4K);
        let rows = uploaded(device, element, 2, [m, k])?;
        let x = tensor(device, 1, [n / 2, k]);
        let before = self.seconds(|| product::multiply_floats(x.clone(), rows.decode(), tile)).await?;
        Ok([before, self.seconds(|| product::multiply_stored(x.clone(), &rows, tile)).await?])
    }

    /// Returns the seconds of a product: the best of some rounds, of which the first compiles shaders.
    async fn seconds(&self, product: impl Fn() -> Tensor<2>) -> Result<f64, String> {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let sums = (0..self.repeats).map(|_| product().narrow(0, 0, 1).sum()).collect();
            read(Tensor::<1>::cat(sums, 0)).await?;
            best = best.min(start.elapsed().as_secs_f64() / self.repeats as f64);
        }
        Ok(best)
    }
}

/// Returns whether the products of `tile` are right, by weights in `f32` and in blocks.
async fn is_right(device: &Device, tile: Tile) -> Result<bool, String> {
    let [n, k, m] = OWN;
    let x = tensor(device, 1, [n, k]);
    let y = read(product::multiply_floats(x.clone(), tensor(device, 2, [m, k]), tile)).await?;
    let floats = compare("products", &y, &transposed_product(&values(n * k, 1), &values(m * k, 2), k));
    let element = Element::Block(BlockType::Q4K);
    let y = read(product::multiply_stored(x, &uploaded(device, element, 2, [m, k])?, tile)).await?;
    let decoded = decoded(element, 2, [m, k])?;
    let stored = compare("products", &y, &transposed_product(&values(n * k, 1), &decoded, k));
    Ok(floats.is_ok() && stored.is_ok())
}

/// Computes `x w^T` in `f64`, with rows of `k` numbers.
fn transposed_product(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
    x.chunks(k).flat_map(|x| w.chunks(k).map(move |w| dot(x, w))).collect()
}

/// Makes a matrix of numbers between -1 and 1.
fn tensor(device: &Device, seed: u64, [rows, columns]: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), device)
}

/// Stores a matrix of numbers between -1 and 1 as `element`.
fn encoded(element: Element, seed: u64, [rows, columns]: [usize; 2]) -> Result<Vec<u8>, String> {
    encode(element, &values(rows * columns, seed)).map_err(|e| e.to_string())
}

/// Makes a matrix that is stored as `element` on `device`.
fn uploaded(device: &Device, element: Element, seed: u64, shape: [usize; 2]) -> Result<StoredRows, String> {
    let rows = StoredRows::upload(element, &encoded(element, seed, shape)?, shape, device);
    rows.ok_or_else(|| format!("has no shader for {element}"))
}

/// Returns the numbers of the matrix of [`uploaded`].
fn decoded(element: Element, seed: u64, shape: [usize; 2]) -> Result<Vec<f32>, String> {
    decode("of the check", element, &encoded(element, seed, shape)?).map_err(|e| e.to_string())
}

/// Element types whose shaders are checked.
fn elements() -> impl Iterator<Item = Element> {
    [Element::F16, Element::Bf16].into_iter().chain(BlockType::ALL.into_iter().map(Element::Block))
}

/// Names what [`asked`] asks, in words after "wrong".
fn names() -> Vec<String> {
    let products = PRODUCTS.map(|[n, k, m]| format!("products of {n} x {k} and {k} x {m}"));
    let rows = ["norms", "softmax"].map(str::to_owned);
    let decoded = elements().map(|element| format!("weights of type {element}"));
    products.into_iter().chain(rows).chain(decoded).collect()
}

/// Asks `device` for products, norms, a softmax, and weights of every type decoded.
fn asked(device: &Device) -> Result<Vec<Tensor<1>>, String> {
    let tensor = |seed, shape| tensor(device, seed, shape);
    let mut answers = Vec::new();
    for [n, k, m] in PRODUCTS {
        answers.push(tensor(1, [n, k]).matmul(tensor(2, [m, k]).transpose()).flatten(0, 1));
    }
    let weight = tensor(4, [1, ROWS[1]]);
    let normed = norm(NormKind::Rms, tensor(3, ROWS), &weight, EPSILON).map_err(|e| e.to_string())?;
    answers.push(normed.flatten(0, 1));
    answers.push(softmax(tensor(3, ROWS) * 4.0, 1).flatten(0, 1));
    for element in elements() {
        answers.push(uploaded(device, element, 5, WEIGHTS)?.decode().flatten(0, 1));
    }
    Ok(answers)
}

/// Number that is added to mean squares.
const EPSILON: f64 = 1e-5;

/// Computes what [`asked`] asks, in `f64` and without the kernels of the engine.
fn expected() -> Result<Vec<Vec<f64>>, String> {
    let numbers = |n, seed| values(n, seed).into_iter().map(f64::from).collect::<Vec<f64>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut all = Vec::new();
    for [n, k, m] in PRODUCTS {
        all.push(transposed_product(&values(n * k, 1), &values(m * k, 2), k));
    }
    let [rows, width] = ROWS;
    let (x, weight) = (numbers(rows * width, 3), numbers(width, 4));
    let normed = |row: &[f64]| {
        let root = (dot(row, row) / width as f64 + EPSILON).sqrt();
        row.iter().zip(&weight).map(|(x, w)| x / root * w).collect::<Vec<f64>>()
    };
    all.push(x.chunks(width).flat_map(normed).collect());
    let shares = |row: &[f64]| {
        let exponentials: Vec<f64> = row.iter().map(|x| (4.0 * x).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.into_iter().map(move |e| e / sum).collect::<Vec<f64>>()
    };
    all.push(x.chunks(width).flat_map(shares).collect());
    for element in elements() {
        all.push(decoded(element, 5, WEIGHTS)?.into_iter().map(f64::from).collect());
    }
    Ok(all)
}

/// Returns `n` numbers between -1 and 1.
fn values(n: usize, seed: u64) -> Vec<f32> {
    (0..n as u64).map(|place| (2.0 * unit(seed, place) - 1.0) as f32).collect()
}

/// Compares an answer, of which `name` says what it is, with the right one.
fn compare(name: &str, answer: &[f32], expected: &[f64]) -> Result<(), String> {
    let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let off = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs();
    let far = answer.iter().zip(expected).any(|pair| {
        let off = off(pair);
        off.is_nan() || off > TOLERANCE * largest
    });
    match !far && answer.len() == expected.len() {
        true => Ok(()),
        false => Err(format!("computes wrong {name}")),
    }
}

/// Reads the numbers of a tensor.
async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, String> {
    super::read(tensor).await.map_err(|why| format!("fails ({why})"))
}

/// Waits for `work`, at most `limit`.
///
/// # Errors
/// That the device does not answer, or ended the work, in words after its name.
#[cfg(not(target_arch = "wasm32"))]
async fn within<R: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = R> + Send + 'static,
) -> Result<R, String> {
    // A thread of its own, because a device that hangs holds the thread that waits for it, and one that the runtime gives
    // up on ends it.
    let (sender, receiver) = std::sync::mpsc::channel();
    let spawned = std::thread::Builder::new().spawn(move || {
        let _ = sender.send(futures::executor::block_on(work));
    });
    spawned.map_err(|e| format!("cannot be checked ({e})"))?;
    receiver.recv_timeout(limit).map_err(|why| match why {
        std::sync::mpsc::RecvTimeoutError::Timeout => unanswered(limit),
        std::sync::mpsc::RecvTimeoutError::Disconnected => {
            "stops the program that multiplies on it".to_owned()
        }
    })
}

/// Waits for `work`. A page has a clock of its own for the start of its engine, and notices what stops the module.
///
/// # Errors
/// None.
#[cfg(target_arch = "wasm32")]
async fn within<R>(_: Duration, work: impl Future<Output = R>) -> Result<R, String> {
    Ok(work.await)
}

#[cfg(not(target_arch = "wasm32"))]
fn unanswered(limit: Duration) -> String {
    format!("does not answer within {} seconds", limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_is_told_from_a_right_one() {
        let expected = expected().unwrap();
        assert_eq!(names().len(), expected.len());
        for (name, expected) in names().iter().zip(&expected) {
            let right: Vec<f32> = expected.iter().map(|x| *x as f32).collect();
            assert_eq!(compare(name, &right, expected), Ok(()));
            assert!(compare(name, &vec![0.0; right.len()], expected).unwrap_err().contains(name.as_str()));
            assert!(compare(name, &right[1..], expected).is_err(), "one is missing");
            let mut one = right.clone();
            *one.last_mut().unwrap() = f32::NAN;
            assert!(compare(name, &one, expected).is_err());
            let middle = right.len() / 2;
            let mut one = right;
            one[middle] += 1e-3 * expected.iter().fold(0.0, |most: f64, x| most.max(x.abs())) as f32;
            assert!(compare(name, &one, expected).is_err(), "one number is off");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[test]
    fn what_does_not_answer_is_waited_for_so_long_and_what_panics_is_said() {
        use futures::executor::block_on;
        let never = block_on(within(Duration::from_millis(20), std::future::pending::<()>()));
        assert!(never.unwrap_err().contains("does not answer"));
        let panics = block_on(within(PATIENCE, async { panic!("a shader needs more than there is") }));
        let said: Result<(), String> = panics;
        assert!(said.unwrap_err().contains("stops"));
        assert_eq!(block_on(within(PATIENCE, async { 7 })), Ok(7));
    }
}
