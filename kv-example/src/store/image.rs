//! The store as it is written into a snapshot.
//!
//! ```text
//! image = "KVSTORE" format:u8 revision:u64 time:u64 leases:u64 lease* keys:u64 entry*
//! lease = id:u64 ttl:u64 ends_at:u64                                  (times in nanoseconds; ids ascending)
//! entry = key_bytes:u32 value_bytes:u32 version:u64 created:u64 modified:u64 lease:u64 key value
//!                                                       (lease 0: none; numbers little-endian, keys ascending)
//! ```
//!
//! It is written and read an entry at a time, so memory holds one entry beside the map. Checksums are the
//! storage's matter; what is checked here is that the image makes sense.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::leases::Leases;
use super::{LeaseId, Map, Revision, State, Version, Versioned};

const MAGIC: &[u8; 7] = b"KVSTORE";
const FORMAT: u8 = 2;

pub(super) fn write(state: &State, image: &mut dyn Write) -> io::Result<()> {
    let State { map, leases, revision, time } = state;
    let mut image = io::BufWriter::new(image);
    image.write_all(MAGIC)?;
    image.write_all(&[FORMAT])?;
    for number in [revision.0, nanos(*time), leases.len() as u64] {
        image.write_all(&number.to_le_bytes())?;
    }
    for (id, lease) in leases.iter() {
        for number in [id.0, nanos(lease.ttl), nanos(lease.ends_at)] {
            image.write_all(&number.to_le_bytes())?;
        }
    }
    image.write_all(&(map.len() as u64).to_le_bytes())?;
    for (key, versioned) in map {
        let Versioned { version, value, created, modified, lease } = &**versioned;
        image.write_all(&length(key.len())?)?;
        image.write_all(&length(value.len())?)?;
        for number in [version.0, created.0, modified.0, lease.map_or(0, |lease| lease.0)] {
            image.write_all(&number.to_le_bytes())?;
        }
        image.write_all(key.as_bytes())?;
        image.write_all(value)?;
    }
    image.flush()
}

pub(super) fn read(image: &mut dyn Read) -> io::Result<State> {
    let mut image = io::BufReader::new(image);
    if &array::<7>(&mut image)? != MAGIC {
        return Err(senseless("this is no image of a key/value store"));
    }
    let [format] = array(&mut image)?;
    if format != FORMAT {
        return Err(senseless(format!(
            "the image has format {format}, this program reads format {FORMAT}: use the version that wrote it, or a newer one"
        )));
    }
    let revision = Revision(number(&mut image)?);
    let time = Duration::from_nanos(number(&mut image)?);
    let mut leases = read_leases(&mut image)?;
    let map = read_map(&mut image, &mut leases)?;
    if image.read(&mut [0])? != 0 {
        return Err(senseless(format!("the image goes on after its {} keys", map.len())));
    }
    Ok(State { map, leases, revision, time })
}

fn read_leases(image: &mut impl Read) -> io::Result<Leases> {
    let mut leases = Leases::default();
    for _ in 0..number(image)? {
        let id = LeaseId(number(image)?);
        let (ttl, ends_at) = (number(image)?, number(image)?);
        if id.0 == 0 || leases.get(id).is_some() {
            return Err(senseless(format!("the image has lease {id} twice, or it is none")));
        }
        leases.restore(id, Duration::from_nanos(ttl), Duration::from_nanos(ends_at));
    }
    Ok(leases)
}

fn read_map(image: &mut impl Read, leases: &mut Leases) -> io::Result<Map> {
    let keys = number(image)?;
    let mut map = Map::new();
    let mut last: Option<Arc<str>> = None;
    for at in 0..keys {
        let key_bytes = u32::from_le_bytes(array(image)?);
        let value_bytes = u32::from_le_bytes(array(image)?);
        let version = Version(number(image)?);
        let (created, modified) = (Revision(number(image)?), Revision(number(image)?));
        let lease = Some(number(image)?).filter(|lease| *lease != 0).map(LeaseId);
        let key: Arc<str> = String::from_utf8(bytes(image, key_bytes)?)
            .map_err(|_| senseless(format!("key {at} of the image is not UTF-8")))?
            .into();
        if last.is_some_and(|last| last >= key) {
            return Err(senseless(format!("key {at} of the image is out of order")));
        }
        if version == Version::ABSENT {
            return Err(senseless(format!("key {at} of the image has version 0")));
        }
        if let Some(lease) = lease {
            if leases.get(lease).is_none() {
                return Err(senseless(format!("key {at} of the image is tied to no lease")));
            }
            leases.tie(&key, lease);
        }
        let value = Bytes::from(bytes(image, value_bytes)?);
        let versioned = Versioned { version, value, created, modified, lease };
        map.insert(Arc::clone(&key), Arc::new(versioned));
        last = Some(key);
    }
    Ok(map)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn number(image: &mut impl Read) -> io::Result<u64> {
    array(image).map(u64::from_le_bytes)
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes)
        .map(u32::to_le_bytes)
        .map_err(|_| senseless(format!("a key or value of {bytes} bytes does not fit the image")))
}

fn array<const N: usize>(image: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    image.read_exact(&mut array)?;
    Ok(array)
}

/// Reads `len` bytes. Memory grows with what is there, not with what a damaged length claims.
fn bytes(image: &mut impl Read, len: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image.take(u64::from(len)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A value lives as long as its key: it must not keep the slack of a growing buffer.
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn senseless(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}
