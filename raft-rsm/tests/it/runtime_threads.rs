//! The plain-thread runtime keeps the contract.

use std::sync::Arc;

use raft_rsm::Runtime;
use raft_rsm::runtime::ThreadRuntime;

raft_rsm::runtime_conformance!(Arc::new(ThreadRuntime::new()) as Arc<dyn Runtime>);

#[test]
fn a_sleep_outlives_its_runtime() {
    let runtime = ThreadRuntime::new();
    let sleep = runtime.sleep(std::time::Duration::from_millis(5));
    drop(runtime);
    futures::executor::block_on(sleep);
}
