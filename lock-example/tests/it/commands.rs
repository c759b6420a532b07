//! `lock-example run` and its kin, as processes.

use std::time::{Duration, Instant};

use crate::process::{Nodes, Running, eventually, is_alive, run, terminal};

#[test]
fn the_exit_code_of_the_command_is_passed_on() {
    let nodes = Nodes::start();
    for code in [0, 1, 7, 255] {
        let ran = nodes.run(&[], &format!("exit {code}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""));
    }
    assert_eq!(nodes.run(&[], "kill -TERM $$").code, Some(128 + 15));
}

#[test]
fn the_command_has_the_name_and_a_token_that_grows() {
    let nodes = Nodes::start();
    let tokens: Vec<u64> = (0..3)
        .map(|_| {
            let ran = nodes.run(&[], "echo $LOCK_NAME $LOCK_TOKEN");
            let said = ran.stdout.trim().to_owned();
            said.strip_prefix("l ").expect("the name").parse().expect("a number")
        })
        .collect();
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
}

#[test]
fn commands_have_the_lock_one_after_the_other() {
    let nodes = Nodes::start();
    // It fails where another one has made the directory.
    let script = "mkdir alone && sleep 0.05 && rmdir alone";
    let running: Vec<_> = (0..5).map(|_| nodes.begin(&[], script)).collect();
    for one in running {
        let ran = one.ended();
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

#[test]
fn a_line_is_added_with_the_token_of_the_environment_and_an_old_one_is_refused() {
    let nodes = Nodes::start();
    let program = env!("CARGO_BIN_EXE_lock-example");
    let ran = nodes.run(&[], &format!("'{program}' append log 'my turn' && echo $LOCK_TOKEN"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let token: u64 = ran.stdout.trim().parse().unwrap();
    assert_eq!(nodes.read("log"), format!("{token}\tmy turn\n"));
    let old = (token - 1).to_string();
    let log = nodes.path("log").display().to_string();
    run(&["append", "--token", &old, &log, "too late"])
        .fails(1, &["is old", "nothing was written"]);
    assert_eq!(nodes.read("log"), format!("{token}\tmy turn\n"));
}

#[test]
fn who_waits_too_long_starts_nothing_and_says_so() {
    let nodes = Nodes::start();
    let _holder = nodes.hold("10s");
    let ran = nodes.run(&["--wait", "300ms"], "touch started");
    ran.fails(124, &["\"l\"", "--wait"]);
    assert!(!nodes.path("started").exists());
}

#[test]
fn the_lock_of_a_killed_holder_passes_on() {
    let nodes = Nodes::start();
    let mut holder = nodes.hold("1s");
    assert_eq!(holder.write("a line"), "written");
    holder.signal("KILL");
    let ran = nodes.run(&[], "echo $LOCK_TOKEN");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.trim().parse::<u64>().unwrap() > holder.token);
}

#[test]
fn who_does_not_want_to_wait_takes_a_free_lock_and_is_told_of_one_that_is_not() {
    let nodes = Nodes::start();
    assert_eq!(nodes.run(&["--wait", "0s"], "exit 7").code, Some(7));
    let _holder = nodes.hold("10s");
    nodes.run(&["--wait", "0s"], "touch started").fails(124, &["\"l\"", "--wait"]);
    assert!(!nodes.path("started").exists());
}

/// Trap 47: the holder wakes up after its lease went to another, and writes.
#[test]
fn a_stopped_holder_that_wakes_up_after_its_lease_is_refused_by_the_fence() {
    let nodes = Nodes::start();
    let mut holder = nodes.hold("1s");
    assert_eq!(holder.write("the first"), "written");
    holder.signal("STOP");
    let program = env!("CARGO_BIN_EXE_lock-example");
    let ran = nodes.run(&[], &format!("'{program}' append fenced 'the second'"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    holder.signal("CONT");
    let answer = holder.write("too late");
    assert!(answer.starts_with("refused: ") && answer.contains("is old"), "{answer}");
    let lines = nodes.read("fenced");
    assert!(lines.ends_with("\tthe second\n") && lines.lines().count() == 2, "{lines}");
}

/// Its lease goes to another one. Its command goes on, as it does where only one of two processes is stopped.
fn lose_the_lease(nodes: &Nodes, running: &Running) {
    running.signal("STOP");
    assert_eq!(nodes.run(&[], "exit 0").code, Some(0));
    running.signal("CONT");
}

#[test]
fn a_command_whose_lease_is_lost_is_told_to_end_and_killed_if_it_does_not() {
    for trap in ["echo told >> told; exit 0", ""] {
        let nodes = Nodes::start();
        let script = format!("trap '{trap}' TERM; echo > started; while :; do sleep 0.05; done");
        let running = nodes.begin(&["--ttl", "1s", "--grace", "500ms"], &script);
        nodes.wait_for("started");
        lose_the_lease(&nodes, &running);
        let ran = running.ended();
        // The shell may have a word of its own about what it has started.
        assert_eq!(ran.code, Some(123), "{ran:?}");
        assert!(ran.stderr.starts_with("error: the lease of lock \"l\" is lost"), "{ran:?}");
        let expected = if trap.is_empty() { "" } else { "told\n" };
        assert_eq!(nodes.read("told"), expected);
    }
}

#[test]
fn a_command_that_ends_well_after_its_lease_was_lost_was_not_alone() {
    let nodes = Nodes::start();
    let script = "touch started; while [ ! -e go ]; do sleep 0.05; done; touch done";
    let running = nodes.begin(&["--ttl", "1s"], script);
    nodes.wait_for("started");
    running.signal("STOP");
    assert_eq!(nodes.run(&[], "exit 0").code, Some(0));
    nodes.touch("go");
    nodes.wait_for("done");
    running.signal("CONT");
    let ran = running.ended();
    assert_eq!(ran.code, Some(123), "{ran:?}");
    assert!(ran.stderr.starts_with("error: the lease of lock \"l\" "), "{ran:?}");
}

/// The shell ends at once, and what it has started does not care.
#[test]
fn what_a_command_has_started_is_killed_too_when_the_lease_is_lost() {
    let nodes = Nodes::start();
    // Whoever is not killed says so after ten seconds.
    let count = "i=0; while [ $i -lt 200 ]; do i=$((i + 1)); sleep 0.05; done; echo survived";
    let script = format!("(trap '' TERM; echo > started; {count}) & wait");
    let running = nodes.begin(&["--ttl", "1s", "--grace", "500ms"], &script);
    nodes.wait_for("started");
    lose_the_lease(&nodes, &running);
    let ran = running.ended();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(123), ""), "{ran:?}");
}

/// A shell that starts this, waits for it and ends at once when it is told to. It ends in good order, when there is a file
/// "go"; then there is one that is called "done".
const SLOW: &str = "echo $$ > shell; (trap 'until [ -e go ]; do sleep 0.05; done; echo > done; exit 0' TERM; \
                    echo > started; while :; do sleep 0.05; done) > /dev/null 2>&1 & wait";

#[test]
fn what_a_command_has_started_has_the_time_of_grace_to_end_when_the_lease_is_lost() {
    let nodes = Nodes::start();
    let running = nodes.begin(&["--ttl", "1s", "--grace", "60s"], SLOW);
    nodes.wait_for("started");
    lose_the_lease(&nodes, &running);
    let shell = nodes.read("shell").trim().parse().unwrap();
    eventually("the shell ends", || (!is_alive(shell)).then_some(()));
    nodes.touch("go");
    assert_eq!(running.ended().code, Some(123));
    assert!(nodes.path("done").exists());
}

#[test]
fn the_lock_is_kept_until_all_has_ended_that_was_told_to_end() {
    let nodes = Nodes::start();
    let running = nodes.begin(&["--grace", "60s"], SLOW);
    nodes.wait_for("started");
    running.signal("TERM");
    let shell = nodes.read("shell").trim().parse().unwrap();
    eventually("the shell ends", || (!is_alive(shell)).then_some(()));
    let next = nodes.begin(&[], "[ -e done ]");
    eventually("the next one waits", || (nodes.in_line() == 2).then_some(()));
    nodes.touch("go");
    assert_eq!(running.ended().code, Some(128 + 15));
    assert_eq!(next.ended().code, Some(0));
}

#[test]
fn what_a_command_leaves_behind_that_was_not_told_to_end_is_left_alone() {
    let nodes = Nodes::start();
    let waits = "until [ -e go ]; do sleep 0.05; done; echo > done";
    let ran = nodes.run(&[], &format!("({waits}) > /dev/null 2>&1 & exit 3"));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    nodes.touch("go");
    nodes.wait_for("done");
}

#[test]
fn signals_are_passed_on_to_the_command() {
    let nodes = Nodes::start();
    // Tests that are started to survive their terminal (`nohup`) have started the command so, too: see the test of that.
    let hangup = if is_hangup_ignored() { None } else { Some(("HUP", 9)) };
    for (name, code) in [("TERM", 9), ("INT", 8), ("QUIT", 9)].into_iter().chain(hangup) {
        let script = format!(
            "trap 'exit 9' TERM; trap 'exit 8' INT; echo > {name}; while :; do sleep 0.05; done"
        );
        let running = nodes.begin(&[], &script);
        nodes.wait_for(name);
        running.signal(name);
        assert_eq!(running.ended().code, Some(code), "{name}");
    }
}

/// Whether this process ignores SIGHUP, and so whatever it starts.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1)
}

/// It says 5 when it is let go, and has had the time to hear of what came before.
const WAITS: &str = "trap 'exit 9' TERM; trap 'exit 8' INT; echo > started; \
                     until [ -e go ]; do sleep 0.05; done; sleep 0.3; exit 5";

#[test]
fn what_a_terminal_sends_to_all_is_not_sent_to_the_command_again() {
    for (name, code) in [("INT", 5), ("QUIT", 5), ("TERM", 9)] {
        let nodes = Nodes::start();
        let (stdin, _end) = terminal();
        let running = nodes.begin_at(stdin, &[], WAITS);
        nodes.wait_for("started");
        // To this one alone, so that what the command hears is what it was passed on.
        running.signal(name);
        nodes.touch("go");
        assert_eq!(running.ended().code, Some(code), "{name}");
    }
}

#[test]
fn who_was_started_to_survive_its_terminal_passes_no_hangup_on() {
    let nodes = Nodes::start();
    let running = nodes.begin_ignoring("HUP", WAITS);
    nodes.wait_for("started");
    running.signal("HUP");
    nodes.touch("go");
    assert_eq!(running.ended().code, Some(5));
}

#[test]
fn a_command_that_has_ended_does_not_wait_long_for_a_store_that_is_gone() {
    let nodes = Nodes::start();
    let running = nodes.begin(&["--ttl", "60s"], WAITS);
    nodes.wait_for("started");
    nodes.stop();
    let since = Instant::now();
    nodes.touch("go");
    let ran = running.ended();
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.starts_with("warning: the next holder may have to wait for 60s"), "{ran:?}");
    // Its requests would end after 30 s.
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

#[test]
fn who_is_told_to_end_while_waiting_leaves_the_line() {
    let nodes = Nodes::start();
    let holder = nodes.hold("10s");
    // Its lease would keep the next one waiting for longer than that one waits.
    let waiting = nodes.begin(&["--ttl", "1h"], "touch started");
    eventually("it waits", || (nodes.in_line() == 2).then_some(()));
    let behind = nodes.begin(&["--wait", "20s"], "exit 0");
    eventually("the next one waits", || (nodes.in_line() == 3).then_some(()));
    waiting.signal("TERM");
    assert_eq!(waiting.ended().code, Some(128 + 15));
    drop(holder);
    assert_eq!(behind.ended().code, Some(0));
    assert!(!nodes.path("started").exists());
}

#[test]
fn the_demonstration_ends_well_and_says_the_same_as_json() {
    let ran = run(&["demo"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["worker 5", "killed it", "refused: token"] {
        assert!(ran.stdout.contains(part), "no {part:?} in {ran:?}");
    }
    let ran = run(&["demo", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for line in ran.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(event["event"].is_string(), "{line}");
    }
}
