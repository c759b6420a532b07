//! Who a node is, beyond its number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use raft_core::Incarnation;
use raft_core::{Configuration, Member, NodeId};
use serde::{Deserialize, Serialize};

/// The longest address, in bytes: a name of the DNS, a colon and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 1 + 5;

/// Names one cluster, so that the nodes of two clusters never mix.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// What a data directory says about itself and a node about itself in a handshake.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which node of it.
    pub node: NodeId,
    /// Which data directory of that node.
    pub incarnation: Incarnation,
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The members of a cluster and where they listen, as in `1=127.0.0.1:7101,2=127.0.0.1:7102`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    addresses: BTreeMap<NodeId, String>,
}

/// Why a text does not name a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} in the cluster {text:?}: {problem}; expected ID=HOST:PORT,ID=HOST:PORT,...")]
pub struct ParseClusterError {
    text: String,
    part: String,
    problem: &'static str,
}

impl Cluster {
    /// The members with their addresses, `HOST:PORT`, sorted by id.
    pub fn addresses(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.addresses.iter().map(|(id, address)| (*id, address.as_str()))
    }

    /// The address of one member, `HOST:PORT`.
    #[must_use]
    pub fn address(&self, id: NodeId) -> Option<&str> {
        self.addresses.get(&id).map(String::as_str)
    }

    /// The same as a list, as [`crate::Transport::set_peers`] takes it: whatever their incarnations.
    #[must_use]
    pub fn to_members(&self) -> Vec<Member> {
        self.addresses().map(|(id, address)| Member::new(id, address)).collect()
    }

    /// All members as voters, whatever their incarnations: the first leader names them as it hears them.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        Configuration::of_members(self.to_members(), [], [])
    }

    /// An id that all who were given the same members and addresses agree upon: FNV-1a over the sorted text. It is for
    /// the first start of a cluster; later on, members and addresses change, and what counts is the id that the data
    /// directories hold.
    #[must_use]
    pub fn default_id(&self) -> ClusterId {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = self
            .to_string()
            .bytes()
            .fold(OFFSET, |h, byte| (h ^ u64::from(byte)).wrapping_mul(PRIME));
        ClusterId(hash)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (id, address)) in self.addresses.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{id}={address}")?;
        }
        Ok(())
    }
}

impl FromStr for Cluster {
    type Err = ParseClusterError;

    fn from_str(text: &str) -> Result<Cluster, ParseClusterError> {
        let mut addresses = BTreeMap::new();
        for part in text.split(',') {
            let part = part.trim();
            let error = |problem| ParseClusterError {
                text: text.to_owned(),
                part: part.to_owned(),
                problem,
            };
            let (id, address) = part.split_once('=').ok_or_else(|| error("there is no '='"))?;
            let id = id.trim().parse().map_err(|_| error("the id is not a number"))?;
            if id == 0 {
                return Err(error("ids start at 1"));
            }
            let address = address.trim();
            check_address(address).map_err(error)?;
            if addresses.values().any(|other| other == address) {
                return Err(error("the address is given twice"));
            }
            if addresses.insert(NodeId(id), address.to_owned()).is_some() {
                return Err(error("the id is given twice"));
            }
        }
        Ok(Cluster { addresses })
    }
}

/// Whether a text is an address, `HOST:PORT`, as everything here takes it. It is not looked up.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(address: &str) -> Result<(), &'static str> {
    if address.len() > ADDRESS_BYTES_MAX {
        return Err("the address is too long");
    }
    if address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("the address has white space in it");
    }
    let (host, port) = address.rsplit_once(':').ok_or("the address has no port")?;
    if host.is_empty() {
        return Err("the address has no host");
    }
    if port.parse::<u16>().is_err() {
        return Err("the port is not a number from 0 to 65535");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_read_and_written() {
        let cluster: Cluster = "2=b:7102, 1=127.0.0.1:7101,3=[::1]:7103".parse().unwrap();
        assert_eq!(cluster.to_string(), "1=127.0.0.1:7101,2=b:7102,3=[::1]:7103");
        assert_eq!(cluster.address(NodeId(3)), Some("[::1]:7103"));
        let configuration = cluster.configuration();
        let address = |id| configuration.member(NodeId(id)).map(|member| &*member.address);
        assert_eq!(
            [1, 2, 3].map(address),
            [Some("127.0.0.1:7101"), Some("b:7102"), Some("[::1]:7103")]
        );
    }

    #[test]
    fn the_default_id_depends_on_members_and_addresses_and_not_on_their_order() {
        let id = |text: &str| text.parse::<Cluster>().unwrap().default_id();
        assert_eq!(id("1=a:1,2=b:2"), id("2=b:2,1=a:1"));
        assert_ne!(id("1=a:1,2=b:2"), id("1=a:1,2=b:3"));
    }

    #[test]
    fn a_text_that_is_no_cluster_is_refused_with_the_part_that_is_wrong() {
        for text in [
            "",
            "1",
            "1=",
            "x=a:1",
            "1=a",
            "1=a:b",
            "1=:1",
            "1=a b:1",
            "0=a:1",
            "1=a:1,",
            "1=a:1,1=b:2",
            "1=a:1,2=a:1",
        ] {
            let error = text.parse::<Cluster>().expect_err(text).to_string();
            assert!(error.contains("expected ID=HOST:PORT"), "{error}");
        }
    }
}
