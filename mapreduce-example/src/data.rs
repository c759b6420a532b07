//! All that touches data: inputs, what is between map and reduce, results. Through the `object_store` crate, so that a folder
//! and a bucket are the same.
//!
//! | file | what is in it |
//! |---|---|
//! | `data/location.rs` | a place in a store, by its URL; reading, listing and deleting there |
//! | `data/object.rs` | an object that is written piece by piece, and is there as a whole or not at all |
//! | `data/inputs.rs` | patterns and URLs in, splits out; samples |
//! | `data/lines.rs` | the whole lines of a split, in bounded pieces |
//! | `data/encode.rs` | the form of keys and values on the disk |
//! | `data/run.rs` | a sorted run: written by a map task, read by its reduce tasks |
//! | `data/merge.rs` | many runs as one, group by group |
//! | `data/layout.rs` | which attempt writes where |
//! | `data/publish.rs` | the results get their names |
//! | `data/shown.rs` | a key as people read it |
//! | `data/wait.rs` | drives a store's future on the calling thread |
//!
//! All of it is synchronous: `data/wait.rs` drives a store's future on the calling thread. A local folder does its work right there.
//! The stores of the `cloud` feature need tokio: their caller enters a runtime's handle, on a thread that is not the runtime's.

mod encode;
mod inputs;
mod layout;
mod lines;
mod location;
mod merge;
mod object;
mod publish;
mod run;
mod shown;
mod wait;

pub(crate) use encode::{
    COMBINED_BYTES_MAX, ENCODED_BYTES_MAX, encoded_bytes, long_key, stable_hash,
};
pub(crate) use inputs::sample_lines;
pub use inputs::{InputError, SPLIT_BYTES_MAX, SPLITS_MAX, splits};
pub(crate) use layout::Layout;
pub(crate) use lines::Pieces;
pub use location::{DataError, Location, Stores};
pub(crate) use merge::{Merge, Source};
pub(crate) use object::ObjectWriter;
pub(crate) use publish::{abandon, publish};
pub use publish::{clear, is_empty};
pub(crate) use run::{Run, RunWriter, catalogue};
pub(crate) use shown::shown;
pub(crate) use wait::wait;
