//! Least squares: what theory demands, then naive versions in double precision, then stored numbers, then bad
//! input.

use laminate::Error;
use laminate::maths::least_squares::{
    LAMBDAS, Normal, eliminate, eliminate_bytes, eliminate_groups, eliminate_groups_bytes, leverage_bytes,
    leverage_keep, ridge, ridge_bytes, ridge_on_all,
};

use self::noise::noise;

mod noise;

/// Rows of activations, targets and weights.
#[derive(Clone)]
struct Rows {
    m: usize,
    d: usize,
    z: Vec<f32>,
    y: Vec<f32>,
    w: Vec<f32>,
}

impl Rows {
    /// Unrelated activations, targets that the first ones explain in part, weights from 0.5 to 2.5.
    fn new(n: usize, m: usize, d: usize, seed: u64) -> Self {
        let z = noise(n * m, seed);
        let mut y = noise(n * d, seed + 1);
        for (y, z) in y.chunks_exact_mut(d.max(1)).zip(z.chunks_exact(m)) {
            y.iter_mut().zip(z).for_each(|(y, z)| *y += z);
        }
        let w = noise(n, seed + 2).iter().map(|w| w + 1.5).collect();
        Rows { m, d, z, y, w }
    }

    /// As [`Rows::new`], with activations that share a few factors, so that the Gram matrix has a condition
    /// of some thousand.
    fn correlated(n: usize, m: usize, d: usize, seed: u64) -> Self {
        let mut rows = Rows::new(n, m, d, seed);
        let (factors, loadings) = (noise(n * 8, seed + 3), noise(m * 8, seed + 4));
        for (z, f) in rows.z.chunks_exact_mut(m).zip(factors.chunks_exact(8)) {
            for (z, l) in z.iter_mut().zip(loadings.chunks_exact(8)) {
                *z += 2.0 * f.iter().zip(l).map(|(f, l)| f * l).sum::<f32>();
            }
        }
        rows
    }

    /// Targets that are exactly `Z B` but for rounding.
    fn planted(mut self, b: &[f32]) -> Self {
        let planted = |z: &[f32]| -> Vec<f32> { b.chunks_exact(self.m).map(|b| dot(z, b) as f32).collect() };
        self.y = self.z.chunks_exact(self.m).flat_map(planted).collect();
        self
    }

    /// With every column `to` a copy of column `from`.
    fn copied(mut self, from: usize, to: &[usize]) -> Self {
        for row in self.z.chunks_exact_mut(self.m) {
            to.iter().for_each(|to| row[*to] = row[from]);
        }
        self
    }

    fn column_zero(mut self, column: usize) -> Self {
        self.z.chunks_exact_mut(self.m).for_each(|row| row[column] = 0.0);
        self
    }

    fn normal(&self) -> Normal {
        let mut normal = Normal::new(self.m, self.d).unwrap();
        normal.add(&self.z, &self.y, &self.w).unwrap();
        normal
    }

    fn only(&self, columns: &[usize]) -> Self {
        let pick = |row: &[f32]| columns.iter().map(|c| row[*c]).collect::<Vec<_>>();
        let z = self.z.chunks_exact(self.m).flat_map(pick).collect();
        Rows { m: columns.len(), z, ..self.clone() }
    }

    fn followed_by(&self, other: &Self) -> Self {
        let joined = |a: &[f32], b: &[f32]| [a, b].concat();
        let (z, y, w) = (joined(&self.z, &other.z), joined(&self.y, &other.y), joined(&self.w, &other.w));
        Rows { z, y, w, ..*self }
    }

