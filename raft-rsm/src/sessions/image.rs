//! The table as it stands in a snapshot. All numbers are little-endian:
//!
//! ```text
//! table   = limits (of sessions) limits (of names) sessions:u64 session* names:u64 name*
//! limits  = age_max:u64 (nanoseconds) count_max:u64 bytes_max:u64
//! session = id:u64 active_at:u64 answered_below:u64 kept:u8 (sequence:u64 answer)*
//! name    = name_bytes:u8 name came_at:u64 command_crc:u32 answer
//! answer  = 0:u8 | 1:u8 bytes:u64 answer
//! ```

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::shards::Shards;
use super::{
    IN_FLIGHT_MAX, Kept, Named, ONCE_KEY_BYTES_MAX, Open, SessionId, Sessions, TableLimits,
};

/// The table as it was. It shares what has not changed since with the table itself.
pub(crate) struct FrozenSessions {
    open: Shards<SessionId, Open>,
    session_limits: TableLimits,
    named: Shards<Arc<[u8]>, Named>,
    name_limits: TableLimits,
}

impl Sessions {
    /// A view that costs little, however long the table is.
    pub(crate) fn freeze(&self) -> FrozenSessions {
        FrozenSessions {
            open: self.open.clone(),
            session_limits: self.session_limits,
            named: self.named.clone(),
            name_limits: self.name_limits,
        }
    }

    /// # Errors
    /// The image cannot be read, or is not that of a table.
    pub(crate) fn read_from(image: &mut dyn Read) -> io::Result<Sessions> {
        let mut sessions = Sessions {
            session_limits: read_limits(image)?,
            name_limits: read_limits(image)?,
            ..Sessions::default()
        };
        for _ in 0..read_number(image)? {
            let (id, open) = (SessionId(read_number(image)?), read_open(image)?);
            sessions.take_in(id, open).ok_or_else(|| senseless("it holds a session twice"))?;
        }
        for _ in 0..read_number(image)? {
            let [len] = read_array(image)?;
            let name = Arc::from(read_bytes(image, len.into())?);
            let named = Named {
                came_at_nanos: read_number(image)?,
                command_crc: u32::from_le_bytes(read_array(image)?),
                answer: read_answer(image)?,
            };
            sessions.take_in_name(name, named).ok_or_else(|| senseless("it holds a name twice"))?;
        }
        Ok(sessions)
    }
}

impl FrozenSessions {
    /// # Errors
    /// Those of `image`.
    pub(crate) fn write_to(&self, image: &mut dyn Write) -> io::Result<()> {
        for limits in [self.session_limits, self.name_limits] {
            image.write_all(&limits.to_bytes())?;
        }
        write_number(image, self.open.len() as u64)?;
        for (id, open) in self.open.iter() {
            for number in [id.0, open.active_at_nanos, open.answered_below] {
                write_number(image, number)?;
            }
            image.write_all(&[short(open.kept.len(), IN_FLIGHT_MAX)?])?;
            for Kept { sequence, answer } in &open.kept {
                write_number(image, *sequence)?;
                write_answer(image, answer.as_deref())?;
            }
        }
        write_number(image, self.named.len() as u64)?;
        for (name, Named { came_at_nanos, command_crc, answer }) in self.named.iter() {
            image.write_all(&[short(name.len(), ONCE_KEY_BYTES_MAX as u64)?])?;
            image.write_all(name)?;
            write_number(image, *came_at_nanos)?;
            image.write_all(&command_crc.to_le_bytes())?;
            write_answer(image, answer.as_deref())?;
        }
        Ok(())
    }
}

/// A length that is in range wherever it comes from.
fn short(len: usize, max: u64) -> io::Result<u8> {
    let within = u8::try_from(len).ok().filter(|len| u64::from(*len) <= max);
    within.ok_or_else(|| senseless("it holds more than it may"))
}

fn write_number(image: &mut dyn Write, number: u64) -> io::Result<()> {
    image.write_all(&number.to_le_bytes())
}

fn write_answer(image: &mut dyn Write, answer: Option<&[u8]>) -> io::Result<()> {
    let Some(answer) = answer else { return image.write_all(&[0]) };
    image.write_all(&[1])?;
    write_number(image, answer.len() as u64)?;
    image.write_all(answer)
}

fn read_limits(image: &mut dyn Read) -> io::Result<TableLimits> {
    read_array(image).map(TableLimits::from_bytes)
}

fn read_open(image: &mut dyn Read) -> io::Result<Open> {
    let (active_at_nanos, answered_below) = (read_number(image)?, read_number(image)?);
    let [count] = read_array(image)?;
    if u64::from(count) > IN_FLIGHT_MAX {
        return Err(senseless("a session keeps more answers than it may"));
    }
    let mut kept = Vec::with_capacity(count.into());
    for _ in 0..count {
        kept.push(Kept { sequence: read_number(image)?, answer: read_answer(image)? });
    }
    Ok(Open { active_at_nanos, answered_below, kept })
}

fn read_answer(image: &mut dyn Read) -> io::Result<Option<Arc<[u8]>>> {
    match read_array(image)? {
        [0] => Ok(None),
        [1] => {
            let len = read_number(image)?;
            Ok(Some(Arc::from(read_bytes(image, len)?)))
        }
        [_] => Err(senseless("it says neither yes nor no where there may be an answer")),
    }
}

fn read_number(image: &mut dyn Read) -> io::Result<u64> {
    read_array(image).map(u64::from_le_bytes)
}

fn read_array<const N: usize>(image: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    image.read_exact(&mut array)?;
    Ok(array)
}

/// Memory grows with what is there, not with what a damaged length claims.
fn read_bytes(image: &mut dyn Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if image.take(len).read_to_end(&mut bytes)? as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn senseless(problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the table of sessions makes no sense: {problem}"),
    )
}
