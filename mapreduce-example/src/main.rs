//! The program: see [`mapreduce_example`].

use std::process::ExitCode;

use mapreduce_example::job::Registry;

#[tokio::main]
async fn main() -> ExitCode {
    mapreduce_example::cli::run(Registry::shipped(), std::env::args_os()).await
}
