//! What the server keeps in memory.
