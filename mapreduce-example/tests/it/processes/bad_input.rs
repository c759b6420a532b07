//! What cannot be: one line that says what, where, and what to do; and nothing was begun.

use super::cluster::{Cluster, job_of};
use super::{Folder, OWN_JOBS, Running, run};

fn runs(folder: &Folder, job: &str, more: &[&str]) -> super::Ran {
    let (pattern, output) = (folder.pattern(), folder.output());
    run(&[&["run", "--job", job, "--input", &pattern, "--output", &output], more].concat())
}

#[test]
fn inputs_that_are_not_there() {
    let folder = Folder::of_the_book(1, 1);
    let nothing = folder.dir.path().join("nothing/*.txt").display().to_string();
    let output = folder.output();
    run(&["run", "--job", "word-count", "--input", &nothing, "--output", &output])
        .fails(2, &["nothing/*.txt", "no file matches"]);
    let missing = folder.dir.path().join("missing.txt").display().to_string();
    run(&["run", "--job", "word-count", "--input", &missing, "--output", &output])
        .fails(2, &["missing.txt"]);
    run(&["run", "--job", "word-count", "--input", &folder.pattern(), "--output", "memory:///x"])
        .fails(2, &["memory:///x", "each process"]);
    assert!(!std::fs::exists(&output).unwrap());
}

#[test]
fn jobs_and_arguments_that_make_no_sense() {
    let folder = Folder::of_the_book(1, 1);
    runs(&folder, "word-cuont", &[]).fails(2, &["word-cuont", "word-count"]);
    runs(&folder, "grep", &[]).fails(2, &["grep", "pattern"]);
    runs(&folder, "grep", &["--arg", "pattern=("]).fails(2, &["grep"]);
    runs(&folder, "grep", &["--arg", "pattern=a", "--arg", "colour=red"]).fails(2, &["colour"]);
    runs(&folder, "top-n", &["--arg", "n=many"]).fails(2, &["top-n", "many"]);
    runs(&folder, "top-n", &["--arg", "n=3", "--reducers", "2"]).fails(2, &["top-n", "2"]);
    assert!(!std::fs::exists(folder.output()).unwrap());
}

/// The job, the task, and the file or the key: whoever reads it knows where to look.
#[test]
fn what_a_job_cannot_do_is_told_with_its_place() {
    let in_map = ["map task 1, attempt 1 (clumsy): ", "/in/1.txt, bytes 0 to ", ": "];
    let in_reduce = ["reduce task 0, attempt 1 (clumsy): ", "key \"red\": "];
    for (how, place, why) in [
        ("panic in map", &in_map[..], "from byte 0 on: it panicked: on purpose"),
        ("error in map", &in_map, "from byte 0 on: it would not"),
        ("long key", &in_map, "a key of 5242884 bytes, \"kkkk"),
        (
            "long value",
            &in_map,
            "a value of 5242884 bytes for the key \"blue\": the limit is 4194304",
        ),
        ("panic in reduce", &in_reduce, "it panicked: on purpose"),
        ("error in reduce", &in_reduce, "it would not"),
        ("panic in line", &in_reduce, "it panicked: on purpose"),
        ("error in line", &in_reduce, "it would not"),
    ] {
        let folder = Folder::of_the_book(2, 1);
        let (pattern, output, how) = (folder.pattern(), folder.output(), format!("how={how}"));
        let args = ["run", "--job", "clumsy", "--arg", &how, "--input", &pattern];
        let more = ["--output", &output, "--failures", "1", "--reducers", "1"];
        let ran = Running::start_program(OWN_JOBS, &[&args[..], &more].concat()).end();
        ran.fails(1, &[&["job ", why], place].concat());
        assert_eq!(folder.left(), [""; 0], "{how}");
    }
}

/// The results are there, and it says where.
#[test]
fn a_job_that_cannot_compare_its_lines_says_so() {
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "clumsy", "--arg", "how=panic in merge", "--input", &pattern];
    let ran = Running::start_program(OWN_JOBS, &[&args[..], &["--output", &output]].concat()).end();
    ran.fails(2, &[&output, "cannot be merged (clumsy): it panicked: on purpose"]);
    folder.assert_nothing_is_left();
    assert!(!folder.left().contains(&"merged".to_owned()));
}

