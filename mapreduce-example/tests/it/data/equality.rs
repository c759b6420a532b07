//! What is put together from splits, runs and merges is what a sequential run finds.

use mapreduce_example::data::Stores;
use mapreduce_example::execute::Limits;
use quickcheck::quickcheck;
use tempfile::tempdir;

use super::hand::{Asked, Hand, TINY, histories, sorted};

/// A job, its arguments, and how many reducers it has.
type Case = (&'static str, &'static [(&'static str, &'static str)], u32);

const JOBS: [Case; 5] = [
    ("word-count", &[], 3),
    ("inverted-index", &[], 4),
    ("grep", &[("pattern", "(?i-u)[aeiou]b|^.?$|\\xFF")], 2),
    ("top-n", &[("n", "4")], 1),
    ("sort", &[], 5),
];

#[test]
fn each_job_finds_in_a_real_text_what_a_sequential_run_finds() {
    let dir = tempdir().unwrap();
    let text = histories(300_000);
    for (number, part) in text.chunks(text.len() / 8 + 1).enumerate() {
        std::fs::write(dir.path().join(format!("book-{number}.txt")), part).unwrap();
    }
    let input = format!("{}/book-*.txt", dir.path().display());
    for (job, arguments, reducers) in JOBS {
        let output = format!("{}/{job}", dir.path().display());
        let asked = Asked {
            job,
            arguments,
            inputs: &[&input],
            output: &output,
            reducers,
            split_bytes_max: 20_000,
        };
        let limits = Limits { table_bytes_max: 50_000, read_bytes: 4000, fan_in_max: 4 };
        let hand = Hand::new(&Stores::new(), &asked, limits);
        assert_eq!(hand.maps(), 16);
        let counts = hand.run();
        assert!(counts.records > 8000, "{job} has mapped {} lines", counts.records);
        assert_same(&hand, job);
        assert!(!hand.parts().is_empty(), "{job} has found something");
    }
}

fn assert_same(hand: &Hand, job: &str) {
    let (found, expected) = (hand.parts(), hand.expected());
    let is_same = match job {
        // In order as they are.
        "sort" | "top-n" => found == expected,
        _ => sorted(&found) == sorted(&expected),
    };
    assert!(
        is_same,
        "{job} found {:?} and should have found {:?}",
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(&expected)
    );
}

/// Texts of the sort that goes wrong: empty lines, carriage returns, no end of the last line, bytes that are no UTF-8, letters
/// of several bytes, a long line now and then.
fn odd_text(draws: &[u8]) -> Vec<u8> {
    const BITS: [&[u8]; 12] = [
        b"\n",
        b"\r\n",
        b" ",
        b"a",
        b"b",
        b"ab",
        b"\xFF",
        "ß".as_bytes(),
        "東".as_bytes(),
        b"\xE6",
        b"ebb\n",
        b"\n\n",
    ];
    let mut text = Vec::new();
    for draw in draws {
        match BITS.get(usize::from(*draw % 13)) {
            Some(bit) => text.extend_from_slice(bit),
            None => text.extend(std::iter::repeat_n(b'x', usize::from(*draw))),
        }
    }
    text
}

quickcheck! {
    fn each_job_finds_in_any_text_what_a_sequential_run_finds(
        one: Vec<u8>, other: Vec<u8>, split_bytes: u8, read_bytes: u8, table_bytes: u16
    ) -> bool {
        let stores = Stores::new();
        for (name, draws) in [("one", &one), ("other", &other)] {
            let dir = tempdir().unwrap();
            let path = dir.path().join(name);
            std::fs::write(&path, odd_text(draws)).unwrap();
            let input = path.display().to_string();
            for (job, arguments, reducers) in JOBS {
                let asked = Asked {
                    job,
                    arguments,
                    inputs: &[&input],
                    output: &format!("memory:///{name}/{job}"),
                    reducers,
                    split_bytes_max: u64::from(split_bytes) + 1,
                };
                let limits = Limits {
                    table_bytes_max: usize::from(table_bytes % 1000),
                    read_bytes: u64::from(read_bytes) + 1,
                    ..TINY
                };
                let hand = Hand::new(&stores, &asked, limits);
                hand.run();
                assert_same(&hand, job);
                // Merged, all of it is in the job's order.
                if hand.merged() != hand.expected() {
                    return false;
                }
            }
        }
        true
    }
}

#[test]
fn what_does_not_fit_into_memory_is_spilled_and_merged_in_several_passes() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::write(&input, histories(60_000)).unwrap();
    let output = dir.path().join("out");
    let asked = Asked {
        job: "word-count",
        arguments: &[],
        inputs: &[input.to_str().unwrap()],
        output: output.to_str().unwrap(),
        reducers: 2,
        split_bytes_max: 30_000,
    };
    let hand = Hand::new(&Stores::new(), &asked, TINY);
    for number in 0..hand.maps() {
        hand.map(number, 1).unwrap();
    }
    let between = output.join("_mapreduce/00000000000000000000000000000007");
    let names = || {
        let names = std::fs::read_dir(&between).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let runs = names().len();
    assert!(runs > 3 * 3 * 3, "there are more runs than three passes of three can merge: {runs}");
    hand.run_reduces();
    assert!(!between.exists(), "nothing is left of what was between");
    assert_same(&hand, "word-count");
}
