//! Golden transcripts: long stories as text. A line that begins with `$` is a command; the lines below it are what
//! the nodes then do: messages that leave, writes, what is applied, and how the nodes stand. All else is comment.
//!
//! `BLESS=1 cargo test -p raft-core transcripts` writes anew what is below the commands: read the difference.
//!
//! | command | what it does |
//! |---|---|
//! | `nodes 3 pre_vote=off kept=0 ...` | so many nodes that never ran before, with these options |
//! | `nodes 3 spares=1` | and so many more, which know of no configuration |
//! | `change 1 1 2 4 +5` | node 1 is to make 1, 2 and 4 voters and 5 a learner |
//! | `disk 2 log=1*10,4*3 term=5 commit=3` | node 2 starts anew from this log: ten entries of term 1, three of term 4 |
//! | `timeout 1` | node 1 hears nobody for its election timeout |
//! | `tick 100 1 2` | 100 ms pass at nodes 1 and 2; without nodes, at all |
//! | `deliver`, `deliver 1->2` | what is on its way arrives: everything, or from 1 to 2 |
//! | `drop 1->2` | what is on its way from 1 to 2 is lost |
//! | `cut 1 2 from 3`, `heal` | nothing gets through between these, until it does |
//! | `persist 1 2` | the writes of nodes 1 and 2 become durable; without nodes, all |
//! | `read 1` | node 1 gets the old entries that it asked for |
//! | `propose 1 some text` | a command is proposed at node 1 |
//! | `snapshot 1 5` | node 1's snapshot up to index 5 is durable |
//! | `transfer 1` | the snapshots that node 1 wants to send arrive |
//! | `crash 1`, `restart 1` | the process is gone; it starts again from its disk |
//! | `settle`, `run 500` | everything arrives and becomes durable until nothing happens; the same while time passes |

mod print;
mod script;

use std::fs;
use std::path::PathBuf;

fn check(name: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts");
    let path = folder.join(format!("{name}.txt"));
    let expected = fs::read_to_string(&path).expect("the transcript is there");
    let told = script::tell(&expected);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, told).expect("the transcript can be written");
        return;
    }
    for (line, (expected, told)) in (1..).zip(expected.lines().zip(told.lines())) {
        assert_eq!(told, expected, "{name}.txt:{line} (told, expected)");
    }
    assert_eq!(told.lines().count(), expected.lines().count(), "{name}.txt is shorter or longer");
}

macro_rules! transcripts {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )+

        #[test]
        fn every_transcript_is_told() {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts");
            let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            let mut found: Vec<String> = files
                .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            found.sort();
            let mut told = vec![$(stringify!($name)),+];
            told.sort_unstable();
            assert_eq!(found, told);
        }
    };
}

transcripts! {
    an_election_of_three,
    two_candidates,
    replication_with_one_write_out,
    figure_7_repair,
    figure_8,
    fifty_diverging_entries_in_a_few_messages,
    a_lagging_follower_gets_a_snapshot,
    a_restart_from_disk,
    a_partitioned_leader_steps_down,
    a_pre_vote_disturbs_nobody,
    a_fourth_voter_joins,
    a_leader_removes_itself,
    a_leader_dies_in_a_joint_configuration,
}
