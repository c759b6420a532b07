//! `docs/traps.md` leads from each trap to its tests: all rows are there, and all tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: usize = 50;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// A row of the table: its number, and the tests in it as (name, reference).
struct Row {
    number: usize,
    tests: Vec<(String, String)>,
    /// With which feature its test comes.
    comes_with: Option<String>,
}

impl Row {
    /// `None`: the line is no row.
    fn parse(line: &str) -> Option<Row> {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let cell = cells.nth(1).unwrap_or_default();
        let links = cell.split("[`").skip(1);
        let tests = links.map(|link| {
            let (name, rest) = link.split_once("`][").expect("[`name`][reference]");
            let (reference, _) = rest.split_once(']').expect("[`name`][reference]");
            (name.to_owned(), reference.to_owned())
        });
        let comes_with = cell.split_once("comes with ").map(|(_, feature)| feature.to_owned());
        Some(Row { number, tests: tests.collect(), comes_with })
    }
}

/// `[reference]: path`
fn parse_reference(line: &str) -> Option<(String, String)> {
    let (reference, path) = line.strip_prefix('[')?.split_once("]: ")?;
    Some((reference.to_owned(), path.to_owned()))
}

/// Whether the file has a test of this name: a function with the attribute, or one that is named, alone in a line, in a
/// macro that makes tests of functions, here or in the file of the module above.
fn has_test(path: &Path, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let defines = |line: &&str| line.trim_start_matches("pub ").starts_with(&head);
    let Some(at) = lines.iter().position(defines) else { return false };
    if at > 0 && lines[at - 1] == "#[test]" {
        return true;
    }
    let above = path.parent().map(|dir| dir.with_extension("rs"));
    let above = above.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    lines.into_iter().chain(above.lines().map(str::trim)).any(|line| line == name)
}

#[test]
fn every_trap_has_a_row_and_every_test_in_it_exists() {
    let text = fs::read_to_string(docs().join("traps.md")).expect("docs/traps.md");
    let rows: Vec<Row> = text.lines().filter_map(Row::parse).collect();
    let files: BTreeMap<String, String> = text.lines().filter_map(parse_reference).collect();
    let numbers: Vec<usize> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
    for Row { number, tests, comes_with } in rows {
        assert!(!tests.is_empty() || comes_with.is_some(), "row {number} leads nowhere");
        if let Some(feature) = comes_with {
            let known = ["membership", "reads", "sessions", "the lock"];
            assert!(known.contains(&feature.as_str()), "row {number} comes with {feature:?}");
        }
        for (name, reference) in tests {
            let file = files.get(&reference);
            let file = file.unwrap_or_else(|| panic!("row {number}: where is {reference}?"));
            assert!(has_test(&docs().join(file), &name), "row {number}: no test {name} in {file}");
        }
    }
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/traps_table.rs");
    assert!(has_test(&here, "a_test_that_is_not_there_is_noticed"));
    assert!(!has_test(&here, "a_test_that_is_not_here"), "no function at all");
    assert!(!has_test(&here, "has_test"), "a function, and no test");
    assert!(!has_test(&here.with_extension("txt"), "a_test_that_is_not_there_is_noticed"));
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testing/storage/log.rs");
    assert!(has_test(&suite, "a_first_start_has_an_empty_log_and_the_first_configuration"));
}
