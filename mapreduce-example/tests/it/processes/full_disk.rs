//! A disk that is full. The limit on the size of a file stands in for it: the system refuses to write more.

use std::path::{Path, PathBuf};

use super::cluster::{Cluster, eventually, job_of};
use super::{Folder, PROGRAM, Running};

/// Starts a command none of whose files can become longer than `blocks` of 512 bytes.
fn on_a_full_disk(blocks: u32) -> String {
    format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")
}

fn full_worker(cluster: &Cluster, blocks: u32) -> Running {
    cluster.worker_by(&["sh", "-c", &on_a_full_disk(blocks)], &["--slots", "1"])
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What is between map and reduce, but for the sign of who owns it.
fn between(folder: &Folder) -> Vec<String> {
    let files = files(&Path::new(&folder.output()).join("_mapreduce"));
    let names = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "owner").collect();
    names.sort();
    names
}

#[test]
fn a_worker_whose_disk_is_full_fails_a_job_in_the_map_phase_by_name_and_others_go_on() {
    let cluster = Cluster::start();
    let worker = full_worker(&cluster, 40);
    let folder = Folder::of_the_book(2, 1);
    let job = job_of(&cluster.submit(&folder, &["--json", "--failures", "2"]).ok());
    let status = cluster.end_of(&job);
    let error = status["error"].as_str().unwrap_or_default();
    let place = format!("{}/_mapreduce/", folder.output());
    for part in ["map task ", "attempt 2 (word-count)", &place, "too large"] {
        assert!(error.contains(part), "no {part:?} in {status}");
    }
    assert_eq!(folder.left(), ["_mapreduce"]);
    assert_eq!(between(&folder), [""; 0], "nothing that it has begun to write is left");

    let small = Folder::of_the_book(1, 1);
    std::fs::write(small.input(0), "a few words\n").unwrap();
    cluster.submit(&small, &["--wait"]).ok();
    small.assert_is_done("word-count", &[]);
    drop(worker);
}

#[test]
fn a_worker_whose_disk_is_full_fails_a_job_in_the_reduce_phase_by_name() {
    let cluster = Cluster::start();
    let _worker = full_worker(&cluster, 1000);
    let folder = Folder::of_the_book(8, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["--job", "sort", "--input", &pattern, "--output", &output, "--reducers", "1"];
    let submit = cluster.run("submit", &[&args[..], &["--json", "--failures", "2"]].concat());
    let status = cluster.end_of(&job_of(&submit.ok()));
    let error = status["error"].as_str().unwrap_or_default();
    let place = format!("{output}/_mapreduce/");
    for part in ["reduce task 0, attempt 2 (sort)", &place, "too large"] {
        assert!(error.contains(part), "no {part:?} in {status}");
    }
    assert_eq!(folder.left(), ["_mapreduce"]);
    let names = between(&folder);
    assert!(names.iter().all(|name| name.starts_with("map-")), "{names:?}");
}

#[test]
fn what_a_worker_whose_disk_is_full_fails_at_another_one_does() {
    let cluster = Cluster::start();
    let full = full_worker(&cluster, 40);
    let folder = Folder::of_the_book(4, 1);
    let job = job_of(&cluster.submit(&folder, &["--json", "--failures", "100"]).ok());
    eventually("a failure", || {
        cluster.status(&job)["failures"].as_array().is_some_and(|all| !all.is_empty()).then_some(())
    });
    let _healthy = cluster.worker("1");
    assert_eq!(cluster.end_of(&job)["state"], "succeeded");
    folder.assert_is_done("word-count", &[]);
    drop(full);
}

/// The files of the tasks are short enough, and all results in one are not.
#[test]
fn results_that_cannot_be_merged_for_a_full_disk_are_there_nevertheless() {
    let folder = Folder::of_the_book(8, 1);
    let (pattern, output, script) = (folder.pattern(), folder.output(), on_a_full_disk(1000));
    let command = ["-c", &script, PROGRAM, "run", "--job", "sort", "--reducers", "8"];
    let args = [&command[..], &["--input", &pattern, "--output", &output]].concat();
    let ran = Running::start_program("sh", &args).end();
    let merged = format!("{output}/merged: ");
    ran.fails(
        2,
        &[&format!("the results are in {output}"), "cannot be merged", &merged, "too large"],
    );
    folder.assert_is_done("sort", &[]);
    assert_eq!(folder.left().len(), 9, "eight results and their sign: {:?}", folder.left());
}
