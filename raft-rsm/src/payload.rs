//! What this crate puts into an entry: `[kind: u8][log time: u64 LE, nanoseconds][fields of the kind][command: postcard]`.
//!
//! ```text
//! command     = (nothing)                                                       command
//! time mark   = (nothing)
//! open        = limits
//! close       = session:u64
//! in session  = session:u64 sequence:u64 answered_below:u64                     command
//! named       = name_bytes:u8 name limits                                       command
//! limits      = age_max:u64 (nanoseconds) count_max:u64 bytes_max:u64           (all numbers little-endian)
//! ```
//!
//! The place of the time is reserved when the command is encoded and filled when it is proposed, so that a command is
//! encoded once, into the buffer that goes to every follower and to the disk.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sessions::{ONCE_KEY_BYTES_MAX, SessionId, SessionRequest, TableLimits};

/// What is in front of every body, in bytes.
const HEADER_BYTES: usize = 9;

const COMMAND: u8 = 1;
const TIME_MARK: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const IN_SESSION: u8 = 5;
const NAMED: u8 = 6;

/// By what the replicas know a command again.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Known<'a> {
    /// Not at all.
    Not,
    InSession(SessionRequest),
    /// By its name, which has at most [`ONCE_KEY_BYTES_MAX`] bytes.
    ByName(&'a [u8], TableLimits),
}

/// An entry's payload on its way to being proposed: the body is there, the log time not yet.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    command_at: usize,
}

impl Draft {
    /// A command.
    ///
    /// # Errors
    /// The command cannot be serialized: its own `Serialize` says why.
    pub(crate) fn command<C: Serialize>(
        known: Known<'_>,
        command: &C,
    ) -> Result<Draft, postcard::Error> {
        let Draft { bytes, command_at } = Draft::before_command(known, 128);
        let bytes = postcard::to_extend(command, bytes)?;
        Ok(Draft { bytes, command_at })
    }

    /// A command that is encoded already.
    pub(crate) fn encoded_command(known: Known<'_>, command: &[u8]) -> Draft {
        let mut draft = Draft::before_command(known, command.len());
        draft.bytes.extend_from_slice(command);
        draft
    }

    fn before_command(known: Known<'_>, room: usize) -> Draft {
        match known {
            Known::Not => Draft::new(COMMAND, &[], room),
            Known::InSession(SessionRequest { session, sequence, answered_below }) => {
                Draft::new(IN_SESSION, &numbers([session.0, sequence, answered_below]), room)
            }
            Known::ByName(name, limits) => {
                // A longer one has been refused.
                let name = name.get(..ONCE_KEY_BYTES_MAX).unwrap_or(name);
                let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
                Draft::new(NAMED, &[&[len], name, &limits.to_bytes()].concat(), room)
            }
        }
    }

    /// Nothing but the time.
    pub(crate) fn time_mark() -> Draft {
        Draft::new(TIME_MARK, &[], 0)
    }

    /// Opens a session.
    pub(crate) fn open(limits: TableLimits) -> Draft {
        Draft::new(OPEN, &limits.to_bytes(), 0)
    }

    /// Ends a session.
    pub(crate) fn close(session: SessionId) -> Draft {
        Draft::new(CLOSE, &session.0.to_le_bytes(), 0)
    }

    fn new(kind: u8, fields: &[u8], room: usize) -> Draft {
        let command_at = HEADER_BYTES + fields.len();
        let mut bytes = Vec::with_capacity(command_at + room);
        bytes.push(kind);
        bytes.extend_from_slice(&[0; HEADER_BYTES - 1]);
        bytes.extend_from_slice(fields);
        Draft { bytes, command_at }
    }

    /// The command, as postcard.
    pub(crate) fn encoded(&self) -> &[u8] {
        self.bytes.get(self.command_at..).unwrap_or_default()
    }

    /// Whether it is to open a session.
    pub(crate) fn opens_session(&self) -> bool {
        self.bytes.first() == Some(&OPEN)
    }

    /// What is in front of it, in bytes.
    pub(crate) fn overhead(&self) -> usize {
        self.command_at
    }

    /// The payload, stamped with the log's time.
    pub(crate) fn stamp(mut self, time: Duration) -> Bytes {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(place) = self.bytes.get_mut(1..HEADER_BYTES) {
            place.copy_from_slice(&nanoseconds.to_le_bytes());
        }
        Bytes::from(self.bytes)
    }
}

fn numbers(numbers: [u64; 3]) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload<'a> {
    /// The log's time when it was proposed; zero where the leader did not know it yet.
    pub(crate) time: Duration,
    pub(crate) content: Content<'a>,
    /// What follows the header, as it stands in the log.
    pub(crate) body: &'a [u8],
}

/// What an entry is for. Commands are as postcard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Command(&'a [u8]),
    /// It lets the log's time go on.
    TimeMark,
    Open(TableLimits),
    Close(SessionId),
    InSession {
        request: SessionRequest,
        command: &'a [u8],
    },
    Named {
        name: &'a [u8],
        limits: TableLimits,
        command: &'a [u8],
    },
}

/// Why a payload cannot be read: it comes from a newer version, or the machine's types have changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("it has {0} bytes, too few for what it should hold")]
    TooShort(usize),
    #[error("it has {0} bytes more than it should")]
    TooLong(usize),
    #[error("it is of kind {0}, which this version does not know")]
    UnknownKind(u8),
    #[error("its command cannot be read: {0}")]
    Command(String),
}

