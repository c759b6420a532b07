//! Swarm.
pub mod crew;
pub(crate) mod oracle;
pub mod toy;
