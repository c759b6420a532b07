//! A program with jobs of its own, as its users would write one: the tests of real processes run it. Its jobs do what the tests
//! want to see.
//!
//! | file | what is in it |
//! |---|---|
//! | `program/clumsy.rs` | a job that fails as it is told to |
//! | `program/staged.rs` | a job whose calls leave a mark each, and wait as long as they are held |

mod clumsy;
mod staged;

use std::process::ExitCode;

use mapreduce_example::job::Registry;

#[tokio::main]
async fn main() -> ExitCode {
    if let Ok(greeting) = std::env::var("GREETING") {
        print!("{greeting}");
    }
    let mut registry = Registry::shipped();
    registry.add(clumsy::kind());
    registry.add(staged::kind());
    mapreduce_example::cli::run(registry, std::env::args_os()).await
}
