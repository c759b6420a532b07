//! The tokio runtime keeps the contract, in both flavours of tokio.

use std::sync::{Arc, OnceLock};

use raft_rsm::Runtime;
use raft_rsm::runtime::TokioRuntime;

fn multi_thread() -> Arc<dyn Runtime> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    Arc::new(TokioRuntime::new(runtime.handle().clone()))
}

raft_rsm::runtime_conformance!(multi_thread());

#[test]
fn current_needs_a_runtime() {
    assert!(TokioRuntime::current().is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert!(runtime.block_on(async { TokioRuntime::current() }).is_ok());
}

#[test]
fn a_tokio_runtime_that_is_dropped_does_not_wait_for_blocking_work() {
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let runtime = TokioRuntime::new(tokio.handle().clone());
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (done, finished) = std::sync::mpsc::channel();
    runtime.spawn_blocking(
        "work",
        Box::new(move || {
            let _ = held.recv();
            let _ = done.send(());
        }),
    );
    drop(tokio);
    drop(release);
    finished.recv_timeout(std::time::Duration::from_secs(30)).expect("the work goes on");
}
