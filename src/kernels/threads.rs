//! The only place that knows whether there are threads.

use faer::Par;

/// Maps `f` over `items`, in parallel where the target has threads; results keep the order.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        items.par_iter().map(f).collect()
    }
    #[cfg(target_arch = "wasm32")]
    items.iter().map(f).collect()
}

/// How a single large product is computed when nothing else runs beside it.
pub(crate) fn whole_machine() -> Par {
    #[cfg(not(target_arch = "wasm32"))]
    {
        Par::rayon(0)
    }
    #[cfg(target_arch = "wasm32")]
    Par::Seq
}

/// `f` of each index in `0..n`, on all cores, where each is little work.
pub fn map_rows<R: Send>(n: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    map_some(n, 16, f)
}

/// `f` of each index in `0..n`, on all cores, where each is much work.
pub fn map_all<R: Send>(n: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    map_some(n, 1, f)
}

/// `f` of each index in `0..n`, of at least so many of them on a core at a time.
fn map_some<R: Send>(n: usize, least: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        (0..n).into_par_iter().with_min_len(least).map(f).collect()
    }
    #[cfg(target_arch = "wasm32")]
    {
        let _ = least;
        (0..n).map(f).collect()
    }
}

/// `f` of each of `pieces`, on all cores.
pub fn for_pieces<T: Send>(pieces: impl Iterator<Item = T> + Send, f: impl Fn(T) + Sync + Send) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        let pieces: Vec<T> = pieces.collect();
        pieces.into_par_iter().for_each(f);
    }
    #[cfg(target_arch = "wasm32")]
    pieces.for_each(f);
}
