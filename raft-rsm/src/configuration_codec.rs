//! The one binary form of a configuration, in entries and on the wire.
//!
//! Little-endian: voters, outgoing voters, learners; each a count (4 bytes) and so many members: id (8), whether an
//! incarnation is known (1), incarnation (8), length of the address (2), address (UTF-8).

use bytes::{Buf, BufMut};
use raft_core::{Configuration, Incarnation, Member, NodeId};

const MEMBER_BYTES: usize = 19;

/// Why bytes are no configuration.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("they are no configuration")]
pub struct NoConfiguration;

/// The length in bytes of what [`encode_configuration`] appends.
pub(crate) fn encoded_configuration_len(configuration: &Configuration) -> usize {
    let set = |members: &[Member]| -> usize {
        4 + members.iter().map(|m| MEMBER_BYTES + address(m).len()).sum::<usize>()
    };
    set(configuration.voters()) + set(configuration.outgoing()) + set(configuration.learners())
}

/// Appends the binary form of `configuration` to `out`.
pub(crate) fn encode_configuration(configuration: &Configuration, out: &mut impl BufMut) {
    for set in [configuration.voters(), configuration.outgoing(), configuration.learners()] {
        // A set too long for its count does not fit into a frame either.
        out.put_u32_le(u32::try_from(set.len()).unwrap_or(u32::MAX));
        for member in set {
            out.put_u64_le(member.id.0);
            out.put_u8(u8::from(member.incarnation.is_some()));
            out.put_u64_le(member.incarnation.map_or(0, |incarnation| incarnation.0));
            let address = address(member);
            out.put_u16_le(u16::try_from(address.len()).unwrap_or(u16::MAX));
            out.put_slice(address);
        }
    }
}

/// An address that is too long to be one is left out.
fn address(member: &Member) -> &[u8] {
    let address = member.address.as_bytes();
    if address.len() <= Member::ADDRESS_BYTES_MAX { address } else { &[] }
}

/// Takes a configuration off the front of `input`.
///
/// # Errors
/// The bytes are no configuration.
pub(crate) fn decode_configuration(input: &mut impl Buf) -> Result<Configuration, NoConfiguration> {
    let (voters, outgoing) = (members(input)?, members(input)?);
    Ok(Configuration::of_members(voters, outgoing, members(input)?))
}

fn members(input: &mut impl Buf) -> Result<Vec<Member>, NoConfiguration> {
    let count = input.try_get_u32_le().map_err(|_| NoConfiguration)?;
    let count = usize::try_from(count).map_err(|_| NoConfiguration)?;
    // Memory is set aside only for what the bytes at hand can hold.
    if count.checked_mul(MEMBER_BYTES).is_none_or(|bytes| bytes > input.remaining()) {
        return Err(NoConfiguration);
    }
    (0..count).map(|_| member(input)).collect()
}

fn member(input: &mut impl Buf) -> Result<Member, NoConfiguration> {
    let id = NodeId(input.try_get_u64_le().map_err(|_| NoConfiguration)?);
    let is_known = input.try_get_u8().map_err(|_| NoConfiguration)?;
    let incarnation = Incarnation(input.try_get_u64_le().map_err(|_| NoConfiguration)?);
    let len = usize::from(input.try_get_u16_le().map_err(|_| NoConfiguration)?);
    if is_known > 1 || len > Member::ADDRESS_BYTES_MAX {
        return Err(NoConfiguration);
    }
    let mut address = vec![0; len];
    input.try_copy_to_slice(&mut address).map_err(|_| NoConfiguration)?;
    let address = String::from_utf8(address).map_err(|_| NoConfiguration)?;
    Ok(Member { id, incarnation: (is_known == 1).then_some(incarnation), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_comes_back_and_a_part_of_it_is_none() {
        let configuration = Configuration::of_members(
            [Member::new(NodeId(1), "a:1"), Member::new(NodeId(2), "")],
            [Member::of_incarnation(NodeId(2), Incarnation(7), "[::1]:7")],
            [Member::of_incarnation(NodeId(2), Incarnation(8), "ä:8")],
        );
        let mut bytes = Vec::new();
        encode_configuration(&configuration, &mut bytes);
        assert_eq!(bytes.len(), encoded_configuration_len(&configuration));
        let mut input = bytes.as_slice();
        assert_eq!(decode_configuration(&mut input), Ok(configuration));
        assert!(input.is_empty());
        for len in 0..bytes.len() {
            assert_eq!(decode_configuration(&mut &bytes[..len]), Err(NoConfiguration));
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_at_hand_sets_no_memory_aside() {
        let bytes = [0xff; 64];
        assert_eq!(decode_configuration(&mut bytes.as_slice()), Err(NoConfiguration));
    }
}
