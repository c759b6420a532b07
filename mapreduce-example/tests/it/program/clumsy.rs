//! A job that fails as it is told to.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::process::{self, Command, Stdio};

use mapreduce_example::job::{Argument, Emitter, Job, Kind, Piece};

/// Maps the input `1.txt`, or reduces the key `red`, in a way that fails.
struct Clumsy {
    how: String,
}

pub(super) fn kind() -> Kind {
    let how = Argument { name: "how", about: "what goes wrong", required: true };
    Kind::new("clumsy", "fails", |arguments| {
        Ok(Clumsy { how: arguments.get("how").cloned().unwrap_or_default() })
    })
    .with_argument(how)
}

/// So many that they are not all in one part of the results.
const COLOURS: [&str; 8] = ["red", "green", "blue", "black", "white", "grey", "brown", "pink"];

/// More than a key or a value may have.
const LONG: usize = 5 << 20;

/// More than a pipe holds.
const PRINTED_BYTES: usize = 200_000;

impl Job for Clumsy {
    type Key = String;
    type Value = String;
    type Output = String;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        match self.how.as_str() {
            "exit in each map" => process::exit(1),
            "panic in merge" => {
                COLOURS.into_iter().for_each(|key| emit.emit(key, String::new()));
            }
            _ => emit.emit("red", "rose".to_owned()),
        }
        if !piece.name.ends_with("/1.txt") {
            return Ok(());
        }
        match self.how.as_str() {
            "panic in map" => panic!("on purpose"),
            "panic of two lines" => panic!("on\npurpose"),
            "error in map" => return Err("it would not".to_owned()),
            "long key" => emit.emit_owned("k".repeat(LONG), String::new()),
            "long value" => emit.emit("blue", "v".repeat(LONG)),
            // Not text, and at last not the end of a line.
            "prints" => {
                let printed = [&b"\xff".repeat(PRINTED_BYTES)[..], b"\nprinted", b" on stdout"];
                for bytes in printed {
                    io::stdout().write_all(bytes).map_err(|error| error.to_string())?;
                }
            }
            // It has the stdout of the worker as long as the input is there.
            "process stays" => {
                let wait = "while [ -e \"$0\" ]; do sleep 0.1; done";
                let mut shell = Command::new("sh");
                shell.args(["-c", wait, piece.name]).stdin(Stdio::null()).stderr(Stdio::null());
                shell.spawn().map_err(|error| error.to_string())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn reduce(
        &self,
        _key: &String,
        values: &mut dyn Iterator<Item = String>,
    ) -> Result<String, String> {
        match self.how.as_str() {
            "panic in reduce" => panic!("on purpose"),
            "error in reduce" => Err("it would not".to_owned()),
            _ => Ok(values.collect()),
        }
    }

    fn line(&self, key: &String, value: &String, out: &mut dyn Write) -> io::Result<()> {
        match self.how.as_str() {
            "panic in line" => panic!("on purpose"),
            "error in line" => Err(io::Error::other("it would not")),
            _ => writeln!(out, "{key} {value}"),
        }
    }

    fn compare_lines(&self, one: &[u8], other: &[u8]) -> Ordering {
        match self.how.as_str() {
            "panic in merge" => panic!("on purpose"),
            _ => one.cmp(other),
        }
    }
}