    /// `G` and `C` in double precision.
    fn exact(&self) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let column = |of: &[f32], width: usize, j: usize| -> Vec<f64> {
            let rows = of.chunks_exact(width).zip(&self.w);
            rows.map(|(row, w)| f64::from(row[j] * w)).collect()
        };
        let z: Vec<_> = (0..self.m).map(|j| column(&self.z, self.m, j)).collect();
        let y: Vec<_> = (0..self.d).map(|j| column(&self.y, self.d, j)).collect();
        let times = |a: &Vec<f64>, with: &Vec<Vec<f64>>| with.iter().map(|b| dot64(a, b)).collect::<Vec<_>>();
        (z.iter().map(|a| times(a, &z)).collect(), z.iter().map(|a| times(a, &y)).collect())
    }

    /// `|w (Y - Z B)|^2` in double precision for a transposed `B`.
    fn error(&self, b: &[f32]) -> f64 {
        let rows = self.z.chunks_exact(self.m).zip(self.y.chunks_exact(self.d)).zip(&self.w);
        let row_error = |((z, y), w): ((&[f32], &[f32]), &f32)| -> f64 {
            let left = y.iter().zip(b.chunks_exact(self.m)).map(|(y, b)| f64::from(*y) - dot(z, b));
            left.map(|e| (e * f64::from(*w)).powi(2)).sum()
        };
        rows.map(row_error).sum()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn dot64(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a^-1 b` by Gauss and Jordan with pivots.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|i, j| a[*i][k].abs().total_cmp(&a[*j][k].abs())).unwrap();
        a.swap(k, pivot);
        b.swap(k, pivot);
        let (row, right) = (a[k].clone(), b[k].clone());
        for i in (0..n).filter(|i| *i != k) {
            let factor = a[i][k] / row[k];
            a[i].iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
            b[i].iter_mut().zip(&right).for_each(|(x, y)| *x -= factor * y);
        }
    }
    b.iter().zip(&a).enumerate().map(|(k, (b, a))| b.iter().map(|x| x / a[k]).collect()).collect()
}

fn shifted(mut g: Vec<Vec<f64>>, lambda: f64) -> Vec<Vec<f64>> {
    let shift = lambda * (0..g.len()).map(|i| g[i][i]).sum::<f64>() / g.len() as f64;
    (0..g.len()).for_each(|i| g[i][i] += shift);
    g
}

/// Transposed ridge solution about `b0`, in double precision.
fn naive_ridge(rows: &Rows, b0: &[f32], lambda: f64) -> Vec<f64> {
    let (g, mut c) = rows.exact();
    for (j, b) in b0.chunks_exact(rows.m).enumerate() {
        let b: Vec<f64> = b.iter().map(|b| f64::from(*b)).collect();
        c.iter_mut().zip(&g).for_each(|(c, g)| c[j] -= dot64(g, &b));
    }
    let d = solved(shifted(g, lambda), c);
    (0..rows.d * rows.m).map(|k| f64::from(b0[k]) + d[k % rows.m][k / rows.m]).collect()
}

/// The least `|w (Y - Z B)|^2 + shift |B|^2` with only the regressors `kept`, up to a constant: `-tr(C' G^-1
/// C)`.
fn naive_objective(g: &[Vec<f64>], c: &[Vec<f64>], kept: &[usize]) -> f64 {
    let sub = kept.iter().map(|i| kept.iter().map(|j| g[*i][*j]).collect()).collect();
    let right: Vec<Vec<f64>> = kept.iter().map(|i| c[*i].clone()).collect();
    -solved(sub, right.clone()).iter().zip(&right).map(|(b, c)| dot64(b, c)).sum::<f64>()
}

/// Relative distance.
fn distance(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (difference / dot64(b, b).max(1e-300)).sqrt()
}

fn wide(a: &[f32]) -> Vec<f64> {
    a.iter().map(|x| f64::from(*x)).collect()
}

fn entries(normal: &Normal) -> Vec<f32> {
    let m = normal.n_regressors();
    let gram = (0..m).flat_map(|i| (0..=i).map(move |j| normal.gram(i, j).unwrap()));
    let correlation = (0..normal.n_targets()).flat_map(|j| normal.correlation(j).unwrap());
    gram.chain(correlation.copied()).collect()
}

// Theorems.

#[test]
fn a_planted_solution_is_found_again() {
    for (n, m, d) in [(60, 7, 3), (500, 65, 1), (2500, 130, 17)] {
        let b = noise(m * d, 9);
        let rows = Rows::new(n, m, d, 1).planted(&b);
        let held_out = Rows::new(90, m, d, 5).planted(&b);
        let refit = ridge(&mut rows.normal(), &held_out.normal(), &vec![0.0; m * d], &[1e-7]).unwrap();
        assert!(distance(&refit.b, &wide(&b)) < 1e-5, "{n} {m} {d}: {}", distance(&refit.b, &wide(&b)));
        assert_eq!(refit.lambda, Some(1e-7));
        assert!((refit.gain - 1.0).abs() < 1e-5 && (refit.unexplained - 1.0).abs() < 1e-9, "{refit:?}");
    }
}

#[test]
fn neither_the_order_of_rows_nor_their_spread_over_calls_matters() {
    let rows = Rows::correlated(3001, 37, 5, 3);
    let whole = rows.normal();
    let mut pieces = Normal::new(37, 5).unwrap();
    let mut from = 0;
    for count in [1, 1023, 0, 1024, 953] {
        let to = from + count;
        let (z, y) = (&rows.z[from * 37..to * 37], &rows.y[from * 5..to * 5]);
        pieces.add(z, y, &rows.w[from..to]).unwrap();
        from = to;
    }
    let mut reversed = Normal::new(37, 5).unwrap();
    for i in (0..3001).rev() {
        reversed.add(&rows.z[i * 37..][..37], &rows.y[i * 5..][..5], &rows.w[i..=i]).unwrap();
    }
    for other in [pieces, reversed] {
        assert_eq!(other.n_rows(), 3001);
        assert!((other.target_energy() / whole.target_energy() - 1.0).abs() < 1e-12);
        assert!(distance(&entries(&other), &wide(&entries(&whole))) < 1e-6);
    }
}

#[test]
fn weights_scale_rows() {
    let mut rows = Rows::new(1500, 20, 3, 4);
    let exponents = noise(1500, 8);
    rows.w = exponents.iter().map(|x| 2f32.powi((4.0 * x) as i32)).collect();
    let mut scaled = rows.clone();
    for (of, width) in [(&mut scaled.z, 20), (&mut scaled.y, 3)] {
        for (row, w) in of.chunks_exact_mut(width).zip(&rows.w) {
            row.iter_mut().for_each(|x| *x *= w);
        }
    }
    scaled.w.fill(1.0);
    assert_eq!(entries(&rows.normal()), entries(&scaled.normal()));

    // The sign of a weight is of no account, and a row of weight zero is none.
    let mut more = rows.clone();
    more.w.iter_mut().for_each(|w| *w = -*w);
    more.z.extend(noise(20, 5));
    more.y.extend(noise(3, 6));
    more.w.push(0.0);
    assert_eq!(entries(&rows.normal()), entries(&more.normal()));
}

#[test]
fn a_subset_is_the_problem_from_scratch() {
    let rows = Rows::correlated(700, 90, 4, 6);
    for columns in [vec![0], vec![89, 3, 3], (0..90).step_by(2).collect::<Vec<_>>(), (0..90).rev().collect()]
    {
        let subset = rows.normal().subset(&columns).unwrap();
        let scratch = rows.only(&columns).normal();
        assert_eq!(subset.n_rows(), 700);
        assert_eq!(subset.target_energy(), scratch.target_energy());
        assert!(distance(&entries(&subset), &wide(&entries(&scratch))) < 1e-6);
    }
}

#[test]
fn solving_leaves_the_sums_as_they_were() {
    for (m, copies) in [(200, &[][..]), (321, &[7, 200, 319])] {
        let rows = Rows::new(400, m, 3, 7).copied(2, copies);
        let (mut fit, held_out) = (rows.normal(), Rows::new(50, m, 3, 17).normal());
        let before = entries(&fit);
        let b0 = vec![0.0; 3 * m];
        let first = ridge(&mut fit, &held_out, &b0, &[0.0, 1e-9, 1e-2, 1.0]).unwrap();
        assert_eq!(before, entries(&fit));
        assert_eq!(first, ridge(&mut fit, &held_out, &b0, &[0.0, 1e-9, 1e-2, 1.0]).unwrap());
        fit.add(&rows.z[..m], &rows.y[..3], &rows.w[..1]).unwrap();
        let mut fresh = rows.normal();
        fresh.add(&rows.z[..m], &rows.y[..3], &rows.w[..1]).unwrap();
        assert_eq!(entries(&fit), entries(&fresh));
    }
}

#[test]
fn gain_and_unexplained_are_what_the_held_out_rows_say() {
    let (rows, held_out) = (Rows::correlated(800, 40, 6, 8), Rows::correlated(300, 40, 6, 8));
    let mut held_out = held_out;
    held_out.y.iter_mut().zip(noise(1800, 77)).for_each(|(y, e)| *y += e);
    for b0 in [vec![0.0; 240], noise(240, 12), rows.y[..240].to_vec()] {
        let refit = ridge(&mut rows.normal(), &held_out.normal(), &b0, &LAMBDAS).unwrap();
        let [before, after] = [&b0, &refit.b].map(|b| held_out.error(b));
        let energy = held_out.error(&[0.0; 240]);
        assert!((refit.unexplained - before / energy).abs() < 1e-5 * refit.unexplained.max(1.0));
        assert!((refit.gain - (1.0 - after / before)).abs() < 1e-5, "{} {before} {after}", refit.gain);
        assert!(refit.gain > 0.0);
    }
}

#[test]
fn a_strong_ridge_stays_at_the_start_and_a_start_that_is_right_is_kept() {
    let b = noise(60, 3);
    let (rows, held_out) = (Rows::new(300, 20, 3, 1), Rows::new(100, 20, 3, 41));
    let refit = ridge(&mut rows.normal(), &held_out.normal(), &b, &[1e9]).unwrap();
    assert!(distance(&refit.b, &wide(&b)) < 1e-6);

    // Held-out rows that say the opposite, none at all, no strengths: B0 to the bit.
    let mut opposite = Rows::new(100, 20, 3, 41);
    opposite.y.iter_mut().for_each(|y| *y = -*y);
    let none = Normal::new(20, 3).unwrap();
    let zero = vec![0.0; 60];
    for (held_out, b0, lambdas) in
        [(&opposite.normal(), &zero, &LAMBDAS[..]), (&none, &b, &LAMBDAS), (&held_out.normal(), &b, &[])]
    {
        let refit = ridge(&mut rows.normal(), held_out, b0, lambdas).unwrap();
        assert_eq!((&refit.b, refit.lambda, refit.gain), (b0, None, 0.0));
        assert!(refit.unexplained >= 0.0 && refit.gain.is_sign_positive());
    }
}

#[test]
fn the_chosen_strength_is_solved_for_on_all_rows() {
    let (rows, held_out) = (Rows::correlated(500, 40, 6, 8), Rows::correlated(200, 40, 6, 9));
    let mut noisy = rows.clone();
    noisy.y.iter_mut().zip(noise(3000, 5)).for_each(|(y, e)| *y += e);
    let b0 = noise(240, 12);
    let mut fit = noisy.normal();
    let first = ridge(&mut fit, &held_out.normal(), &b0, &LAMBDAS).unwrap();
    let refit = ridge_on_all(&mut fit, &held_out.normal(), &b0, &LAMBDAS).unwrap();
    assert_eq!((refit.lambda, refit.gain, refit.unexplained), (first.lambda, first.gain, first.unexplained));
    let all = noisy.followed_by(&held_out);
    assert_eq!(fit.n_rows(), 700);
    assert!(distance(&entries(&fit), &wide(&entries(&all.normal()))) < 1e-6);
    assert!(distance(&refit.b, &naive_ridge(&all, &b0, refit.lambda.unwrap())) < 1e-4);
    assert!(distance(&refit.b, &wide(&first.b)) > 1e-4);

    // Where nothing improves, the start stays; rows of another shape are refused.
    let kept = ridge_on_all(&mut rows.normal(), &held_out.normal(), &b0, &[]).unwrap();
    assert_eq!((&kept.b, kept.lambda), (&b0, None));
    assert!(rows.normal().add_all(&Rows::new(9, 39, 6, 1).normal()).is_err());
}

#[test]
fn the_walk_ends_at_the_first_strength_that_is_worse() {
    let b = noise(60, 3);
    let rows = Rows::new(300, 20, 3, 1).planted(&b);
    let held_out = Rows::new(100, 20, 3, 41).planted(&b).normal();
    let chosen = |lambdas: &[f64]| {
        ridge(&mut rows.normal(), &held_out, &[0.0; 60], lambdas).map(|refit| refit.lambda).unwrap()
    };
    assert_eq!(chosen(&[1.0, 1e-1, 1e-3]), Some(1e-3));
    assert_eq!(chosen(&[1e-1, 1.0, 1e-3]), Some(1e-1));
    assert_eq!(chosen(&LAMBDAS), Some(1e-4));
}

#[test]
fn the_first_to_go_is_the_one_whose_loss_costs_least() {
    for (n, m, d, lambda) in [(50, 5, 2, 0.01), (200, 23, 3, 0.1), (90, 31, 1, 1e-3)] {
        let rows = Rows::correlated(n, m, d, 30);
        let (g, c) = rows.exact();
        let g = shifted(g, lambda);
        let without = |j: usize| (0..m).filter(|i| *i != j).collect::<Vec<_>>();
        let naive = (0..m).min_by(|i, j| {
            naive_objective(&g, &c, &without(*i)).total_cmp(&naive_objective(&g, &c, &without(*j)))
        });
        assert_eq!(eliminate(&rows.normal(), m - 1, 1, lambda).unwrap(), without(naive.unwrap()));
    }
}

/// As [`eliminate`], in double precision.
fn naive_eliminate(g: &[Vec<f64>], c: &[Vec<f64>], keep: usize, rounds: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..g.len()).collect();
    for round in 1..=rounds {
        let n = kept.len();
        let sub: Vec<Vec<f64>> = kept.iter().map(|i| kept.iter().map(|j| g[*i][*j]).collect()).collect();
        let b = solved(sub.clone(), kept.iter().map(|i| c[*i].clone()).collect());
        let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect();
        let inverse = solved(sub, (0..n).map(unit).collect());
        let cost = |i: &usize| dot64(&b[*i], &b[*i]) / inverse[*i][*i];
        let mut places: Vec<usize> = (0..n).collect();
        places.sort_by(|i, j| cost(j).total_cmp(&cost(i)));
        places.truncate(if round == rounds { keep } else { keep + (n - keep) / 2 });
        places.sort_unstable();
        kept = places.into_iter().map(|place| kept[place]).collect();
    }
    kept
}

#[test]
fn what_is_kept_explains_as_much_as_what_double_precision_keeps() {
    for (m, d, keep, lambda) in [(120, 4, 40, 0.01), (90, 2, 20, 1e-3), (64, 1, 8, 0.1)] {
        let rows = Rows::correlated(500, m, d, 60);
        let (g, c) = rows.exact();
        let g = shifted(g, lambda);
        let left = |kept: &[usize]| rows.normal().target_energy() + naive_objective(&g, &c, kept);
        let ours = left(&eliminate(&rows.normal(), keep, 6, lambda).unwrap());
        let exact = left(&naive_eliminate(&g, &c, keep, 6));
        assert!((ours - exact).abs() < 1e-3 * exact, "{ours} where double precision leaves {exact}");
    }
}

#[test]
fn what_is_zero_or_double_goes_first() {
    let rows = Rows::new(400, 300, 4, 31).copied(1, &[150]).column_zero(77).column_zero(299);
    let normal = rows.normal();
    let kept = eliminate(&normal, 298, 1, 1e-4).unwrap();
    assert_eq!(kept, (0..300).filter(|i| ![77, 299].contains(i)).collect::<Vec<_>>());
    let kept = eliminate(&normal, 297, 3, 1e-4).unwrap();
    assert!(kept.contains(&1) != kept.contains(&150), "one of two that are alike stays");

    // Groups of 3: one is zero, one the copy of another.
    let mut rows = Rows::new(200, 24, 4, 33);
    for row in rows.z.chunks_exact_mut(24) {
        row.copy_within(0..3, 12);
        row[6..9].fill(0.0);
    }
    let normal = rows.normal();
    assert_eq!(eliminate_groups(&normal, 3, 7, 1e-4).unwrap(), [0, 1, 3, 4, 5, 6, 7]);
    let kept = eliminate_groups(&normal, 3, 6, 1e-4).unwrap();
    assert!(!kept.contains(&2) && kept.contains(&0) != kept.contains(&4));
}

#[test]
fn groups_of_one_are_regressors_one_at_a_time() {
    let normal = Rows::correlated(300, 70, 5, 35).normal();
    for keep in [70, 69, 40, 1] {
        let mut one_by_one: Vec<usize> = (0..70).collect();
        while one_by_one.len() > keep {
            // The strength is a share of the mean of what is left, which the groups measure once.
            let left = normal.subset(&one_by_one).unwrap();
            let lambda = 0.01 * mean_diagonal(&normal) / mean_diagonal(&left);
            let kept = eliminate(&left, one_by_one.len() - 1, 1, lambda).unwrap();
            one_by_one = kept.iter().map(|place| one_by_one[*place]).collect();
        }
        assert_eq!(eliminate_groups(&normal, 1, keep, 0.01).unwrap(), one_by_one);
    }
}

fn mean_diagonal(normal: &Normal) -> f64 {
    let m = normal.n_regressors();
    (0..m).map(|i| f64::from(normal.gram(i, i).unwrap())).sum::<f64>() / m as f64
}

#[test]
fn leverage_of_unrelated_neurons_is_their_size_and_nothing_is_transferred() {
    // Row i has only column i.
    let sizes = [0.5f32, 3.0, 0.0, 1.0, 2.0, 1.0];
    let mut normal = Normal::new(6, 0).unwrap();
    let z: Vec<f32> = (0..36).map(|k| if k % 7 == 0 { sizes[k / 7] } else { 0.0 }).collect();
    normal.add(&z, &[], &[1.0; 6]).unwrap();
    let repair = leverage_keep(&normal, 3, 10.0).unwrap();
    assert_eq!((repair.kept, repair.dropped), (vec![1, 3, 4], vec![0, 2, 5]));
    assert_eq!(repair.transfer, [0.0; 9]);
}

#[test]
fn the_repair_is_exact_where_the_dropped_depend_on_the_kept() {
    // Neurons 4 to 6 are copies of 0; with no ridge to speak of, the kept copy takes over.
    let rows = Rows::new(200, 7, 0, 40).copied(0, &[4, 5, 6]);
    let normal = rows.normal();
    let repair = leverage_keep(&normal, 4, 1e-7).unwrap();
    assert_eq!(repair.kept[1..], [1, 2, 3], "each neuron that stands alone has more leverage than a copy");
    let down = noise(3 * 7, 41);
    let repaired = repair.apply(&down).unwrap();
    let kept = rows.only(&repair.kept);
    for (all, few) in rows.z.chunks_exact(7).zip(kept.z.chunks_exact(4)) {
        for (down, repaired) in down.chunks_exact(7).zip(repaired.chunks_exact(4)) {
            assert!((dot(all, down) - dot(few, repaired)).abs() < 1e-3);
        }
    }
    let all = leverage_keep(&normal, 7, 10.0).unwrap();
    assert_eq!((all.apply(&down).unwrap(), all.dropped.len()), (down, 0));
}

// Naive versions in double precision.

#[test]
fn ridge_is_within_1e_4_of_double_precision() {
    // The last has as many rows as regressors, so that only the ridge bounds its condition.
    let shapes = [
        (40, 3, 2, 1e-4),
        (333, 65, 9, 1e-4),
        (1025, 129, 3, 1e-4),
        (5000, 150, 20, 1e-4),
        (64, 64, 1, 2e-3),
    ];
    for (n, m, d, tolerance) in shapes {
        let rows = Rows::correlated(n, m, d, 50);
        let b0 = noise(m * d, 51).iter().map(|b| b / 8.0).collect::<Vec<_>>();
        for lambda in LAMBDAS {
            // What is held out is what is fitted, so that every strength improves.
            let refit = ridge(&mut rows.normal(), &rows.normal(), &b0, &[lambda]).unwrap();
            let exact = naive_ridge(&rows, &b0, lambda);
            let error = distance(&refit.b, &exact);
            let exact: Vec<f32> = exact.iter().map(|b| *b as f32).collect();
            let energy = rows.error(&vec![0.0; m * d]);
            let fit = (rows.error(&refit.b) - rows.error(&exact)) / energy;
            println!(
                "{n} x {m}, {d} targets, strength {lambda:e}: B {error:.1e}, unexplained share {fit:.1e}"
            );
            assert!(error < tolerance, "{n} {m} {d} {lambda}: {error}");
            assert!(fit.abs() < 5e-6, "{n} {m} {d} {lambda}: {fit}");
        }
    }
}

#[test]
fn sums_are_within_1e_6_of_double_precision() {
    for (n, m, d) in [(1, 1, 1), (3, 5, 2), (1023, 17, 3), (4099, 66, 7)] {
        let rows = Rows::correlated(n, m, d, 55);
        let (g, c) = rows.exact();
        let normal = rows.normal();
        let mut worst: f64 = 0.0;
        for i in 0..m {
            for j in 0..m {
                let error = (f64::from(normal.gram(i, j).unwrap()) - g[i][j]).abs();
                worst = worst.max(error / (g[i][i] * g[j][j]).sqrt());
            }
            for (j, exact) in c[i].iter().enumerate() {
                let error = (f64::from(normal.correlation(j).unwrap()[i]) - exact).abs();
                worst = worst.max(error / (g[i][i] * normal.target_energy()).sqrt());
            }
        }
        println!("{n} x {m}: error {worst:.1e}");
        assert!(worst < 1e-6, "{n} {m}: {worst}");
        assert_eq!(
            (normal.gram(m, 0), normal.gram(0, usize::MAX), normal.correlation(d)),
            (None, None, None)
        );
    }
}

#[test]
fn groups_go_in_the_order_that_a_search_finds() {
    for (n, size, groups, lambda) in [(150, 1, 9, 0.01), (300, 5, 7, 0.01), (80, 13, 4, 0.1)] {
        let m = size * groups;
        let rows = Rows::correlated(n, m, 3, 60);
        let (g, c) = rows.exact();
        let g = shifted(g, lambda);
        let members = |kept: &[usize]| kept.iter().flat_map(|k| k * size..(k + 1) * size).collect::<Vec<_>>();
        let mut kept: Vec<usize> = (0..groups).collect();
        while kept.len() > 1 {
            let without = |j: &usize| kept.iter().copied().filter(|k| k != j).collect::<Vec<_>>();
            let objective = |j: &usize| naive_objective(&g, &c, &members(&without(j)));
            let cheapest = kept.iter().min_by(|a, b| objective(a).total_cmp(&objective(b))).copied().unwrap();
            kept.retain(|k| *k != cheapest);
            assert_eq!(eliminate_groups(&rows.normal(), size, kept.len(), lambda).unwrap(), kept);
        }
    }
}

#[test]
fn leverage_is_the_diagonal_of_its_definition() {
    for (n, m, keep) in [(30, 4, 2), (300, 41, 13), (100, 300, 120)] {
        let rows = Rows::correlated(n, m, 0, 70);
        let repair = leverage_keep(&rows.normal(), keep, 10.0).unwrap();
        let (g, _) = Rows { d: 1, y: vec![0.0; n], ..rows }.exact();
        let regular = shifted(g.clone(), 10.0);
        // C (C + lam I)^-1 is symmetric with (C + lam I)^-1 C.
        let product = solved(regular.clone(), g.clone());
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by(|a, b| product[*b][*b].total_cmp(&product[*a][*a]));
        let mut kept = order[..keep].to_vec();
        kept.sort_unstable();
        assert_eq!(repair.kept, kept);
        let pick = |of: &[Vec<f64>], columns: &[usize]| -> Vec<Vec<f64>> {
            kept.iter().map(|i| columns.iter().map(|j| of[*i][*j]).collect()).collect()
        };
        let transfer = solved(pick(&regular, &kept), pick(&g, &repair.dropped));
        let expected: Vec<f64> = (0..m - keep).flat_map(|j| transfer.iter().map(move |row| row[j])).collect();
        assert!(distance(&repair.transfer, &expected) < 1e-5);
    }
}

// Ill-conditioned problems.

#[test]
fn dependent_regressors_never_make_nan() {
    let cases = [
        Rows::new(500, 130, 3, 80).copied(0, &(1..130).collect::<Vec<_>>()),
        Rows::new(500, 130, 3, 81).copied(5, &[6, 100]),
        Rows::new(20, 130, 3, 82),
        Rows::new(1, 130, 3, 83),
        Rows { z: vec![0.0; 50 * 130], ..Rows::new(50, 130, 3, 84) },
    ];
    for (place, rows) in cases.iter().enumerate() {
        let held_out = Rows::new(100, 130, 3, 85);
        let b0 = noise(390, 86);
        for lambdas in [&LAMBDAS[..], &[0.0], &[1e-12, 1e-9, 1e-7], &[0.0, 1e-2]] {
            let refit = ridge(&mut rows.normal(), &held_out.normal(), &b0, lambdas).unwrap();
            assert!(refit.b.iter().all(|b| b.is_finite()), "case {place}");
            assert!((0.0..=1.0).contains(&refit.gain) && refit.unexplained.is_finite());
            assert!(
                held_out.error(&refit.b) <= held_out.error(&b0) * (1.0 + 1e-6),
                "case {place} {lambdas:?}"
            );
        }
        for result in [
            eliminate(&rows.normal(), 40, 4, 0.01),
            eliminate_groups(&rows.normal(), 10, 4, 0.01),
            leverage_keep(&rows.normal(), 40, 10.0).map(|repair| repair.kept),
            eliminate(&rows.normal(), 40, 4, 0.0),
            eliminate_groups(&rows.normal(), 10, 4, 0.0),
            leverage_keep(&rows.normal(), 40, 0.0).map(|repair| repair.kept),
        ] {
            match result {
                Ok(kept) => assert!(kept.is_sorted_by(|a, b| a < b) && kept.iter().all(|i| *i < 130)),
                Err(error) => assert!(matches!(error, Error::Numeric(_))),
            }
        }
    }
}

#[test]
fn what_f32_cannot_factor_is_factored_in_f64() {
    // Copies make G singular, and its rounding in f32 is far above this strength.
    let rows = Rows::new(500, 90, 2, 87).copied(0, &(1..60).collect::<Vec<_>>());
    let refit = ridge(&mut rows.normal(), &rows.normal(), &[0.0; 180], &[1e-6]).unwrap();
    assert_eq!(refit.lambda, Some(1e-6));
    let best = naive_ridge(&rows, &[0.0; 180], 1e-6).iter().map(|b| *b as f32).collect::<Vec<_>>();
    assert!(rows.error(&refit.b) < rows.error(&best) * (1.0 + 1e-4));
}

// Stored numbers.

#[test]
fn stored_numbers_of_numpy() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("least_squares/golden.json")).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let indices = |value: &serde_json::Value| numbers(value).iter().map(|x| *x as usize).collect::<Vec<_>>();
    let (rows, held_out) = (Rows::new(160, 24, 5, 100), Rows::new(40, 24, 5, 200));
    let b0: Vec<f32> = noise(120, 300).iter().map(|x| x / 8.0).collect();

    let refit = ridge(&mut rows.normal(), &held_out.normal(), &b0, &LAMBDAS).unwrap();
    let expected = &golden["refit"];
    assert_eq!(refit.lambda, expected["lambda"].as_f64());
    assert!((refit.gain - expected["gain"].as_f64().unwrap()).abs() < 1e-6);
    assert!((refit.unexplained - expected["unexplained"].as_f64().unwrap()).abs() < 1e-6);
    assert!(distance(&refit.b, &numbers(&expected["b"])) < 1e-6);

    let mut worse = held_out.clone();
    worse.y.iter_mut().for_each(|y| *y = -*y);
    let refit = ridge(&mut rows.normal(), &worse.normal(), &[0.0; 120], &LAMBDAS).unwrap();
    assert_eq!(refit.lambda, golden["kept_b0"]["lambda"].as_f64());

    let normal = rows.normal();
    assert_eq!(eliminate(&normal, 10, 3, 0.01).unwrap(), indices(&golden["eliminate"]));
    assert_eq!(eliminate_groups(&normal, 4, 3, 0.01).unwrap(), indices(&golden["eliminate_groups"]));
    let repair = leverage_keep(&normal, 10, 10.0).unwrap();
    assert_eq!(repair.kept, indices(&golden["leverage"]["kept"]));
    assert!(distance(&repair.transfer, &numbers(&golden["leverage"]["transfer"])) < 1e-5);
}

