//! The program `kv-example`: everything is in the library, see [`kv_example`].

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    kv_example::cli::run(std::env::args_os()).await
}
