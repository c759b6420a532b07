//! The program `lock-example`: everything is in the library, see [`lock_example`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(lock_example::cli::run(std::env::args_os()));
    // Whatever a thread still waits for, the address of a host say, is not worth waiting for.
    runtime.shutdown_background();
    code
}