/// It is the coordinator that gives it up, which knows what they died of.
#[test]
fn a_task_that_kills_its_workers_is_told_with_its_place() {
    let folder = Folder::of_the_book(30, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "clumsy", "--arg", "how=exit in each map", "--input", &pattern];
    let more = ["--output", &output, "--failures", "1", "--workers", "2"];
    let ran = Running::start_program(OWN_JOBS, &[&args[..], &more].concat()).end();
    ran.fails(1, &["map task ", "clumsy: ", ".txt, bytes 0 to ", "was lost"]);
    assert_eq!(folder.left(), [""; 0]);
}

/// In a table, each error has one line.
#[test]
fn what_a_job_says_breaks_no_table() {
    let cluster = Cluster::of(OWN_JOBS, 1);
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["--job", "clumsy", "--arg", "how=panic of two lines", "--input", &pattern];
    let args = [&args[..], &["--output", &output, "--failures", "1", "--json"]].concat();
    let job = job_of(&cluster.run("submit", &args).ok());
    let _worker = cluster.worker("1");
    let status = cluster.end_of(&job);
    assert!(status["error"].as_str().is_some_and(|error| error.ends_with("on\npurpose")));
    let text = cluster.run("status", &[&job]).ok().stdout;
    assert_eq!(text.matches("it panicked: on purpose").count(), 2, "{text}");
}

#[test]
fn a_line_that_is_too_long_is_told_with_its_place() {
    let folder = Folder::of_the_book(2, 1);
    let text = format!("short\n{}", "x".repeat((1 << 20) + 1));
    std::fs::write(folder.input(1), text).unwrap();
    let why = "/in/1.txt: the line at byte 6 is longer than 1048576 bytes";
    runs(&folder, "word-count", &["--failures", "1"])
        .fails(1, &["job ", "map task 1, attempt 1 (word-count): ", why]);
}

#[test]
fn command_lines_that_make_no_sense() {
    let folder = Folder::of_the_book(1, 1);
    for more in [
        &["--reducers", "0"][..],
        &["--workers", "0"],
        &["--slots", "x"],
        &["--split-bytes", "0"],
        &["--failures", "0"],
        &["--coordinators", "8"],
        &["--arg", "nonsense"],
        &["--wait"],
    ] {
        let ran = runs(&folder, "word-count", more);
        assert_eq!(ran.code, Some(2), "{more:?}: {ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{more:?}: {ran:?}");
    }
    for args in [&["status", "--cluster", "nonsense", "1"][..], &["jobs"], &["worker"], &[]] {
        assert_eq!(run(args).code, Some(2), "{args:?}");
    }
    let help = run(&["run", "--help"]).ok();
    assert!(help.stdout.contains("inverted-index") && help.stdout.contains("--arg pattern="));
}

#[test]
fn a_coordinator_that_is_not_there() {
    let folder = Folder::of_the_book(1, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let cluster = ["--cluster", "1=127.0.0.1:1", "--timeout", "0.5"];
    let submit = ["--job", "word-count", "--input", &pattern, "--output", &output];
    run(&[&["submit"], &cluster[..], &submit].concat()).fails(2, &["127.0.0.1:1"]);
    run(&[&["jobs"], &cluster[..]].concat()).fails(2, &["127.0.0.1:1"]);
}

#[test]
fn a_coordinator_whose_directory_is_not_what_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node").display().to_string();
    let args = ["coordinator", "--id", "1", "--cluster", "1=127.0.0.1:0", "--data", &data];
    run(&args).fails(2, &[&data]);
}

/// Each would read what the other has written, and call it its own.
#[test]
fn an_output_into_which_another_job_writes() {
    let folder = Folder::of_the_book(1, 1);
    let owner = std::path::Path::new(&folder.output()).join("_mapreduce/owner");
    std::fs::create_dir_all(owner.parent().unwrap()).unwrap();
    runs(&folder, "word-count", &[]).fails(2, &["not empty"]);
    // It comes in after this one has looked, and before its worker does.
    std::fs::remove_dir_all(folder.output()).unwrap();
    let cluster = Cluster::start();
    let job = job_of(&cluster.submit(&folder, &["--json", "--failures", "1"]).ok());
    std::fs::create_dir_all(owner.parent().unwrap()).unwrap();
    std::fs::File::create_new(&owner).unwrap();
    let _worker = cluster.worker("1");
    let status = cluster.end_of(&job);
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("another job writes into"), "{status}");
    assert!(error.contains(&folder.output()), "{status}");
    assert!(owner.exists(), "it is the other job's");
}
