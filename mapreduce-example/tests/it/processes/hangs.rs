//! A call that hangs: nothing ends it but the end of its process.

use std::process::Command;

use super::Folder;
use super::cluster::{Cluster, job_of};

/// One of the inputs becomes a pipe into which nobody writes: whoever opens it waits for ever.
#[test]
fn a_worker_whose_call_hangs_says_so_and_ends_and_another_one_goes_on() {
    let cluster = Cluster::start();
    let folder = Folder::of_the_book(3, 1);
    let job = job_of(&cluster.submit(&folder, &["--json"]).ok());
    let (pipe, text) = (folder.input(1), std::fs::read(folder.input(1)).unwrap());
    std::fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ended = cluster.worker_with(&["--slots", "1", "--hang-seconds", "10"]).end();
    ended.fails(1, &[&job, "map task 1", "hangs", "10 seconds"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let status = cluster.status(&job);
    let failure = status["failures"][0]["error"].as_str().unwrap_or_default();
    assert!(failure.contains("word-count") && failure.contains("hung"), "{status}");
    assert_eq!(status["attempts"], serde_json::json!([]), "{status}");

    std::fs::remove_file(&pipe).unwrap();
    std::fs::write(&pipe, text).unwrap();
    let worker = cluster.worker("1");
    cluster.run("close", &[]).ok();
    assert_eq!(worker.end().code, Some(0));
    folder.assert_is_done("word-count", &[]);
}
