//! Jobs by name, and what is refused before anything is submitted.

use mapreduce_example::data::{Stores, splits};
use mapreduce_example::job::Registry;
use mapreduce_example::task::JobSpec;
use tempfile::tempdir;

use super::hand::{arguments, histories};

fn refusal(job: &str, given: &[(&str, &str)]) -> String {
    Registry::shipped().check(job, &arguments(given)).unwrap_err().to_string()
}

#[test]
fn what_a_job_cannot_be_told_is_refused_with_what_it_can() {
    for (job, given, words) in [
        (
            "wc",
            &[][..],
            "there is no job \"wc\": the jobs are grep, inverted-index, sort, top-n, word-count",
        ),
        ("word-count", &[("n", "1")], "the job word-count has no argument \"n\": it has none"),
        ("grep", &[], "the job grep needs the argument pattern: a regular expression"),
        ("grep", &[("patern", "x")], "no argument \"patern\": it has only pattern"),
        ("grep", &[("pattern", "(")], "the job grep: pattern \"(\": regex parse error"),
        ("top-n", &[("n", "many")], "n is a number from 1 to 1000000, not \"many\""),
        ("top-n", &[("n", "0")], "n is a number"),
        ("sort", &[("boundaries", "6,")], "hexadecimal digits"),
        ("sort", &[("boundaries", "zz")], "hexadecimal digits"),
    ] {
        let text = refusal(job, given);
        assert!(text.contains(words), "{job} {given:?}: {text}");
    }
    let text = refusal("grep", &[("pattern", &"(a{1000}){1000}".repeat(5))]);
    assert!(text.contains("size limit"), "{text}");
}

fn spec(job: &str, reducers: u32) -> JobSpec {
    JobSpec {
        job: job.to_owned(),
        arguments: arguments(if job == "top-n" { &[("n", "3")] } else { &[] }),
        inputs: Vec::new(),
        output: "memory:///out".to_owned(),
        reducers,
        failures_max: 1,
        token: 1,
    }
}

#[test]
fn a_job_has_at_least_one_reducer_and_no_more_than_it_can_do_with() {
    let prepare = |job, reducers| {
        let prepared = Registry::shipped().prepare(&mut spec(job, reducers), &Stores::new());
        prepared.map_err(|error| error.to_string())
    };
    assert_eq!(prepare("top-n", 1), Ok(()));
    assert_eq!(prepare("top-n", 2).unwrap_err(), "the job top-n has from 1 to 1 reducers, not 2");
    assert!(prepare("word-count", 0).unwrap_err().contains("from 1 to 10000 reducers, not 0"));
    assert!(prepare("word-count", 10_001).is_err());
}

#[test]
fn sort_divides_by_what_it_has_sampled_also_where_the_input_is_in_order_already() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("input");
    let text = histories(200_000);
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.retain(|line| line.len() > 8);
    lines.sort();
    std::fs::write(&input, lines.join(&b'\n')).unwrap();
    let stores = Stores::new();
    let mut spec = spec("sort", 8);
    spec.inputs = splits(&stores, &[input.display().to_string()], 50_000).unwrap();
    Registry::shipped().prepare(&mut spec, &stores).unwrap();
    let boundaries: Vec<&str> = spec.arguments["boundaries"].split(',').collect();
    assert_eq!(boundaries.len(), 7);
    let mut at = 0;
    for boundary in boundaries {
        let bytes: Vec<u8> = (0..boundary.len() / 2)
            .map(|at| u8::from_str_radix(&boundary[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let next = lines.partition_point(|line| *line < &bytes[..]);
        let share = (next - at) as f64 / (lines.len() as f64 / 8.0);
        assert!((0.7..1.3).contains(&share), "a partition has {share} times its share");
        at = next;
    }
}
