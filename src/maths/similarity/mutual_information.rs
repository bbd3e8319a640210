//! Mutual information of two embeddings, by the first estimator of Kraskov, Stögbauer and Grassberger.

use crate::error::{Error, Result};
use crate::maths::manifold::Embedding;

/// Number of points examined together; compilers turn loops over a chunk into vector instructions.
const CHUNK: usize = 16;

/// Estimates the mutual information `I(x; y)`, in nats, between two embeddings of the same points. Each
/// embedding is given with the index of its layer, for messages; `k` is the number of neighbours.
///
/// ```text
/// I = psi(N) + psi(k) - < psi(n_x + 1) + psi(n_y + 1) >
/// ```
///
/// `psi` is the digamma function. All distances are maximum norms, after each coordinate was divided by its
/// population standard deviation. `r_i` is the distance from point `i` to its `k`-th neighbour in the joint
/// space; `n_x` and `n_y` count the other points that are closer than `r_i` in `x` and in `y` (estimator 1 of
/// Phys. Rev. E 69, 066138, 2004). The estimate is symmetric, may be slightly negative, and
/// `I(x; x) = psi(N) - psi(k)` without ties.
///
/// If more than `k` points coincide, `r_i = 0`, and the count takes the limit of small radii: it includes the
/// coinciding points. Ties therefore give smaller estimates, never infinite ones.
///
/// Cost: `O(N w)`, with `w` the number of points within `r_i` in one coordinate, at most `N`.
///
/// # Errors
/// [`Error::Shape`] if the embeddings differ in points, [`Error::Limit`] for fewer than `4k` points,
/// [`Error::Usage`] for `k = 0`, [`Error::Numeric`] for a coordinate that is constant. Messages about an
/// embedding name its layer.
///
/// # Examples
/// ```
/// use laminate::maths::manifold::Embedding;
/// use laminate::maths::similarity::mutual_information;
///
/// let line = Embedding::new(0, vec![(0..40).map(f64::from).map(f64::sqrt).collect()]).unwrap();
/// let same = mutual_information((0, &line), (1, &line), 5).unwrap();
/// assert!((same - 2.1702).abs() < 1e-3);
/// ```
pub fn mutual_information(x: (usize, &Embedding), y: (usize, &Embedding), k: usize) -> Result<f64> {
    if x.1.n_points() != y.1.n_points() {
        return Err(Error::Shape(format!(
            "mutual information of layers {} and {}: {} and {} points",
            x.0,
            y.0,
            x.1.n_points(),
            y.1.n_points()
        )));
    }
    let estimator = Estimator::new(x.1.n_points(), k)?;
    Ok(estimator.estimate(&Sample::new(x.0, x.1)?, &Sample::new(y.0, y.1)?))
}

/// Data shared by all estimates with the same numbers of points and neighbours.
#[derive(Debug, Clone)]
pub(super) struct Estimator {
    n_neighbours: usize,
    /// Digamma function `psi(i)` at index `i`; index 0 is never read.
    digamma: Vec<f64>,
}

/// Embedding of one layer, standardised and sorted: computed once, used in every pair.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Coordinates of the points, in ascending order of the points' first coordinate.
    sorted: Vec<Vec<f64>>,
    /// Point at each position of the sorted order.
    order: Vec<usize>,
    /// Position of each point in the sorted order.
    rank: Vec<usize>,
}

impl Sample {
    pub(super) fn new(layer: usize, embedding: &Embedding) -> Result<Self> {
        let n = embedding.n_points();
        let mut columns = Vec::with_capacity(embedding.dims());
        for (k, column) in embedding.coordinates().enumerate() {
            let mean = column.iter().sum::<f64>() / n as f64;
            let variance = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
            let deviation = variance.sqrt();
            let standardised: Vec<f64> = column.iter().map(|x| x / deviation).collect();
            // A constant column leaves a deviation of zero, or of the mean's rounding.
            let is_constant = deviation <= 4.0 * f64::EPSILON * mean.abs();
            if is_constant || !standardised.iter().all(|x| x.is_finite()) {
                return Err(Error::Numeric(format!(
                    "coordinate {k} of the embedding of layer {layer} has no variance, so nothing can be \
                     learned from it; use fewer dimensions, a smaller time or more varied text"
                )));
            }
            columns.push(standardised);
        }
        let first = columns.first().map(Vec::as_slice).unwrap_or_default();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| first[i].total_cmp(&first[j]));
        let mut rank = vec![0; n];
        for (position, &point) in order.iter().enumerate() {
            rank[point] = position;
        }
        let sorted = columns.iter().map(|c| order.iter().map(|&i| c[i]).collect()).collect();
        Ok(Sample { sorted, order, rank })
    }

    /// Counts the points closer than `radius` to the point at `position`, itself included.
    fn count_within(&self, position: usize, radius: f64) -> usize {
        let Some((first, others)) = self.sorted.split_first() else {
            return 0;
        };
        let at = first[position];
        // Differences rather than bounds are compared, so that no point is lost to the rounding of a bound.
        let start = first[..position].partition_point(|x| at - x >= radius);
        let end = position + first[position..].partition_point(|x| x - at < radius);
        match others {
            [] => end - start,
            [second] => {
                let at = second[position];
                let inside = second[start..end].iter().map(|x| u64::from((x - at).abs() < radius));
                inside.sum::<u64>() as usize
            }
            _ => (start..end).filter(|&j| others.iter().all(|c| (c[j] - c[position]).abs() < radius)).count(),
        }
    }
}

