//! What this crate puts into an entry: `[kind: u8][log time: u64 LE, nanoseconds][body]`.
//!
//! The body of a command is the command as postcard. The header is reserved when the command is encoded and
//! filled when it is proposed, so that a command is encoded once, into the buffer that goes to every follower and to
//! the disk.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The length of the header, in bytes.
pub(crate) const HEADER_BYTES: usize = 9;

const COMMAND: u8 = 1;

/// An entry's payload on its way to being proposed: the body is there, the log time not yet.
#[derive(Debug)]
pub(crate) struct Draft(Vec<u8>);

impl Draft {
    /// A command.
    ///
    /// # Errors
    /// The command cannot be serialized: its own `Serialize` says why.
    pub(crate) fn command<C: Serialize>(command: &C) -> Result<Draft, postcard::Error> {
        let mut buffer = Vec::with_capacity(128);
        buffer.extend_from_slice(&header(COMMAND));
        postcard::to_extend(command, buffer).map(Draft)
    }

    /// A command that is encoded already.
    pub(crate) fn encoded_command(body: &[u8]) -> Draft {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + body.len());
        buffer.extend_from_slice(&header(COMMAND));
        buffer.extend_from_slice(body);
        Draft(buffer)
    }

    /// What follows the header: a command, as postcard.
    pub(crate) fn body(&self) -> &[u8] {
        self.0.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// The length of the body, in bytes.
    pub(crate) fn body_len(&self) -> usize {
        self.body().len()
    }

    /// The payload, stamped with the log's time.
    pub(crate) fn stamp(mut self, time: Duration) -> Bytes {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(place) = self.0.get_mut(1..HEADER_BYTES) {
            place.copy_from_slice(&nanoseconds.to_le_bytes());
        }
        Bytes::from(self.0)
    }
}

fn header(kind: u8) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = kind;
    header
}

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload<'a> {
    /// The log's time when it was proposed; zero where the leader did not know it yet.
    pub(crate) time: Duration,
    /// The command, as postcard.
    pub(crate) command: &'a [u8],
}

/// Why a payload cannot be read: it comes from a newer version, or the machine's types have changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("it has {0} bytes, too few for its header")]
    TooShort(usize),
    #[error("it is of kind {0}, which this version does not know")]
    UnknownKind(u8),
    #[error("its command cannot be read: {0}")]
    Command(String),
}

impl<'a> Payload<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Payload<'a>, PayloadError> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(PayloadError::TooShort(bytes.len()));
        };
        let [kind, time @ ..] = *header;
        let time = Duration::from_nanos(u64::from_le_bytes(time));
        match kind {
            COMMAND => Ok(Payload { time, command: body }),
            kind => Err(PayloadError::UnknownKind(kind)),
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

    #[test]
    fn a_command_comes_back_with_its_time() {
        let draft = Draft::command(&(7u64, "seven".to_owned())).unwrap();
        let bytes = draft.stamp(Duration::from_nanos(1_234_567_890_123));
        let payload = Payload::decode(&bytes).unwrap();
        assert_eq!(payload.time, Duration::from_nanos(1_234_567_890_123));
        let body = payload.command;
        assert_eq!(decode_body::<(u64, String)>(body).unwrap(), (7, "seven".to_owned()));
        assert_eq!(Draft::encoded_command(body).stamp(payload.time), bytes);
    }

    #[test]
    fn an_unknown_kind_a_short_payload_and_trailing_bytes_are_errors() {
        assert_eq!(Payload::decode(&[1, 2]), Err(PayloadError::TooShort(2)));
        assert_eq!(Payload::decode(&[99; 20]), Err(PayloadError::UnknownKind(99)));
        assert!(decode_body::<u8>(&[1, 2]).is_err());
        assert!(decode_body::<u64>(&[]).is_err());
    }

    #[test]
    fn a_time_beyond_the_format_is_the_greatest_that_it_has() {
        let bytes = Draft::command(&7u8).unwrap().stamp(Duration::MAX);
        let payload = Payload::decode(&bytes).unwrap();
        assert_eq!(payload, Payload { time: Duration::from_nanos(u64::MAX), command: &[7] });
    }
}
