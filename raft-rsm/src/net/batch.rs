//! Frames on their way to a socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameKind, HEADER_BYTES, header};

/// A payload at the end of a frame that is longer than this is sent from where it is; a shorter one is cheaper to
/// copy than to send by a slice of its own.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// The buffer that a busy connection keeps for the next batch.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// The most pieces of memory that one call to the operating system writes.
pub(crate) const SLICES_MAX: usize = 64;

/// Frames that are written together. Its memory is used again by the next batch.
#[derive(Debug, Default)]
pub(crate) struct WriteBatch {
    /// What comes before `tail`, in order.
    segments: VecDeque<Bytes>,
    segments_bytes: usize,
    /// Where new frames are encoded.
    tail: BytesMut,
}

/// A body that is longer than the receiver would accept. Nothing of it is in the batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {body_bytes} bytes, of at most {body_bytes_max}")]
pub(crate) struct TooLong {
    pub(crate) body_bytes: usize,
    pub(crate) body_bytes_max: usize,
}

impl WriteBatch {
    /// Adds a frame. `encode` appends its body, up to a payload that ends it, which it returns.
    ///
    /// # Errors
    /// [`TooLong`]; the batch is as it was.
    pub(crate) fn frame<'p>(
        &mut self,
        kind: FrameKind,
        body_bytes_max: usize,
        encode: impl FnOnce(&mut BytesMut) -> Option<&'p Bytes>,
    ) -> Result<(), TooLong> {
        let start = self.tail.len();
        self.tail.extend_from_slice(&[0; HEADER_BYTES]);
        let payload = encode(&mut self.tail);
        let payload_bytes = payload.map_or(0, Bytes::len);
        let body_bytes = self.tail.len() - start - HEADER_BYTES + payload_bytes;
        let length = match u32::try_from(body_bytes) {
            Ok(length) if body_bytes <= body_bytes_max => length,
            Ok(_) | Err(_) => {
                self.tail.truncate(start);
                return Err(TooLong { body_bytes, body_bytes_max });
            }
        };
        let (before, encoded) = self.tail.split_at_mut(start + HEADER_BYTES);
        let header = header(kind, length, &[encoded, payload.map_or(&[], |payload| payload)]);
        before[start..].copy_from_slice(&header);
        match payload {
            Some(payload) if payload_bytes >= SHARED_BYTES_MIN => {
                self.push_segment(payload.clone());
            }
            Some(payload) => self.tail.extend_from_slice(payload),
            None => {}
        }
        Ok(())
    }

    /// Drops what was not written, and what a batch of unusual size needed.
    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.segments_bytes = 0;
        self.tail.clear();
        if self.tail.capacity() > KEPT_BYTES_MAX {
            self.tail = BytesMut::new();
        }
    }

    fn push_segment(&mut self, segment: Bytes) {
        let encoded = self.tail.split().freeze();
        self.segments_bytes += encoded.len() + segment.len();
        self.segments.extend([encoded, segment]);
    }
}

impl Buf for WriteBatch {
    fn remaining(&self) -> usize {
        self.segments_bytes + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&self.tail, |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.segments.iter().map(|segment| &segment[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.segments.front_mut() {
            let step = count.min(front.len());
            front.advance(step);
            self.segments_bytes -= step;
            count -= step;
            if !front.is_empty() {
                return;
            }
            self.segments.pop_front();
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameDecoder;
    use super::*;

    const BODY_BYTES_MAX: usize = 100_000;

    fn frames(batch: &mut WriteBatch, step: usize) -> Vec<Bytes> {
        let mut decoder = FrameDecoder::new(BODY_BYTES_MAX);
        let mut bodies = Vec::new();
        while batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = batch.chunks_vectored(&mut slices);
            let mut written = 0;
            for slice in &slices[..count] {
                let part = &slice[..slice.len().min(step - written)];
                decoder.buffer().0.extend_from_slice(part);
                written += part.len();
            }
            batch.advance(written);
            while let Some(frame) = decoder.next_frame().unwrap() {
                bodies.push(frame.body);
            }
        }
        bodies
    }

    #[test]
    fn frames_are_written_as_they_were_added_whatever_the_steps() {
        let long = Bytes::from(vec![1; 50_000]);
        let short = Bytes::from(vec![2; 100]);
        let mut batch = WriteBatch::default();
        for step in [1, 13, 5_000, usize::MAX] {
            for payload in [None, Some(&long), Some(&short), Some(&long), None] {
                let encode = |out: &mut BytesMut| {
                    out.extend_from_slice(b"head");
                    payload
                };
                batch.frame(FrameKind::Packet, BODY_BYTES_MAX, encode).unwrap();
            }
            let bodies = frames(&mut batch, step);
            let lengths: Vec<usize> = bodies.iter().map(Bytes::len).collect();
            assert_eq!(lengths, [4, 50_004, 104, 50_004, 4]);
            batch.clear();
        }
    }

    #[test]
    fn a_message_that_is_too_long_leaves_the_batch_as_it_was() {
        let long = Bytes::from(vec![1; BODY_BYTES_MAX]);
        let mut batch = WriteBatch::default();
        batch.frame(FrameKind::Packet, BODY_BYTES_MAX, |_| None).unwrap();
        let before = batch.remaining();
        let encode = |out: &mut BytesMut| {
            out.extend_from_slice(b"head");
            Some(&long)
        };
        batch.frame(FrameKind::Packet, BODY_BYTES_MAX, encode).unwrap_err();
        assert_eq!(batch.remaining(), before);
    }

    #[test]
    fn a_long_payload_is_sent_from_where_it_is() {
        let long = Bytes::from(vec![1; 50_000]);
        let mut batch = WriteBatch::default();
        batch.frame(FrameKind::Packet, BODY_BYTES_MAX, |_| Some(&long)).unwrap();
        batch.advance(HEADER_BYTES);
        assert_eq!(batch.chunk().as_ptr(), long.as_ptr());
    }
}