impl Estimator {
    /// Prepares estimates from `n_points` points with `n_neighbours` neighbours.
    ///
    /// # Errors
    /// [`Error::Usage`] for no neighbours, [`Error::Limit`] for fewer than `4k` points.
    pub(super) fn new(n_points: usize, n_neighbours: usize) -> Result<Self> {
        if n_neighbours == 0 {
            return Err(Error::Usage("neighbours is 0, but must be at least 1".to_string()));
        }
        if n_points < n_neighbours.saturating_mul(4) {
            return Err(Error::Limit(format!(
                "mutual information with {n_neighbours} neighbours needs at least {} points, but there are \
                 {n_points}: use more text, more points per sequence or fewer neighbours",
                n_neighbours.saturating_mul(4)
            )));
        }
        // psi(1) = -gamma, psi(i + 1) = psi(i) + 1 / i.
        let mut digamma = vec![f64::NAN, -0.577_215_664_901_532_9];
        for i in 1..n_points {
            digamma.push(digamma[i] + 1.0 / i as f64);
        }
        Ok(Estimator { n_neighbours, digamma })
    }

    /// Estimates `I(x; y)` in nats. Both samples must have the number of points that the estimator was made
    /// for.
    pub(super) fn estimate(&self, x: &Sample, y: &Sample) -> f64 {
        let n = x.order.len();
        let mut nearest = Nearest::new(x, y, self.n_neighbours);
        let mut sum = 0.0;
        for (position, &point) in x.order.iter().enumerate() {
            // The smallest positive number stands for a radius that shrinks to zero.
            let radius = nearest.radius(position).max(f64::MIN_POSITIVE);
            let n_x = x.count_within(position, radius);
            let n_y = y.count_within(y.rank[point], radius);
            sum += self.digamma[n_x] + self.digamma[n_y];
        }
        self.digamma[n] + self.digamma[self.n_neighbours] - sum / n as f64
    }
}

/// Search for neighbours in the joint space of two samples.
struct Nearest {
    /// All coordinates of `x`, then of `y`. The points are in ascending order of the first coordinate of `x`,
    /// which therefore bounds the search. [`CHUNK`] infinities on both sides, which are near no point, make
    /// all chunks full.
    columns: Vec<Vec<f64>>,
    /// The `k` smallest distances seen so far, ascending; infinite at first.
    distances: Vec<f64>,
}

impl Nearest {
    fn new(x: &Sample, y: &Sample, n_neighbours: usize) -> Self {
        let n = x.order.len();
        let from_x = x.sorted.iter().map(|c| padded(c.iter().copied(), n));
        let from_y = y.sorted.iter().map(|c| padded(x.order.iter().map(|&i| c[y.rank[i]]), n));
        Nearest { columns: from_x.chain(from_y).collect(), distances: vec![f64::INFINITY; n_neighbours] }
    }

    /// Returns the maximum-norm distance from the point at `position` to its `k`-th neighbour.
    ///
    /// The search walks outwards on both sides until the first coordinate alone is farther than the `k`-th
    /// distance so far.
    fn radius(&mut self, position: usize) -> f64 {
        self.distances.fill(f64::INFINITY);
        let position = position + CHUNK;
        let at = self.columns[0][position];
        let (mut left, mut right) = (position, position + 1);
        loop {
            let go_left = at - self.columns[0][left - 1] < self.bound();
            if go_left {
                left -= CHUNK;
                self.scan(position, left);
            }
            let go_right = self.columns[0][right] - at < self.bound();
            if go_right {
                self.scan(position, right);
                right += CHUNK;
            }
            if !go_left && !go_right {
                return self.bound();
            }
        }
    }

    /// Returns the `k`-th smallest distance so far; infinite until there are `k` distances.
    fn bound(&self) -> f64 {
        self.distances.last().copied().unwrap_or(f64::INFINITY)
    }

    /// Takes the [`CHUNK`] points from `start` on into account.
    fn scan(&mut self, position: usize, start: usize) {
        let mut chunk = [0.0_f64; CHUNK];
        for column in &self.columns {
            let at = column[position];
            let Some(values) = column.get(start..).and_then(|rest| rest.first_chunk::<CHUNK>()) else {
                return;
            };
            for (d, x) in chunk.iter_mut().zip(values) {
                let away = (x - at).abs();
                *d = if away > *d { away } else { *d };
            }
        }
        // Most chunks hold no near point, which a vector minimum shows at once.
        let bound = self.bound();
        let least = chunk.iter().fold(f64::INFINITY, |a, &b| if b < a { b } else { a });
        if least >= bound {
            return;
        }
        // A processor cannot predict whether a distance is near. Near distances are therefore moved to the
        // front without a branch; then each bubbles up through the ascending list.
        let (mut near, mut n_near) = ([0.0_f64; CHUNK], 0);
        for d in chunk {
            near[n_near] = d;
            n_near += usize::from(d < bound);
        }
        for &d in &near[..n_near] {
            let mut carried = d;
            for kept in &mut self.distances {
                let (low, high) = if carried < *kept { (carried, *kept) } else { (*kept, carried) };
                *kept = low;
                carried = high;
            }
        }
    }
}

/// Returns the `n` values with [`CHUNK`] infinities before and after.
fn padded(values: impl Iterator<Item = f64>, n: usize) -> Vec<f64> {
    let mut column = Vec::with_capacity(n + 2 * CHUNK);
    column.resize(CHUNK, f64::NEG_INFINITY);
    column.extend(values);
    column.resize(n + 2 * CHUNK, f64::INFINITY);
    column
}
