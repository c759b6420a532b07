//! The program `lock-example`: everything is in the library, see [`lock_example`].

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    lock_example::cli::run(std::env::args_os()).await
}
