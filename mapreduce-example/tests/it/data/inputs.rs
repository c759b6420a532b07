//! Which inputs are meant, and how they are divided.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mapreduce_example::data::{InputError, Stores, splits};
use mapreduce_example::task::Split;
use tempfile::tempdir;

fn files(dir: &Path) {
    for (name, bytes) in [
        ("b.txt", 10),
        ("a.txt", 25),
        ("c.dat", 3),
        (".d.txt", 3),
        ("e[1].txt", 4),
        ("empty.log", 0),
    ] {
        fs::write(dir.join(name), vec![b'x'; bytes]).unwrap();
    }
    for folder in ["one", "two"] {
        fs::create_dir(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join("same.txt"), b"x").unwrap();
    }
    fs::write(dir.join("with space ü.csv"), b"x").unwrap();
}

/// The splits of patterns in `dir`: names from there on, offsets and lengths.
fn of(dir: &Path, patterns: &[&str]) -> Result<Vec<(String, u64, u64)>, InputError> {
    let patterns: Vec<String> =
        patterns.iter().map(|pattern| format!("{}/{pattern}", dir.display())).collect();
    let stores = Stores::new();
    let relative = |Split { input, offset, len }: Split| {
        let path = stores.locate(&input).unwrap().local_path().unwrap();
        (path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned(), offset, len)
    };
    Ok(splits(&stores, &patterns, 10)?.into_iter().map(relative).collect())
}

fn split(name: &str, offset: u64, len: u64) -> (String, u64, u64) {
    (name.to_owned(), offset, len)
}

#[test]
fn patterns_match_as_in_a_shell_and_inputs_are_divided_equally() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    files(dir);
    let a = [split("a.txt", 0, 9), split("a.txt", 9, 9), split("a.txt", 18, 7)];
    let b = split("b.txt", 0, 10);
    assert_eq!(of(dir, &["[ab].txt"]).unwrap(), [&a[..], std::slice::from_ref(&b)].concat());
    // Each once, in the order in which they are asked for.
    assert_eq!(of(dir, &["b.txt", "?.txt", "b*"]).unwrap(), [&[b][..], &a].concat());
    assert_eq!(
        of(dir, &["*/same.txt"]).unwrap(),
        [split("one/same.txt", 0, 1), split("two/same.txt", 0, 1)]
    );
    assert_eq!(of(dir, &["t*/s*"]).unwrap(), [split("two/same.txt", 0, 1)]);
    assert_eq!(of(dir, &["w* *.csv"]).unwrap(), [split("with space ü.csv", 0, 1)]);
}

#[test]
fn a_name_with_wildcards_in_it_is_taken_as_it_is_if_there_is_such_a_file() {
    let dir = tempdir().unwrap();
    files(dir.path());
    assert_eq!(of(dir.path(), &["e[1].txt"]).unwrap(), [split("e[1].txt", 0, 4)]);
}

#[test]
fn empty_inputs_give_no_split_unless_all_are_empty() {
    let dir = tempdir().unwrap();
    files(dir.path());
    assert_eq!(of(dir.path(), &["*.log", "c.dat"]).unwrap(), [split("c.dat", 0, 3)]);
    assert_eq!(of(dir.path(), &["*.log"]).unwrap(), [split("empty.log", 0, 0)]);
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_told_by_name() {
    let dir = tempdir().unwrap();
    files(dir.path());
    for (pattern, words) in [
        ("*.nothing", "*.nothing: no file matches"),
        ("nowhere/*.txt", "nowhere/*.txt: no file matches"),
        ("nothing.txt", "nothing.txt: there is no such file"),
        ("one", "one: there is no such file"),
        ("[.txt", "[.txt: invalid range pattern"),
    ] {
        let text = of(dir.path(), &["a.txt", pattern]).unwrap_err().to_string();
        assert!(text.contains(words), "{pattern}: {text}");
    }
    assert_eq!(splits(&Stores::new(), &[], 10), Err(InputError::None));
}

/// To leave one out would be no less wrong than to read half of it.
#[test]
fn a_file_that_cannot_be_an_input_is_refused_by_name() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("notes#1"), "x").unwrap();
    fs::write(dir.join("notes#one"), "x").unwrap();
    assert!(Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap().success());
    symlink("/proc/self/cmdline", dir.join("link")).unwrap();
    symlink(dir.join("nothing"), dir.join("broken")).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"latin-\xfc")), "x").unwrap();
    for (pattern, words) in [
        ("notes#1", "notes#1: a name that ends with # and digits"),
        ("notes*", "notes#1: a name that ends with # and digits"),
        ("pipe", "pipe: it is no regular file"),
        ("p?pe", "pipe: it is no regular file"),
        ("link", "link: another process finds something else there"),
        ("b*", "broken: there is no such file"),
        ("latin*", ": its name is not UTF-8"),
    ] {
        let text = of(dir, &[pattern]).unwrap_err().to_string();
        assert!(text.contains(words), "{pattern}: {text}");
    }
    assert_eq!(of(dir, &["notes#[!0-9]*"]).unwrap(), [split("notes#one", 0, 1)]);
    let null = splits(&Stores::new(), &["/dev/null".to_owned()], 10).unwrap_err().to_string();
    assert!(null.contains("/dev/null: it is no regular file"), "{null}");
}

#[test]
fn urls_are_inputs_and_stores_that_are_not_built_in_are_refused() {
    let stores = Stores::new();
    let of = |url: &str| splits(&stores, &[url.to_owned()], 10).unwrap_err().to_string();
    assert!(of("memory:///nothing").contains("memory:///nothing: there is no such file"));
    assert!(of("memory:///*").contains("memory:///*: no file matches"));
    assert!(of("gopher://hole/x").contains("gopher://hole/x"), "{}", of("gopher://hole/x"));
    assert!(of("s3://bucket/x?y=1").contains("s3://bucket/x?y=1"), "{}", of("s3://bucket/x?y=1"));
    assert!(of("://").contains("://"));
}

#[test]
fn more_splits_than_a_submission_can_hold_are_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("large");
    fs::File::create(&path).unwrap().set_len(1_000_000).unwrap();
    let outcome = splits(&Stores::new(), &[path.display().to_string()], 1);
    assert_eq!(outcome, Err(InputError::TooMany));
}
