//! Who is at the other end: the first frame of each side.
//!
//! Both frames start with the protocol version, and a reader that does not know it reads no further, so that
//! every version can tell every other what is wrong.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::NodeId;

use crate::identity::check_address;
use crate::{ClusterId, Identity, Incarnation};

/// The version of everything on the wire.
pub(crate) const PROTOCOL_VERSION: u16 = 4;

/// The longest body of a frame before the handshake is done.
pub(crate) const HANDSHAKE_BODY_BYTES_MAX: usize = 1 << 10;

/// The length of a hello after its version, without the address.
const HELLO_BYTES: usize = 35;

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// What the side that dials says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The version that it speaks.
    pub(crate) version: u16,
    /// Which cluster it means; a client may not know.
    pub(crate) cluster: Option<ClusterId>,
    /// Which node it wants to reach; a client may want whichever is there.
    pub(crate) to: Option<NodeId>,
    /// Who it is.
    pub(crate) dialler: Dialler,
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dialler {
    /// A node of the cluster.
    Peer {
        /// Which one.
        node: NodeId,
        /// Which data directory of it.
        incarnation: Incarnation,
        /// Where it listens, `HOST:PORT`, if it asks for a way back.
        address: Option<String>,
    },
    /// A client.
    Client,
}

/// What the side that was dialled answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HelloAnswer {
    /// The version that it speaks.
    pub(crate) version: u16,
    /// Who it is.
    pub(crate) identity: Identity,
    /// Accepted, or why not.
    pub(crate) verdict: Result<(), Refused>,
}

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    /// In words, for the log of the side that dialled.
    pub(crate) reason: String,
}

/// The kinds of refusals.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Refusal {
    /// The dialler speaks another version.
    WrongVersion = 1,
    /// The dialler belongs to another cluster.
    WrongCluster = 2,
    /// The dialler wanted another node: its addresses are stale.
    WrongNode = 3,
    /// The dialler says that it is the node that it dials.
    SameNode = 4,
    /// Another process, with another data directory, is connected as the same node.
    DuplicateNode = 5,
    /// There are too many connections.
    Busy = 6,
    /// The configuration names another incarnation of the node that dials.
    OtherIncarnation = 7,
    /// A kind that a newer version has.
    Other = 255,
}

/// Why a frame is no handshake.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a handshake")]
pub(crate) struct NoHandshake;

const ROLE_PEER: u8 = 1;
const ROLE_CLIENT: u8 = 2;

impl Hello {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.version);
        let (role, node, incarnation, address) = match &self.dialler {
            Dialler::Peer { node, incarnation, address } => {
                (ROLE_PEER, node.0, incarnation.0, address.as_deref().unwrap_or_default())
            }
            Dialler::Client => (ROLE_CLIENT, 0, 0, ""),
        };
        out.put_u8(role);
        out.put_u8(u8::from(self.cluster.is_some()));
        out.put_u64_le(self.cluster.map_or(0, |cluster| cluster.0));
        out.put_u8(u8::from(self.to.is_some()));
        out.put_u64_le(self.to.map_or(0, |to| to.0));
        out.put_u64_le(node);
        out.put_u64_le(incarnation);
        out.put_slice(address.as_bytes());
    }

    /// # Errors
    /// [`NoHandshake`]. Of another version, nothing but the version is read: the rest is made up.
    pub(crate) fn decode(mut body: Bytes) -> Result<Hello, NoHandshake> {
        let version = body.try_get_u16_le().map_err(|_| NoHandshake)?;
        if version != PROTOCOL_VERSION {
            return Ok(Hello { version, cluster: None, to: None, dialler: Dialler::Client });
        }
        if body.len() < HELLO_BYTES {
            return Err(NoHandshake);
        }
        let role = body.get_u8();
        let knows_cluster = body.get_u8();
        let cluster = ClusterId(body.get_u64_le());
        let knows_node = body.get_u8();
        let to = NodeId(body.get_u64_le());
        let node = NodeId(body.get_u64_le());
        let incarnation = Incarnation(body.get_u64_le());
        let dialler = match role {
            ROLE_PEER => Dialler::Peer { node, incarnation, address: decode_address(&body)? },
            ROLE_CLIENT if body.is_empty() => Dialler::Client,
            _ => return Err(NoHandshake),
        };
        let cluster = (knows_cluster == 1).then_some(cluster);
        Ok(Hello { version, cluster, to: (knows_node == 1).then_some(to), dialler })
    }

    /// Whether `me` accepts the dialler, as far as that depends on nothing but the two.
    pub(crate) fn judge(&self, me: &Identity) -> Result<(), Refused> {
        let refused = |refusal, reason| Err(Refused { refusal, reason });
        if self.version != PROTOCOL_VERSION {
            let reason = format!(
                "protocol version {} is not spoken here, {PROTOCOL_VERSION} is",
                self.version
            );
            return refused(Refusal::WrongVersion, reason);
        }
        let is_peer = matches!(self.dialler, Dialler::Peer { .. });
        if self.cluster.map_or(is_peer, |cluster| cluster != me.cluster) {
            let theirs = self.cluster.map_or("none".to_owned(), |cluster| cluster.to_string());
            let reason = format!("this is cluster {}, not {theirs}", me.cluster);
            return refused(Refusal::WrongCluster, reason);
        }
        if let Dialler::Peer { node, incarnation, .. } = &self.dialler
            && *node == me.node
        {
            let reason = if *incarnation == me.incarnation {
                format!("you are me: the address is that of node {node} itself")
            } else {
                format!("you are me: two nodes have the id {node}")
            };
            return refused(Refusal::SameNode, reason);
        }
        if self.to.map_or(is_peer, |to| to != me.node) {
            let wanted = self.to.map_or("whoever it is".to_owned(), |to| to.to_string());
            let reason = format!("this is node {}, not {wanted}", me.node);
            return refused(Refusal::WrongNode, reason);
        }
        Ok(())
    }
}