// Bad input.

#[test]
fn what_is_not_finite_is_an_error() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 57, 149] {
            for which in 0..3 {
                let mut rows = Rows::new(50, 3, 3, 90);
                let of = [&mut rows.z, &mut rows.y, &mut rows.w].into_iter().nth(which).unwrap();
                let place = place.min(of.len() - 1);
                of[place] = bad;
                let result = Normal::new(3, 3).unwrap().add(&rows.z, &rows.y, &rows.w);
                assert!(matches!(result, Err(Error::Numeric(_))), "{bad} {place} {which}");
            }
        }
        let normal = Rows::new(50, 3, 3, 90).normal();
        let result = ridge(&mut normal.clone(), &normal, &[bad; 9], &LAMBDAS);
        assert!(matches!(result, Err(Error::Numeric(_))));
    }
    // Finite, but not its square.
    let fine = Rows::new(50, 3, 3, 91).normal();
    for which in 0..2 {
        let mut rows = Rows::new(50, 3, 3, 91);
        [&mut rows.z, &mut rows.y].into_iter().nth(which).unwrap().iter_mut().for_each(|x| *x *= 1e30);
        let large = rows.normal();
        let numeric = |result: Result<(), Error>| matches!(result, Err(Error::Numeric(_)));
        assert!(which == 1 || numeric(ridge(&mut large.clone(), &fine, &[0.0; 9], &LAMBDAS).map(|_| ())));
        assert!(which == 1 || numeric(ridge(&mut fine.clone(), &large, &[0.0; 9], &LAMBDAS).map(|_| ())));
        let kept = eliminate(&large, 2, 1, 0.01);
        assert!(kept.is_ok() || numeric(kept.map(|_| ())));
        assert!(which == 1 || numeric(eliminate_groups(&large, 1, 2, 0.01).map(|_| ())));
        assert!(which == 1 || numeric(leverage_keep(&large, 2, 10.0).map(|_| ())));
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let usage = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Usage(_))), "{result:?}");
    usage(Normal::new(0, 3).map(|_| ()));
    let rows = Rows::new(50, 6, 3, 90);
    let mut normal = rows.normal();
    usage(normal.add(&rows.z, &rows.y, &rows.w[1..]));
    usage(normal.add(&rows.z[1..], &rows.y, &rows.w));
    usage(normal.add(&rows.z, &rows.y[1..], &rows.w));
    usage(normal.subset(&[0, 6]).map(|_| ()));
    usage(normal.subset(&[]).map(|_| ()));
    for b0 in [17, 19, 0] {
        usage(ridge(&mut normal, &rows.normal(), &vec![0.0; b0], &LAMBDAS).map(|_| ()));
    }
    usage(ridge(&mut normal, &Normal::new(6, 2).unwrap(), &[0.0; 18], &LAMBDAS).map(|_| ()));
    usage(ridge(&mut normal, &Normal::new(5, 3).unwrap(), &[0.0; 18], &LAMBDAS).map(|_| ()));
    for lambda in [-1.0, f64::NAN, f64::INFINITY] {
        usage(ridge(&mut normal, &rows.normal(), &[0.0; 18], &[lambda]).map(|_| ()));
        usage(eliminate(&normal, 2, 1, lambda).map(|_| ()));
        usage(eliminate_groups(&normal, 2, 2, lambda).map(|_| ()));
        usage(leverage_keep(&normal, 2, lambda).map(|_| ()));
    }
    for keep in [0, 7] {
        usage(eliminate(&normal, keep, 1, 0.01).map(|_| ()));
        usage(leverage_keep(&normal, keep, 10.0).map(|_| ()));
        usage(eliminate_groups(&normal, 1, keep, 0.01).map(|_| ()));
    }
    usage(eliminate(&normal, 2, 0, 0.01).map(|_| ()));
    let no_targets = Normal::new(6, 0).unwrap();
    usage(eliminate(&no_targets, 2, 1, 0.01).map(|_| ()));
    usage(eliminate_groups(&no_targets, 1, 2, 0.01).map(|_| ()));
    usage(eliminate_groups(&normal, 0, 1, 0.01).map(|_| ()));
    usage(eliminate_groups(&normal, 4, 1, 0.01).map(|_| ()));
    usage(leverage_keep(&normal, 3, 10.0).unwrap().apply(&[0.0; 7]).map(|_| ()));
}

#[test]
fn memory_is_told_beforehand_and_too_much_is_an_error() {
    assert_eq!(Normal::bytes(2112, 576), 4 * 2112 * (2112 + 576) + 4 * 1024 * (2112 + 576));
    assert!(ridge_bytes(2112, 576) > 4 * 5 * 2112 * 576);
    assert!(eliminate_bytes(6144) > 4 * 6144 * 6144 && leverage_bytes(6144) == 2 * eliminate_bytes(6144));
    assert_eq!(eliminate_groups_bytes(100, 10), 16 * 100 * 110);
    let huge = usize::MAX / 2;
    assert_eq!(Normal::bytes(huge, huge), u64::MAX);
    assert!(matches!(Normal::new(huge, 1), Err(Error::Limit(_))));
    assert!(matches!(Normal::new(1, huge), Err(Error::Limit(_))));
}
