//! Threads: the only module that knows whether the target has them.

use faer::Par;

/// Returns the number of threads that share large products, at least 1.
pub fn count() -> usize {
    #[cfg(not(target_arch = "wasm32"))]
    {
        rayon::current_num_threads().max(1)
    }
    #[cfg(target_arch = "wasm32")]
    super::panels::pool::threads()
}

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

/// Returns the parallelism of a single large product that has the whole machine to itself.
pub(crate) fn whole_machine() -> Par {
    #[cfg(not(target_arch = "wasm32"))]
    {
        Par::rayon(0)
    }
    #[cfg(target_arch = "wasm32")]
    Par::Seq
}

/// Maps `f` over the indices `0..n` on all cores, where each call is little work.
pub fn map_rows<R: Send>(n: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    map_some(n, 16, f)
}

/// Maps `f` over the indices `0..n` on all cores, where each call is much work.
pub fn map_all<R: Send>(n: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    map_some(n, 1, f)
}

/// Maps `f` over the indices `0..n` on all cores; a core takes at least `least` indices at a time.
fn map_some<R: Send>(n: usize, least: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        // Waking another thread takes longer than many a single piece of work.
        if n <= least {
            return (0..n).map(f).collect();
        }
        (0..n).into_par_iter().with_min_len(least).map(f).collect()
    }
    #[cfg(target_arch = "wasm32")]
    {
        let _ = least;
        (0..n).map(f).collect()
    }
}

/// Applies `f` to each of `pieces`, on all cores.
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
