//! Frames: how a stream of bytes becomes whole messages again.
//!
//! Little-endian: magic (2 bytes), kind (1), zero (1), length of the body (4), CRC-32 of all else (4), group (8),
//! body. The group is the place for many groups on one connection; today it is 0.

use bytes::{Buf, Bytes, BytesMut};

/// The length of everything before the body.
pub(crate) const HEADER_BYTES: usize = 20;

const MAGIC: [u8; 2] = *b"Rf";

/// The one group that there is today.
const GROUP: u64 = 0;

/// What is read from a socket at once, at least and at most: it follows the traffic.
const READ_BYTES_MIN: usize = 8 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// Below this size a frame is copied out of the read buffer, so that a small payload that is kept for long keeps
/// no large buffer alive; above it, payloads are slices of the buffer.
const COPY_BYTES_MAX: usize = 1 << 10;

/// What a frame carries.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// The first frame of the side that dials.
    Hello = 1,
    /// The first frame of the side that was dialled.
    HelloAnswer = 2,
    /// A [`crate::transport::Packet`] between nodes.
    Packet = 3,
    /// A client's request.
    Request = 4,
    /// The answer to one.
    Response = 5,
    /// Nothing: says that the sender is alive.
    KeepAlive = 6,
}

/// One whole frame whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) body: Bytes,
}

/// Why bytes are no frame. Nothing after it on the same stream can be trusted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("not the start of a frame")]
    Magic,
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("a frame of {body_bytes} bytes, of at most {body_bytes_max}")]
    TooLong { body_bytes: u32, body_bytes_max: usize },
    #[error("a frame for the unknown group {0}")]
    Group(u64),
    #[error("a frame whose checksum is wrong")]
    Checksum,
}

impl FrameKind {
    fn decode(kind: u8) -> Option<FrameKind> {
        [
            FrameKind::Hello,
            FrameKind::HelloAnswer,
            FrameKind::Packet,
            FrameKind::Request,
            FrameKind::Response,
            FrameKind::KeepAlive,
        ]
        .into_iter()
        .find(|known| *known as u8 == kind)
    }
}

/// The header of a frame whose body consists of `parts`, together `body_bytes` long.
pub(crate) fn header(kind: FrameKind, body_bytes: u32, parts: &[&[u8]]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..2].copy_from_slice(&MAGIC);
    header[2] = kind as u8;
    header[4..8].copy_from_slice(&body_bytes.to_le_bytes());
    header[12..20].copy_from_slice(&GROUP.to_le_bytes());
    let checksum = checksum(&header, parts);
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn checksum(header: &[u8; HEADER_BYTES], parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[0..8]);
    hasher.update(&header[12..20]);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Takes bytes as they come and gives frames.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    buffer: BytesMut,
    body_bytes_max: usize,
    read_bytes: usize,
}

impl FrameDecoder {
    /// Bodies of more than `body_bytes_max` are refused before any memory is set aside for them.
    pub(crate) fn new(body_bytes_max: usize) -> FrameDecoder {
        FrameDecoder { buffer: BytesMut::new(), body_bytes_max, read_bytes: READ_BYTES_MIN }
    }

    /// The limit from now on: small for strangers, larger for those whose handshake was accepted.
    pub(crate) fn set_body_bytes_max(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// Where to append what is read, with room for the number of bytes that should be read at once.
    pub(crate) fn buffer(&mut self) -> (&mut BytesMut, usize) {
        // A long frame is believed to be long as far as its bytes have come: the buffer doubles.
        let missing = self.missing_bytes().min(self.buffer.len().max(READ_BYTES_MAX));
        let wanted = self.read_bytes.max(missing);
        self.buffer.reserve(wanted);
        (&mut self.buffer, wanted)
    }

    /// Tells how much of the room was filled by a read.
    pub(crate) fn filled(&mut self, wanted: usize, got: usize) {
        if got >= wanted {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if got < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
    }

    /// How many bytes of the frame that has begun are still to come; 0 when that is unknown.
    fn missing_bytes(&self) -> usize {
        match self.header() {
            Ok(Some((_, body_bytes))) => {
                (HEADER_BYTES + body_bytes).saturating_sub(self.buffer.len())
            }
            Ok(None) | Err(_) => 0,
        }
    }

    /// The next frame, or `None` when it is not whole yet.
    ///
    /// # Errors
    /// The stream is damaged, or not ours: close it.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((kind, body_bytes)) = self.header()? else { return Ok(None) };
        let whole = HEADER_BYTES + body_bytes;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.buffer[..HEADER_BYTES]);
        let stated = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if checksum(&header, &[&self.buffer[HEADER_BYTES..whole]]) != stated {
            return Err(FrameError::Checksum);
        }
        let group = (&header[12..20]).get_u64_le();
        if group != GROUP {
            return Err(FrameError::Group(group));
        }
        let body = if whole < COPY_BYTES_MAX {
            let body = Bytes::copy_from_slice(&self.buffer[HEADER_BYTES..whole]);
            self.buffer.advance(whole);
            body
        } else {
            self.buffer.advance(HEADER_BYTES);
            self.buffer.split_to(body_bytes).freeze()
        };
        Ok(Some(Frame { kind, body }))
    }