impl<'a> Payload<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Payload<'a>, PayloadError> {
        let mut fields = Fields { all: bytes.len(), rest: bytes };
        let [kind] = fields.array()?;
        let time = Duration::from_nanos(fields.number()?);
        let body = fields.rest;
        let content = match kind {
            COMMAND => Content::Command(fields.rest),
            TIME_MARK => fields.end(Content::TimeMark)?,
            OPEN => {
                let limits = fields.limits()?;
                fields.end(Content::Open(limits))?
            }
            CLOSE => {
                let session = SessionId(fields.number()?);
                fields.end(Content::Close(session))?
            }
            IN_SESSION => {
                let session = SessionId(fields.number()?);
                let (sequence, answered_below) = (fields.number()?, fields.number()?);
                let request = SessionRequest { session, sequence, answered_below };
                Content::InSession { request, command: fields.rest }
            }
            NAMED => {
                let [len] = fields.array()?;
                let name = fields.take(usize::from(len))?;
                let limits = fields.limits()?;
                Content::Named { name, limits, command: fields.rest }
            }
            kind => return Err(PayloadError::UnknownKind(kind)),
        };
        Ok(Payload { time, content, body })
    }
}

/// What is left to read.
struct Fields<'a> {
    all: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        let too_short = PayloadError::TooShort(self.all);
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(too_short)?;
        self.rest = rest;
        Ok(*array)
    }

    fn number(&mut self) -> Result<u64, PayloadError> {
        self.array().map(u64::from_le_bytes)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PayloadError> {
        let too_short = PayloadError::TooShort(self.all);
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(too_short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn limits(&mut self) -> Result<TableLimits, PayloadError> {
        self.array().map(TableLimits::from_bytes)
    }

    fn end(&self, content: Content<'a>) -> Result<Content<'a>, PayloadError> {
        match self.rest {
            [] => Ok(content),
            rest => Err(PayloadError::TooLong(rest.len())),
        }
    }
}

/// Reads a command or a query; every byte must belong to it.
pub(crate) fn decode_body<C: DeserializeOwned>(body: &[u8]) -> Result<C, PayloadError> {
    match postcard::take_from_bytes(body) {
        Ok((command, [])) => Ok(command),
        Ok((_, rest)) => Err(PayloadError::Command(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(PayloadError::Command(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_nanos(1_234_567_890_123);
    const LIMITS: TableLimits = TableLimits { age_max_nanos: 7, count_max: 8, bytes_max: 9 };
    const REQUEST: SessionRequest =
        SessionRequest { session: SessionId(3), sequence: 17, answered_below: 15 };

    #[test]
    fn a_command_comes_back_with_its_time_however_it_is_known() {
        let command = (7u64, "seven".to_owned());
        for known in [Known::Not, Known::InSession(REQUEST), Known::ByName(b"mine", LIMITS)] {
            let draft = Draft::command(known, &command).unwrap();
            let body = draft.encoded().to_vec();
            assert_eq!(decode_body::<(u64, String)>(&body).unwrap(), command);
            let len = draft.overhead() + body.len();
            let again = Draft::encoded_command(known, &body).stamp(TIME);
            let bytes = draft.stamp(TIME);
            assert_eq!((&again, bytes.len()), (&bytes, len));
            let payload = Payload::decode(&bytes).unwrap();
            assert_eq!((payload.time, payload.body), (TIME, &bytes[HEADER_BYTES..]));
            let expected = match known {
                Known::Not => Content::Command(&body),
                Known::InSession(request) => Content::InSession { request, command: &body },
                Known::ByName(name, limits) => Content::Named { name, limits, command: &body },
            };
            assert_eq!(payload.content, expected);
        }
    }

    #[test]
    fn what_is_no_command_comes_back_and_nothing_may_follow_it() {
        let session = SessionId(5);
        for (draft, expected) in [
            (Draft::time_mark(), Content::TimeMark),
            (Draft::open(LIMITS), Content::Open(LIMITS)),
            (Draft::close(session), Content::Close(session)),
        ] {
            assert_eq!(draft.opens_session(), expected == Content::Open(LIMITS));
            let bytes = draft.stamp(TIME);
            assert_eq!(Payload::decode(&bytes).unwrap().content, expected);
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Payload::decode(&longer), Err(PayloadError::TooLong(1)));
        }
    }

    #[test]
    fn an_unknown_kind_a_short_payload_and_trailing_bytes_are_errors() {
        assert_eq!(Payload::decode(&[1, 2]), Err(PayloadError::TooShort(2)));
        assert_eq!(Payload::decode(&[99; 20]), Err(PayloadError::UnknownKind(99)));
        let named = Draft::command(Known::ByName(b"mine", LIMITS), &()).unwrap().stamp(TIME);
        let session = Draft::command(Known::InSession(REQUEST), &()).unwrap().stamp(TIME);
        for whole in [named, session, Draft::open(LIMITS).stamp(TIME)] {
            for len in 0..whole.len() {
                assert_eq!(Payload::decode(&whole[..len]), Err(PayloadError::TooShort(len)));
            }
        }
        assert!(decode_body::<u8>(&[1, 2]).is_err());
        assert!(decode_body::<u64>(&[]).is_err());
    }

    #[test]
    fn a_time_beyond_the_format_is_the_greatest_that_it_has() {
        let bytes = Draft::command(Known::Not, &7u8).unwrap().stamp(Duration::MAX);
        let payload = Payload::decode(&bytes).unwrap();
        assert_eq!(payload.time, Duration::from_nanos(u64::MAX));
        assert_eq!(payload.content, Content::Command(&[7]));
    }
}
