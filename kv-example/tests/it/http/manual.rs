//! What `docs/http.md` shows is what happens: its lines are run one after the other on a node that is new.

use std::process::{Command, Stdio};

use super::client::{Response, connect, read_head};
use super::{cluster, leader};

const MANUAL: &str = include_str!("../../../docs/http.md");

/// A command, and what is printed then.
struct Example {
    line: String,
    printed: Vec<String>,
}

/// The blocks marked `console`: a line that begins with `$` is a command, what follows is its output.
fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_console = false;
    for line in MANUAL.lines() {
        match line.strip_prefix("$ ") {
            _ if line.starts_with("```") => is_console = line == "```console",
            Some(line) if is_console => {
                examples.push(Example { line: line.to_owned(), printed: Vec::new() });
            }
            _ if is_console => examples.last_mut().unwrap().printed.push(line.to_owned()),
            _ => {}
        }
    }
    examples
}

/// Runs all examples by `run`, which is given the address and the line, and returns what is printed.
fn check(run: impl Fn(&str, &str) -> String) {
    let cluster = cluster(1, &[]);
    let node = leader(&cluster);
    let examples = examples();
    assert!(examples.len() > 20, "the manual has {} examples", examples.len());
    for Example { line, printed } in examples {
        let text = run(node, &line);
        let lines = text.lines().map(str::trim_end).filter(|line| !line.starts_with("date: "));
        let shown: Vec<_> = lines.collect();
        let alike = shown.len() == printed.len()
            && shown.iter().zip(&printed).all(|(shown, printed)| is_like(shown, printed));
        assert!(alike, "$ {line}\nshows\n{}\ninstead of\n{}", shown.join("\n"), printed.join("\n"));
    }
}

/// `...` stands for whatever it is.
fn is_like(shown: &str, printed: &str) -> bool {
    let mut parts = printed.split("...");
    let Some(mut rest) = parts.next().and_then(|first| shown.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        (rest, last) = (after, Some(part));
    }
    rest.is_empty() || last == Some("")
}

#[test]
fn the_lines_of_the_manual_print_what_it_says_by_curl() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("there is no curl here: see the next test");
        return;
    }
    check(|address, line| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("KV", format!("http://{address}"));
        let output = shell.output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
}

#[test]
fn the_lines_of_the_manual_print_what_it_says_by_a_client_of_our_own() {
    check(|address, line| {
        let line = line.replace("$KV", "");
        let mut words = words(&line).into_iter();
        assert_eq!(words.next().as_deref(), Some("curl"), "{line}");
        let (mut method, mut path, mut headers) = (None, String::new(), Vec::new());
        let (mut body, mut with_head, mut ends) = (String::new(), false, false);
        while let Some(word) = words.next() {
            match word.as_str() {
                "-s" => {}
                "-si" => with_head = true,
                "-sN" => {}
                "-X" => method = words.next(),
                "-H" => headers.push(words.next().unwrap()),
                "-d" => body = words.next().unwrap(),
                "--max-time" => ends = words.next().is_some(),
                _ => path = word,
            }
        }
        let method = method.unwrap_or(if body.is_empty() { "GET".into() } else { "POST".into() });
        let headers: Vec<_> = headers.iter().map(|line| line.split_once(": ").unwrap()).collect();
        if ends {
            return stream(address, &path);
        }
        let response = super::client::ask(address, &method, &path, &headers, body.as_bytes());
        let Response { head, .. } = &response;
        match with_head {
            // We ask for it, and curl does not.
            true => format!("{}{}", head.replace("connection: close\r\n", ""), response.text()),
            false => response.text().to_owned(),
        }
    });
}

/// What comes within a second, without the sizes of the chunks in which it comes.
fn stream(address: &str, path: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let mut stream = BufReader::new(stream);
    read_head(&mut stream).is(200);
    let mut text = String::new();
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        if !line.ends_with("\r\n") {
            text.push_str(&line);
        }
        line.clear();
    }
    text
}

/// Words as a shell takes them, as far as the manual needs it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
