//! A client of a few lines: what it sends and what it gets is what the tests say.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::process::PATIENCE;

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The line and the headers, as they came.
    pub(crate) head: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value)
    }

    /// It has this status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// It is an error of this status and code, in the shape that all errors have.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{self:?}");
        assert!(error["message"].is_string(), "{self:?}");
        assert!(error["may_take_effect"].is_boolean(), "{self:?}");
        error
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    send(address, &request(address, method, path, headers, body))
}

/// As [`ask`], of a node that may be gone, or go, or not answer in time.
pub(crate) fn try_ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> io::Result<Response> {
    let address = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(&request(&address.to_string(), method, path, headers, body))?;
    let mut stream = BufReader::new(stream);
    let mut response = try_read_head(&mut stream)?;
    let len = response.header("content-length").parse().map_err(io::Error::other)?;
    response.body = vec![0; len];
    stream.read_exact(&mut response.body)?;
    Ok(response)
}

fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) fn get(address: &str, path: &str) -> Response {
    ask(address, "GET", path, &[], b"")
}

pub(crate) fn put(address: &str, path: &str, body: &[u8]) -> Response {
    ask(address, "PUT", path, &[], body)
}

/// Sends these bytes as they are, and reads the response.
pub(crate) fn send(address: &str, bytes: &[u8]) -> Response {
    let mut stream = connect(address);
    // It may be answered and closed before all is sent.
    let _ = stream.write_all(bytes);
    read(&mut BufReader::new(stream))
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Reads a response to its end.
pub(crate) fn read(stream: &mut BufReader<TcpStream>) -> Response {
    let mut response = read_head(stream);
    match response.headers.get("content-length").and_then(|len| len.parse().ok()) {
        Some(len) => {
            response.body = vec![0; len];
            // There is none after HEAD.
            let _ = stream.read_exact(&mut response.body);
        }
        None => drop(stream.read_to_end(&mut response.body)),
    }
    response
}

/// Reads what comes before the body.
pub(crate) fn read_head(stream: &mut BufReader<TcpStream>) -> Response {
    try_read_head(stream).expect("a response")
}

fn try_read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Response> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::Error::other(format!("closed after {head:?}")));
        }
    }
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    });
    Ok(Response {
        status: status.expect("a status"),
        headers: headers.collect(),
        head: head.clone(),
        body: Vec::new(),
    })
}
