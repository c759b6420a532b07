//! The program: see [`mapreduce_example`].

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    mapreduce_example::cli::run(std::env::args_os()).await
}
