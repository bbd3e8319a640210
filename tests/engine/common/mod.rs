//! What the integration tests share: fixtures, an executor, a folder in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use laminate::files::source::{MemorySource, SharedSource};
use laminate::protocol::events::Stage;
use laminate::{
    Accelerator, Error, Event, Model, Observer, OutputFolder, PartStore, PlanOptions, Result, Session,
};
use serde_json::Value;

pub fn run<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

pub fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

pub fn cpu() -> Accelerator {
    Accelerator::cpu("tests")
}

/// Files by name, to be damaged.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of a fixture model, with a tokenizer.
pub fn files(model: &str) -> Files {
    let mut files = Files::new();
    for folder in ["models/stories260K", &format!("models/{model}")] {
        for entry in std::fs::read_dir(data(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if folder.ends_with(model) || name == "tokenizer.json" {
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

pub fn sources(files: &Files) -> Vec<SharedSource> {
    let source = |(name, bytes): (&String, &Vec<u8>)| {
        Rc::new(MemorySource::new(name.clone(), bytes.clone())) as SharedSource
    };
    files.iter().map(source).collect()
}

pub fn open_files(files: &Files) -> Result<Model> {
    run(Model::open("fixture", &sources(files)))
}

pub fn open(model: &str) -> Model {
    open_files(&files(model)).unwrap()
}

pub fn session(model: &str) -> Session {
    Session::new(open(model), cpu())
}

pub fn remove(k: usize) -> PlanOptions {
    PlanOptions { remove: Some(k), ..PlanOptions::default() }
}

/// A JSON fixture.
pub fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data(path)).unwrap()).unwrap()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A folder in memory, shared so that it can be looked at afterwards; it may be told to fail.
#[derive(Clone, Default)]
pub struct MemoryFolder {
    pub state: Rc<RefCell<FolderState>>,
}

#[derive(Default)]
pub struct FolderState {
    pub files: Files,
    pub committed: bool,
    pub aborted: bool,
    /// Bytes after which the medium is full.
    pub capacity: Option<usize>,
    /// Flip a bit of this file when it is read back.
    pub corrupt: Option<String>,
    open: Option<String>,
}

fn ready<'a, T: 'a>(value: Result<T>) -> LocalBoxFuture<'a, Result<T>> {
    Box::pin(std::future::ready(value))
}

impl OutputFolder for MemoryFolder {
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        let mut state = self.state.borrow_mut();
        state.files.insert(name.to_owned(), Vec::new());
        state.open = Some(name.to_owned());
        ready(Ok(()))
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
        let mut state = self.state.borrow_mut();
        let used: usize = state.files.values().map(Vec::len).sum();
        if state.capacity.is_some_and(|capacity| used + bytes.len() > capacity) {
            return ready(Err(Error::Source("memory: the disk is full".to_owned())));
        }
        let name = state.open.clone().unwrap();
        state.files.get_mut(&name).unwrap().extend_from_slice(bytes);
        ready(Ok(()))
    }

    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        self.state.borrow_mut().open = None;
        ready(Ok(()))
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
        let state = self.state.borrow();
        let mut bytes = state.files[name].clone();
        if state.corrupt.as_deref() == Some(name) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        ready(Ok(Rc::new(MemorySource::new(name.to_owned(), bytes))))
    }

    fn commit(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        self.state.borrow_mut().committed = true;
        ready(Ok(()))
    }

    fn abort(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        let mut state = self.state.borrow_mut();
        state.aborted = true;
        state.files.clear();
        ready(Ok(()))
    }
}

/// Stops the run at the given step of a stage.
pub struct StopAt(pub Stage, pub u64);

impl Observer for StopAt {
    fn event(&self, event: Event) -> LocalBoxFuture<'_, Result<()>> {
        let stop = matches!(&event, Event::Progress(p) if p.stage == self.0 && p.done >= self.1);
        ready(if stop { Err(Error::Cancelled) } else { Ok(()) })
    }
}

/// Parts in memory, shared so that they can be looked at and damaged; the medium may be told to be full.
#[derive(Clone, Default)]
pub struct MemoryParts {
    pub parts: Rc<RefCell<Files>>,
    /// Bytes after which the medium is full.
    capacity: Option<usize>,
    /// How long hidden states take to be written.
    delay: Duration,
    open: Option<(String, Vec<u8>)>,
}

impl MemoryParts {
    pub fn full_at(capacity: usize) -> Self {
        Self { capacity: Some(capacity), ..Self::default() }
    }

    pub fn slow(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}

impl PartStore for MemoryParts {
    fn create<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        self.open = Some((name.to_owned(), Vec::new()));
        ready(Ok(()))
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<()>> {
        let used: usize = self.parts.borrow().values().map(Vec::len).sum();
        let (_, open) = self.open.as_mut().unwrap();
        if self.capacity.is_some_and(|capacity| used + open.len() + bytes.len() > capacity) {
            return ready(Err(Error::Limit("memory: the disk is full".to_owned())));
        }
        open.extend_from_slice(bytes);
        ready(Ok(()))
    }

    fn close(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        let (name, bytes) = self.open.take().unwrap();
        if name.starts_with("states-") {
            std::thread::sleep(self.delay);
        }
        self.parts.borrow_mut().insert(name, bytes);
        ready(Ok(()))
    }

    fn names(&self) -> LocalBoxFuture<'_, Result<Vec<String>>> {
        ready(Ok(self.parts.borrow().keys().cloned().collect()))
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalBoxFuture<'a, Result<SharedSource>> {
        let bytes = self.parts.borrow().get(name).cloned();
        ready(match bytes {
            Some(bytes) => Ok(Rc::new(MemorySource::new(name.to_owned(), bytes))),
            None => Err(Error::Source(format!("{name}: not there"))),
        })
    }

    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<()>> {
        self.parts.borrow_mut().remove(name);
        ready(Ok(()))
    }
}