/// An address as a peer says it. None at all is as good.
fn decode_address(bytes: &[u8]) -> Result<Option<String>, NoHandshake> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let address = std::str::from_utf8(bytes).map_err(|_| NoHandshake)?;
    check_address(address).map_err(|_| NoHandshake)?;
    Ok(Some(address.to_owned()))
}

impl HelloAnswer {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.version);
        let (code, reason) = match &self.verdict {
            Ok(()) => (0, ""),
            Err(refused) => (refused.refusal as u8, &*refused.reason),
        };
        out.put_u8(code);
        out.put_u64_le(self.identity.cluster.0);
        out.put_u64_le(self.identity.node.0);
        out.put_u64_le(self.identity.incarnation.0);
        out.put_slice(&reason.as_bytes()[..reason.len().min(REASON_BYTES_MAX)]);
    }

    /// # Errors
    /// [`NoHandshake`]. The frame is read the same whatever its version.
    pub(crate) fn decode(mut body: Bytes) -> Result<HelloAnswer, NoHandshake> {
        if body.len() < 27 || body.len() > 27 + REASON_BYTES_MAX {
            return Err(NoHandshake);
        }
        let version = body.get_u16_le();
        let code = body.get_u8();
        let identity = Identity {
            cluster: ClusterId(body.get_u64_le()),
            node: NodeId(body.get_u64_le()),
            incarnation: Incarnation(body.get_u64_le()),
        };
        let reason = String::from_utf8_lossy(&body).into_owned();
        let verdict = match code {
            0 => Ok(()),
            code => Err(Refused { refusal: Refusal::decode(code), reason }),
        };
        Ok(HelloAnswer { version, identity, verdict })
    }
}

