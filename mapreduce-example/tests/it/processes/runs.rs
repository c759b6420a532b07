//! `run`, while nothing goes wrong.

use std::process::{Command, Stdio};

use super::cluster::eventually;
use super::{Folder, OWN_JOBS, PROGRAM, Running, run};

#[track_caller]
fn runs(job: &str, arguments: &[(&str, &str)], more: &[&str]) {
    let folder = Folder::of_the_book(8, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let told: Vec<String> =
        arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut args = vec!["run", "--job", job, "--input", &pattern, "--output", &output];
    for argument in &told {
        args.extend(["--arg", argument]);
    }
    args.extend(more);
    let ran = run(&args).ok();
    assert!(ran.stdout.contains("8 splits"), "{ran:?}");
    folder.assert_is_done(job, arguments);
    // All in one, and in the job's order.
    let merged = std::fs::read_to_string(format!("{output}/merged")).unwrap();
    assert!(merged.lines().eq(folder.in_order(job, arguments)), "{job} is not in order");
}

#[test]
fn wc() {
    runs("word-count", &[], &["--workers", "3", "--reducers", "10"]);
}

#[test]
fn indexer() {
    runs("inverted-index", &[], &["--workers", "2"]);
}

#[test]
fn the_other_jobs() {
    runs("grep", &[("pattern", "(?i)king")], &["--workers", "1", "--slots", "2"]);
    runs("top-n", &[("n", "20")], &[]);
    runs("sort", &[], &["--reducers", "4", "--coordinators", "3"]);
}

#[test]
fn the_parts_of_a_sorted_text_are_in_order_one_after_the_other() {
    let folder = Folder::of_the_book(3, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    run(&["run", "--job", "sort", "--input", &pattern, "--output", &output, "--reducers", "5"])
        .ok();
    let parts = (0..5).map(|n| std::fs::read_to_string(format!("{output}/part-{n:05}")).unwrap());
    let text: String = parts.collect();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.is_sorted() && lines.len() > 1_000, "{} lines", lines.len());
    assert_eq!(std::fs::read_to_string(format!("{output}/merged")).unwrap(), text);
}

#[test]
fn how_it_went_can_be_read_by_programs() {
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "word-count", "--input", &pattern, "--output", &output, "--json"];
    let report: serde_json::Value = serde_json::from_str(&run(&args).ok().stdout).unwrap();
    assert_eq!((&report["maps"], &report["reduces"]), (&2.into(), &10.into()), "{report}");
    assert_eq!(report["processes_started_again"], 0);
    assert_eq!(report["bytes_in"], super::book().len());
}

/// A folder that is not there is created, one that is not empty is refused.
#[test]
fn what_is_in_the_output_folder_is_deleted_only_if_that_is_asked_for() {
    let folder = Folder::of_the_book(1, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    std::fs::create_dir(&output).unwrap();
    std::fs::write(format!("{output}/old"), "old").unwrap();
    let args = ["run", "--job", "word-count", "--input", &pattern, "--output", &output];
    run(&args).fails(2, &[&output, "not empty", "--force"]);
    assert!(std::fs::exists(format!("{output}/old")).unwrap());
    run(&[&args[..], &["--force"]].concat()).ok();
    folder.assert_is_done("word-count", &[]);
    assert!(!std::fs::exists(format!("{output}/old")).unwrap());
}

/// Whatever they are called, and whatever else is wrong.
#[test]
fn neither_inputs_nor_results_are_deleted_for_a_job_that_is_not_done() {
    let folder = Folder::of_the_book(2, 1);
    let (link, inputs) = (folder.dir.path().join("link"), folder.dir.path().join("in"));
    std::os::unix::fs::symlink(&inputs, &link).unwrap();
    let (pattern, link) = (folder.pattern(), link.display().to_string());
    let linked = format!("{link}/*.txt");
    for (input, output) in [(&pattern, link), (&linked, inputs.display().to_string())] {
        let args = ["run", "--job", "word-count", "--input", input, "--output", &output, "--force"];
        run(&args).fails(2, &["0.txt is in the output folder", &output]);
        assert!(folder.input(0).exists() && folder.input(1).exists());
    }
    let old = format!("{}/old", folder.output());
    std::fs::create_dir(folder.output()).unwrap();
    std::fs::write(&old, "old").unwrap();
    // Each is possible, and both together are not.
    std::fs::write(folder.input(0), "x".repeat(95_000)).unwrap();
    std::fs::write(folder.input(1), "").unwrap();
    let (output, many) = (folder.output(), ["--split-bytes", "1", "--reducers", "10000"]);
    let args = ["run", "--job", "word-count", "--input", &pattern, "--output", &output, "--force"];
    run(&[&args[..], &many].concat()).fails(1, &["at most 100000 tasks"]);
    let nowhere = folder.dir.path().join("nowhere");
    let mut command = Command::new(PROGRAM);
    let ran = Running::start_command(command.args(args).env("TMPDIR", &nowhere)).end();
    ran.fails(2, &["temporary folder", nowhere.to_str().unwrap()]);
    assert!(std::fs::exists(old).unwrap());
}

/// What a job has started may go on, with the stdout of the worker: nobody waits for it.
#[test]
fn a_run_ends_though_a_process_that_its_job_has_started_does_not() {
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "clumsy", "--arg", "how=process stays", "--input", &pattern];
    let mut running =
        Running::start_program(OWN_JOBS, &[&args[..], &["--output", &output]].concat());
    eventually("its end", || running.child.try_wait().unwrap());
    running.end().ok();
}

/// It is passed on, and what the worker itself says after it is understood.
#[test]
fn a_job_may_print_as_much_as_it_likes() {
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "clumsy", "--arg", "how=prints", "--input", &pattern, "--json"];
    let mut running =
        Running::start_program(OWN_JOBS, &[&args[..], &["--output", &output]].concat());
    eventually("its end", || running.child.try_wait().unwrap());
    let ran = running.end().ok();
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["processes_started_again"], 0, "{report}");
    assert!(report["workers_cpu_seconds"].as_f64() > Some(0.0), "{report}");
    assert!(ran.stderr.contains("printed on stdout"), "{} bytes", ran.stderr.len());
}

/// Of its `main`, before it does what it is told to.
#[test]
fn a_program_may_print_something_at_first() {
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["run", "--job", "word-count", "--input", &pattern, "--output", &output];
    let mut command = Command::new(OWN_JOBS);
    let ran = Running::start_command(command.args(args).env("GREETING", "good\nmorning, ")).end();
    assert!(ran.ok().stderr.contains("good\nmorning, "));
    folder.assert_is_done("word-count", &[]);
}

#[test]
fn a_path_may_lead_up_and_down_again() {
    let folder = Folder::of_the_book(2, 1);
    let dir = folder.dir.path().display().to_string();
    let (input, output) = (format!("{dir}/in/../in/*.txt"), format!("{dir}/in/../out"));
    run(&["run", "--job", "word-count", "--input", &input, "--output", &output]).ok();
    folder.assert_is_done("word-count", &[]);
}

/// As with `2>&1 | head`: what it says on its way is lost, and nothing else.
#[test]
fn a_run_goes_on_though_nobody_reads_its_stderr() {
    let folder = Folder::of_the_book(2, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(PROGRAM)
        .args(["run", "--job", "word-count", "--input", &pattern, "--output", &output])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    folder.assert_is_done("word-count", &[]);
}
