//! Scratch space: what a run has made and needs again only later, out of memory until then.
//!
//! Everything in it belongs to the run that made it. A store that holds a scratch space is emptied when the run ends, by
//! whoever made the store; what nobody refers to any more is removed before the next bytes are written.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

use futures::lock::Mutex;

use super::parts::PartStore;
use super::source::{ByteSource, SharedSource, read_checked};
use crate::{Error, Result};

/// Begins the names of parts of a scratch space.
const PREFIX: &str = "scratch-";

/// A place for bytes that are needed again only later.
pub struct Scratch {
    files: Mutex<Files>,
    /// Remark on the refusal of the store.
    refused: RefCell<Option<String>>,
}

struct Files {
    store: Box<dyn PartStore>,
    /// Parts that were written.
    count: u64,
    /// Parts that are not removed yet.
    parts: Vec<(String, Weak<dyn ByteSource>)>,
}

/// Bytes that a run has made: in memory, or in a scratch space.
#[derive(Clone)]
pub struct Held(Place);

#[derive(Clone)]
enum Place {
    Memory(Rc<Vec<u8>>),
    Scratch { source: SharedSource, offset: u64, length: u64 },
}

impl Scratch {
    /// Makes an empty scratch space in `store`, which nothing else uses.
    pub fn new(store: Box<dyn PartStore>) -> Self {
        let files = Files { store, count: 0, parts: Vec::new() };
        Self { files: Mutex::new(files), refused: RefCell::new(None) }
    }

    /// Moves those of `held` that are in memory into the scratch space, as one part. If the store refuses them, they and all
    /// that come later stay in memory, which a remark says ([`refused`](Self::refused)).
    pub async fn take(&self, held: Vec<&mut Held>) {
        if self.refused.borrow().is_some() {
            return;
        }
        let (mut offset, mut moving) = (0, Vec::new());
        for each in held {
            if let Place::Memory(bytes) = &each.0 {
                let (bytes, length) = (Rc::clone(bytes), bytes.len() as u64);
                moving.push((each, bytes, offset));
                offset += length;
            }
        }
        if offset == 0 {
            return;
        }
        let bytes: Vec<&[u8]> = moving.iter().map(|(_, bytes, _)| bytes.as_slice()).collect();
        match self.files.lock().await.write(&bytes, offset).await {
            Ok(source) => {
                for (each, bytes, offset) in moving {
                    let (source, length) = (Rc::clone(&source), bytes.len() as u64);
                    *each = Held(Place::Scratch { source, offset, length });
                }
            }
            Err(e) => {
                let said = format!("Finished layers stay in memory until they are written, because {e}.");
                self.refused.replace(Some(said));
            }
        }
    }

    /// Returns a remark to the reader, in a sentence, if the store has refused to take more.
    pub fn refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }
}

impl Files {
    /// Writes `pieces`, of `length` bytes together, as one part, and opens it.
    async fn write(&mut self, pieces: &[&[u8]], length: u64) -> Result<SharedSource> {
        self.sweep().await?;
        let name = format!("{PREFIX}{}", self.count);
        self.count += 1;
        self.store.create(&name).await?;
        for piece in pieces {
            self.store.write(piece).await?;
        }
        self.store.close().await?;
        let source = self.store.open(&name).await?;
        if source.size() != length {
            return Err(Error::Source(format!("{name} has {} bytes in place of {length}", source.size())));
        }
        self.parts.push((name, Rc::downgrade(&source)));
        Ok(source)
    }

    /// Removes the parts to which nothing refers.
    async fn sweep(&mut self) -> Result<()> {
        let (living, dead): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parts).into_iter().partition(|(_, part)| part.strong_count() > 0);
        self.parts = living;
        for (name, _) in dead {
            self.store.remove(&name).await?;
        }
        Ok(())
    }
}

