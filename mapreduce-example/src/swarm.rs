//! Swarm.
pub(crate) mod oracle;