    /// Kind and length of the next frame, once its header is there.
    fn header(&self) -> Result<Option<(FrameKind, usize)>, FrameError> {
        // Strangers are told by their first bytes, without waiting for more.
        let magic = &self.buffer[..self.buffer.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            return Err(FrameError::Magic);
        }
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let kind = FrameKind::decode(self.buffer[2]).ok_or(FrameError::Kind(self.buffer[2]))?;
        let body_bytes = (&self.buffer[4..8]).get_u32_le();
        match usize::try_from(body_bytes) {
            Ok(len) if len <= self.body_bytes_max => Ok(Some((kind, len))),
            Ok(_) | Err(_) => {
                Err(FrameError::TooLong { body_bytes, body_bytes_max: self.body_bytes_max })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY_BYTES_MAX: usize = 10_000;

    fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap();
        [&header(kind, len, &[body])[..], body].concat()
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = FrameDecoder::new(BODY_BYTES_MAX);
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            let (buffer, wanted) = decoder.buffer();
            buffer.extend_from_slice(piece);
            decoder.filled(wanted, piece.len());
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_whole_whatever_the_pieces_they_arrive_in() {
        let bodies = [vec![], vec![1; 10], vec![2; 5_000], vec![3; BODY_BYTES_MAX], vec![4; 1]];
        let bytes: Vec<u8> =
            bodies.iter().flat_map(|body| frame(FrameKind::Packet, body)).collect();
        for piece in [1, 7, 20, 4096, bytes.len()] {
            let frames = decode(&bytes, piece).unwrap();
            assert_eq!(frames.len(), bodies.len());
            for (frame, body) in frames.iter().zip(&bodies) {
                assert_eq!(frame.body, body);
            }
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_header_alone() {
        let bytes = frame(FrameKind::Request, &vec![0; BODY_BYTES_MAX + 1]);
        let mut decoder = FrameDecoder::new(BODY_BYTES_MAX);
        decoder.buffer().0.extend_from_slice(&bytes[..HEADER_BYTES]);
        let error = decoder.next_frame().unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        assert!(decoder.buffer().0.capacity() <= READ_BYTES_MIN * 4);
    }

    #[test]
    fn a_change_of_any_bit_is_noticed() {
        let bytes = frame(FrameKind::Packet, b"what was sent");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A length that grew waits for bytes that never come; all else is an error.
            if let Ok(frames) = decode(&damaged, 4096) {
                assert!(frames.is_empty(), "bit {bit}");
                assert!((4..8).contains(&(bit / 8)), "bit {bit}");
            }
        }
    }

    #[test]
    fn random_bytes_are_refused_or_waited_for() {
        fn property(bytes: Vec<u8>) -> bool {
            decode(&bytes, 3).is_ok_and(|frames| frames.is_empty()) || decode(&bytes, 3).is_err()
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn the_body_of_a_large_frame_is_not_copied() {
        let bytes = frame(FrameKind::Packet, &[7; 5_000]);
        let mut decoder = FrameDecoder::new(BODY_BYTES_MAX);
        let (buffer, _) = decoder.buffer();
        buffer.extend_from_slice(&bytes);
        let memory = buffer.as_ptr_range();
        let body = decoder.next_frame().unwrap().unwrap().body;
        assert!(memory.contains(&body.as_ptr()));
    }
}
