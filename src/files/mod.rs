//! All code that reads and writes files: weights come in through a [`ByteSource`](source::ByteSource), a new
//! model goes out through an [`OutputFolder`](sink::OutputFolder), and parts of an unfinished run are kept in
//! a [`PartStore`](parts::PartStore).

pub mod part;
pub mod parts;
pub mod sink;
pub mod source;
