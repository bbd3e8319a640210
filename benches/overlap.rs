//! Benchmark: reading overlaps computing. One pass over a model whose file delivers 200 MB/s, against reading
//! alone and computing alone.
//!
//! usage: cargo bench --bench overlap -- MODEL.gguf [SEQUENCES]

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use laminate::files::source::{SharedSource, open_path};
use laminate::{Accelerator, ByteSource, CalibrationOptions, Model, Result, Silent, evaluate};

const BYTES_PER_SECOND: f64 = 200e6;

/// A file at the far end of one link: reads wait for those before them.
struct Link {
    file: SharedSource,
    free: Rc<Cell<Instant>>,
    read: Rc<Cell<u64>>,
}

impl ByteSource for Link {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read(&self, offset: u64, length: usize) -> LocalBoxFuture<'static, Result<Vec<u8>>> {
        self.read.set(self.read.get() + length as u64);
        let there =
            self.free.get().max(Instant::now()) + Duration::from_secs_f64(length as f64 / BYTES_PER_SECOND);
        self.free.set(there);
        let bytes = self.file.read(offset, length);
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(there.saturating_duration_since(Instant::now()));
            let _ = sender.send(());
        });
        Box::pin(async move {
            let _ = receiver.await;
            bytes.await
        })
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(path) = arguments.first() else {
        println!("overlap: give a model");
        return;
    };
    let samples = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(8);
    let options = CalibrationOptions { samples, tokens: 16, ..CalibrationOptions::default() };
    let accelerator = Accelerator::cpu("benchmark");
    let run = |files: &[SharedSource]| {
        let model = block_on(Model::open("bench", files)).unwrap();
        let start = Instant::now();
        block_on(evaluate(&model, None, &accelerator, &options.text_options(), &Silent)).unwrap();
        start.elapsed().as_secs_f64()
    };
    let files = open_path(Path::new(path)).unwrap();
    // The first run brings the file into memory.
    run(&files);
    let compute = run(&files);
    let (free, read) = (Rc::new(Cell::new(Instant::now())), Rc::new(Cell::new(0)));
    let link = |file: &SharedSource| {
        Rc::new(Link { file: Rc::clone(file), free: Rc::clone(&free), read: Rc::clone(&read) })
            as SharedSource
    };
    let links: Vec<SharedSource> = files.iter().map(link).collect();
    let model = block_on(Model::open("bench", &links)).unwrap();
    read.set(0);
    let start = Instant::now();
    block_on(evaluate(&model, None, &accelerator, &options.text_options(), &Silent)).unwrap();
    let together = start.elapsed().as_secs_f64();
    let reading = read.get() as f64 / BYTES_PER_SECOND;
    println!(
        "overlap: computing {compute:.1} s, reading {reading:.1} s, together {together:.1} s, {:.2} of the larger",
        together / compute.max(reading)
    );
}
