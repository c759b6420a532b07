//! Patterns and URLs in, splits out.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use glob::{MatchOptions, Pattern};

use super::location::{DataError, Location, Stores};
use crate::task::Split;

/// How large a split is at most, unless somebody says otherwise: large enough for a task to be worth its while, and small
/// enough to be done again.
pub const SPLIT_BYTES_MAX: u64 = 16 << 20;

/// The most splits of a job: all of them are in the command that submits it.
pub const SPLITS_MAX: usize = 100_000;

/// How many places of an input are looked at to learn what it is like, and how many bytes at each.
const SAMPLES: u64 = 512;
const SAMPLE_BYTES: u64 = 4 << 10;

/// Why there is no list of inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A pattern makes no sense.
    #[error("{pattern}: {reason}")]
    Pattern {
        /// Which one.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// A pattern matches nothing.
    #[error("{pattern}: no file matches")]
    NoMatch {
        /// Which one.
        pattern: String,
    },
    /// Nothing was asked for.
    #[error("no input")]
    None,
    /// There would be too many map tasks.
    #[error("more than {SPLITS_MAX} splits: choose larger ones, or fewer inputs")]
    TooMany,
    /// An input could not be found or read.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Divides inputs into splits of at most `split_bytes_max` bytes, in the order given, and by name where a pattern matches many.
///
/// An input is a path or a URL. In its names `*`, `?` and `[…]` are wildcards as in a shell (a `?` of a URL is written `%3F`),
/// unless there is something of that very name. Each input counts once. Empty ones give no split; if all are, there is one
/// split of nothing, so that the job has something to do.
///
/// # Errors
/// [`InputError`], which names the input.
pub fn splits(
    stores: &Stores,
    inputs: &[String],
    split_bytes_max: u64,
) -> Result<Vec<Split>, InputError> {
    let mut seen = BTreeSet::new();
    let mut splits = Vec::new();
    let mut empty = None;
    for pattern in inputs {
        for (input, bytes) in matching(stores, pattern)? {
            if !seen.insert(input.url().to_owned()) {
                continue;
            }
            if bytes == 0 {
                empty = Some(Split { input: input.url().to_owned(), offset: 0, len: 0 });
            }
            divide(&input, bytes, split_bytes_max.max(1), &mut splits)?;
        }
    }
    if splits.is_empty() {
        splits.push(empty.ok_or(InputError::None)?);
    }
    Ok(splits)
}

/// Equal parts, but for rounding: a last one of a few bytes would cost a task of its own.
fn divide(
    input: &Location,
    bytes: u64,
    split_bytes_max: u64,
    splits: &mut Vec<Split>,
) -> Result<(), InputError> {
    let count = bytes.div_ceil(split_bytes_max);
    if splits.len() as u64 + count > SPLITS_MAX as u64 {
        return Err(InputError::TooMany);
    }
    if count == 0 {
        return Ok(());
    }
    let len = bytes.div_ceil(count);
    let mut offset = 0;
    while offset < bytes {
        let len = len.min(bytes - offset);
        splits.push(Split { input: input.url().to_owned(), offset, len });
        offset += len;
    }
    Ok(())
}

/// The inputs that a pattern means, with their lengths in bytes.
fn matching(stores: &Stores, pattern: &str) -> Result<Vec<(Location, u64)>, InputError> {
    let place = stores.locate(pattern)?;
    let segments = place.segments();
    if !segments.iter().any(|segment| is_pattern(segment)) {
        let bytes = bytes_of(&place)?;
        return Ok(vec![(place, bytes)]);
    }
    match bytes_of(&place) {
        Ok(bytes) => return Ok(vec![(place, bytes)]),
        Err(DataError::Missing { .. }) => {}
        Err(error @ (DataError::Failed { .. } | DataError::Damaged { .. })) => {
            return Err(error.into());
        }
    }
    let mut folders = vec![place.root()];
    let Some((last, parents)) = segments.split_last() else { return Ok(Vec::new()) };
    for segment in parents {
        folders = descend(folders, segment, pattern)?;
    }
    let mut found = Vec::new();
    for folder in folders {
        if is_pattern(last) {
            let matcher = matcher(last, pattern)?;
            for name in list(&folder, &matcher)?.objects {
                let input = folder.join(&name);
                // Found in a list, it may still be somebody else's to read.
                let bytes = bytes_of(&input)?;
                found.push((input, bytes));
            }
        } else {
            let input = folder.join(last);
            match bytes_of(&input) {
                Ok(bytes) => found.push((input, bytes)),
                Err(DataError::Missing { .. }) => {}
                Err(error @ (DataError::Failed { .. } | DataError::Damaged { .. })) => {
                    return Err(error.into());
                }
            }
        }
        if found.len() > SPLITS_MAX {
            return Err(InputError::TooMany);
        }
    }
    if found.is_empty() {
        return Err(InputError::NoMatch { pattern: pattern.to_owned() });
    }
    found.sort_by(|(one, _), (other, _)| one.url().cmp(other.url()));
    Ok(found)
}

fn descend(
    folders: Vec<Location>,
    segment: &str,
    pattern: &str,
) -> Result<Vec<Location>, InputError> {
    if !is_pattern(segment) {
        return Ok(folders.into_iter().map(|folder| folder.join(segment)).collect());
    }
    let matcher = matcher(segment, pattern)?;
    let mut below = Vec::new();
    for folder in folders {
        below.extend(list(&folder, &matcher)?.folders.iter().map(|name| folder.join(name)));
        if below.len() > SPLITS_MAX {
            return Err(InputError::TooMany);
        }
    }
    Ok(below)
}

/// What in a folder matches, by name.
#[derive(Default)]
struct Listed {
    folders: Vec<String>,
    objects: Vec<String>,
}

fn list(folder: &Location, matcher: &Pattern) -> Result<Listed, DataError> {
    let is_meant = |name: &str| matcher.matches_with(name, AS_A_SHELL);
    if let Some(path) = folder.local_path() {
        return list_local(folder, &path, is_meant);
    }
    let list = folder.list()?;
    let names = |paths: Vec<object_store::path::Path>| {
        let names = paths.into_iter().filter_map(|path| Some(path.filename()?.to_owned()));
        names.filter(|name| is_meant(name)).collect()
    };
    let objects = list.objects.into_iter().map(|object| object.location).collect();
    Ok(Listed { folders: names(list.common_prefixes), objects: names(objects) })
}

/// Without the store, which keeps to itself what it cannot read.
fn list_local(
    folder: &Location,
    path: &Path,
    is_meant: impl Fn(&str) -> bool,
) -> Result<Listed, DataError> {
    let mut listed = Listed::default();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(listed);
        }
        Err(error) => return Err(unreadable(folder, &error.to_string())),
    };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error.to_string()))?;
        let name = entry.file_name();
        if !is_meant(&name.to_string_lossy()) {
            continue;
        }
        // As what it leads to, if it is a link.
        let is_folder = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir());
        let Ok(name) = name.into_string() else {
            let place = entry.path().display().to_string();
            return Err(DataError::Failed { place, reason: "its name is not UTF-8".to_owned() });
        };
        if is_folder { &mut listed.folders } else { &mut listed.objects }.push(name);
    }
    Ok(listed)
}

