//! All code that reads and writes files: weights come in through a [`ByteSource`](source::ByteSource), a new
//! model goes out through an [`OutputFolder`](sink::OutputFolder), and parts of an unfinished run are kept in
//! a [`PartStore`](parts::PartStore), and what a run has made waits in a [`Scratch`](scratch::Scratch).

pub mod part;
pub mod parts;
pub mod scratch;
pub mod sink;
pub mod source;