impl Refusal {
    /// Its name in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Refusal::WrongVersion => "wrong version",
            Refusal::WrongCluster => "wrong cluster",
            Refusal::WrongNode => "wrong node",
            Refusal::SameNode => "same node",
            Refusal::DuplicateNode => "duplicate node",
            Refusal::Busy => "busy",
            Refusal::OtherIncarnation => "other incarnation",
            Refusal::Other => "other",
        }
    }

    fn decode(code: u8) -> Refusal {
        [
            Refusal::WrongVersion,
            Refusal::WrongCluster,
            Refusal::WrongNode,
            Refusal::SameNode,
            Refusal::DuplicateNode,
            Refusal::Busy,
            Refusal::OtherIncarnation,
        ]
        .into_iter()
        .find(|known| *known as u8 == code)
        .unwrap_or(Refusal::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity =
        Identity { cluster: ClusterId(7), node: NodeId(1), incarnation: Incarnation(11) };
    const PEER: Hello = Hello {
        version: PROTOCOL_VERSION,
        cluster: Some(ClusterId(7)),
        to: Some(NodeId(1)),
        dialler: Dialler::Peer { node: NodeId(2), incarnation: Incarnation(22), address: None },
    };
    const CLIENT: Hello = Hello { cluster: None, dialler: Dialler::Client, ..PEER };

    fn peer_at(address: &str) -> Hello {
        let address = Some(address.to_owned());
        let dialler = Dialler::Peer { node: NodeId(2), incarnation: Incarnation(22), address };
        Hello { dialler, ..PEER }
    }

    fn refusal(hello: Hello) -> Refusal {
        hello.judge(&ME).unwrap_err().refusal
    }

    #[test]
    fn who_means_this_node_is_accepted() {
        assert_eq!(PEER.judge(&ME), Ok(()));
        assert_eq!(CLIENT.judge(&ME), Ok(()));
        assert_eq!(Hello { to: None, ..CLIENT }.judge(&ME), Ok(()), "a client may not know whom");
    }

    #[test]
    fn who_means_another_node_is_refused_with_the_reason() {
        assert_eq!(refusal(Hello { version: 99, ..PEER }), Refusal::WrongVersion);
        assert_eq!(refusal(Hello { cluster: Some(ClusterId(8)), ..PEER }), Refusal::WrongCluster);
        assert_eq!(refusal(Hello { cluster: None, ..PEER }), Refusal::WrongCluster);
        assert_eq!(refusal(Hello { cluster: Some(ClusterId(8)), ..CLIENT }), Refusal::WrongCluster);
        assert_eq!(refusal(Hello { to: Some(NodeId(3)), ..PEER }), Refusal::WrongNode);
        assert_eq!(refusal(Hello { to: Some(NodeId(3)), ..CLIENT }), Refusal::WrongNode);
        assert_eq!(refusal(Hello { to: None, ..PEER }), Refusal::WrongNode);
        for incarnation in [ME.incarnation, Incarnation(12)] {
            let dialler = Dialler::Peer { node: ME.node, incarnation, address: None };
            assert_eq!(refusal(Hello { dialler, ..PEER }), Refusal::SameNode);
        }
    }

    #[test]
    fn both_frames_are_read_as_they_were_written() {
        let whoever = Hello { cluster: None, to: None, ..CLIENT };
        for hello in [PEER, peer_at("[fe80::1]:7101"), CLIENT, whoever] {
            let mut out = BytesMut::new();
            hello.encode(&mut out);
            assert!(out.len() <= HANDSHAKE_BODY_BYTES_MAX);
            assert_eq!(Hello::decode(out.freeze()), Ok(hello));
        }
        let refused = Refused { refusal: Refusal::SameNode, reason: "you are me".to_owned() };
        for verdict in [Ok(()), Err(refused)] {
            let answer = HelloAnswer { version: PROTOCOL_VERSION, identity: ME, verdict };
            let mut out = BytesMut::new();
            answer.encode(&mut out);
            assert!(out.len() <= HANDSHAKE_BODY_BYTES_MAX);
            assert_eq!(HelloAnswer::decode(out.freeze()), Ok(answer));
        }
    }

    #[test]
    fn of_another_version_the_version_is_read() {
        let mut out = BytesMut::new();
        out.put_u16_le(PROTOCOL_VERSION + 1);
        out.put_slice(b"whatever that version says");
        assert_eq!(refusal(Hello::decode(out.freeze()).unwrap()), Refusal::WrongVersion);
    }

    #[test]
    fn an_address_that_is_none_is_no_handshake() {
        let longest = format!("{}:65535", "h".repeat(253));
        for (address, is_one) in [
            ("h:1", true),
            (&*longest, true),
            (&*format!("h{longest}"), false),
            ("h", false),
            (":1", false),
            ("h:65536", false),
            ("h\n:1", false),
        ] {
            let mut out = BytesMut::new();
            peer_at(address).encode(&mut out);
            assert_eq!(Hello::decode(out.freeze()).is_ok(), is_one, "{address}");
        }
        let mut out = BytesMut::new();
        CLIENT.encode(&mut out);
        out.put_slice(b"h:1");
        assert_eq!(Hello::decode(out.freeze()), Err(NoHandshake), "a client has none");
    }

    quickcheck::quickcheck! {
        fn random_bytes_are_a_handshake_or_an_error(bytes: Vec<u8>) -> bool {
            // Nothing but a panic would be wrong.
            let _ = (Hello::decode(bytes.clone().into()), HelloAnswer::decode(bytes.into()));
            true
        }
    }
}