/// How long an input is. One of this machine is a regular file, and another process reads the same under its name.
fn bytes_of(input: &Location) -> Result<u64, DataError> {
    if let Some(path) = input.local_path() {
        // Before it is opened, for which a pipe may wait for ever.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) if !metadata.is_file() => {
                return Err(unreadable(input, "it is no regular file: it can be read only once"));
            }
            Ok(_) if is_of_a_process(&path) => {
                return Err(unreadable(input, "another process finds something else there"));
            }
            Ok(_) if is_hidden(input.file_name()) => {
                let reason = "a name that ends with # and digits is that of a file that is not \
                     written yet: it needs another one";
                return Err(unreadable(input, reason));
            }
            // The store says it in its words.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(input.head()?.size)
}

/// Whether it is below `/proc`, or a link into that, as `/dev/stdin` is.
fn is_of_a_process(path: &Path) -> bool {
    let leads_there =
        |path: std::io::Result<PathBuf>| path.is_ok_and(|path| path.starts_with("/proc"));
    leads_there(fs::read_link(path))
        || path.parent().is_some_and(|path| leads_there(fs::canonicalize(path)))
}

/// Whether `object_store` takes the file for one of its own that is half written.
fn is_hidden(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn unreadable(place: &Location, reason: &str) -> DataError {
    DataError::Failed { place: place.name(), reason: reason.to_owned() }
}

const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

fn is_pattern(segment: &str) -> bool {
    segment.contains(['*', '?', '['])
}

fn matcher(segment: &str, pattern: &str) -> Result<Pattern, InputError> {
    Pattern::new(segment).map_err(|error| InputError::Pattern {
        pattern: pattern.to_owned(),
        reason: error.msg.to_owned(),
    })
}

/// Lines from all over the inputs: from places at equal distances, so that an input that has an order of its own is met
/// everywhere. Some lack their ends, and a line that is longer than what is read at a place may be missing.
pub(crate) fn sample_lines(stores: &Stores, splits: &[Split]) -> Result<Vec<Bytes>, DataError> {
    let total: u64 = splits.iter().map(|split| split.len).sum();
    let distance = total.div_ceil(SAMPLES).max(SAMPLE_BYTES);
    let mut lines = Vec::new();
    // The next place, counted from the beginning of the split.
    let mut at = 0;
    for split in splits {
        let input = stores.locate(&split.input)?;
        while at < split.len {
            let begin = split.offset + at;
            let end = (begin + SAMPLE_BYTES).min(split.offset + split.len);
            let bytes = input.read_range(begin..end)?;
            let mut found = bytes.split(|byte| *byte == b'\n');
            if begin > 0 {
                // It began before.
                found.next();
            }
            lines.extend(found.filter(|line| !line.is_empty()).map(|line| bytes.slice_ref(line)));
            at += distance;
        }
        at -= split.len;
    }
    Ok(lines)
}
