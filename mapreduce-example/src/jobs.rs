//! The jobs that come with the crate.
//!
//! | file | what is in it |
//! |---|---|
//! | [`word_count`] | how often each word occurs |
//! | [`inverted_index`] | which inputs each word occurs in |
//! | [`grep`] | the lines that match a regular expression |
//! | [`top_n`] | the words that occur most often |
//! | [`sort`] | all lines in order |
//! | `jobs/words.rs` | what a word is |

pub mod grep;
pub mod inverted_index;
pub mod sort;
pub mod top_n;
pub mod word_count;
mod words;

pub use words::words;

use crate::job::Kind;

pub(crate) fn kinds() -> [Kind; 5] {
    [word_count::kind(), inverted_index::kind(), grep::kind(), top_n::kind(), sort::kind()]
}