impl Held {
    /// Returns the number of bytes, wherever they are.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::Scratch { length, .. } => *length,
        }
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the bytes are in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.0, Place::Memory(_))
    }

    /// Returns the bytes, which are read if they are not in memory.
    ///
    /// # Errors
    /// Those of [`read_checked`].
    pub async fn read(&self) -> Result<Cow<'_, [u8]>> {
        match &self.0 {
            Place::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Place::Scratch { source, offset, length } => {
                read_checked(source.as_ref(), *offset, *length).await.map(Cow::Owned)
            }
        }
    }
}

impl From<Vec<u8>> for Held {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Place::Memory(Rc::new(bytes)))
    }
}

/// Bytes in a scratch space equal others only if they are the same range of the same part.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Memory(a), Place::Memory(b)) => a == b,
            (
                Place::Scratch { source: a, offset: from, length },
                Place::Scratch { source: b, offset: other_from, length: other_length },
            ) => Rc::ptr_eq(a, b) && from == other_from && length == other_length,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.is_in_memory() { "memory" } else { "a scratch space" };
        write!(f, "{} bytes in {place}", self.len())
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::future::LocalBoxFuture;

    use super::*;
    use crate::files::parts::DirectoryParts;

    #[test]
    fn what_is_taken_is_read_back_and_removed_when_nothing_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<String> = std::fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let scratch = Scratch::new(Box::new(DirectoryParts::open(folder.path()).unwrap()));
        let (mut a, mut b) = (Held::from(vec![1, 2, 3]), Held::from(vec![4]));
        let copy = a.clone();
        block_on(scratch.take(vec![&mut a, &mut b]));
        assert!(!a.is_in_memory() && !b.is_in_memory() && copy.is_in_memory());
        assert_eq!((a.len(), b.len()), (3, 1));
        assert_eq!(
            (&*block_on(a.read()).unwrap(), &*block_on(b.read()).unwrap()),
            (&[1, 2, 3][..], &[4][..])
        );
        assert_eq!(a, a.clone());
        assert!(a != b && a != copy);
        // What lies there already is not written again.
        let mut again = a.clone();
        block_on(scratch.take(vec![&mut again]));
        assert_eq!((names(), &again), (vec!["scratch-0".to_owned()], &a));
        drop((a, again));
        let mut c = Held::from(vec![5]);
        block_on(scratch.take(vec![&mut c]));
        assert_eq!(names(), ["scratch-0", "scratch-1"], "the first has bytes that something needs");
        drop(b);
        let mut d = Held::from(vec![6]);
        block_on(scratch.take(vec![&mut d]));
        assert_eq!(names(), ["scratch-1", "scratch-2"]);
        assert_eq!(scratch.refused(), None);
    }

    /// A store on a full disk.
    struct Full;

    fn full<'a, T: 'a>() -> LocalBoxFuture<'a, Result<T>> {
        Box::pin(std::future::ready(Err(Error::Source("the disk is full".to_owned()))))
    }

    impl PartStore for Full {
        fn create<'a>(&'a mut self, _: &'a str) -> LocalBoxFuture<'a, Result<()>> {
            Box::pin(std::future::ready(Ok(())))
        }

        fn write<'a>(&'a mut self, _: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
            full()
        }

        fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
            full()
        }

        fn names(&self) -> LocalBoxFuture<'_, Result<Vec<String>>> {
            full()
        }

        fn open<'a>(&'a self, _: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
            full()
        }

        fn remove<'a>(&'a mut self, _: &'a str) -> LocalBoxFuture<'a, Result<()>> {
            full()
        }
    }

    #[test]
    fn what_a_store_refuses_stays_in_memory() {
        let scratch = Scratch::new(Box::new(Full));
        let mut held = Held::from(vec![1, 2]);
        block_on(scratch.take(vec![&mut held]));
        assert!(held.is_in_memory());
        assert_eq!(&*block_on(held.read()).unwrap(), [1, 2]);
        assert!(scratch.refused().unwrap().contains("the disk is full"));
    }
}
