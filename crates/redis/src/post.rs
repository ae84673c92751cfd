//! What waits to be written.

use bytes::Bytes;
use trunkline_core::NodeKey;

use crate::resp::command;

/// One command that carries a message.
#[derive(Debug)]
pub(crate) struct Post {
    /// Who publishes, for whoever counts what was refused.
    pub(crate) from: NodeKey,
    /// Which node of a cluster takes it; `None` for any.
    pub(crate) slot: Option<u16>,
    /// As accounted for in the outbox.
    pub(crate) bytes: usize,
    pub(crate) verb: Verb,
}

#[derive(Debug)]
pub(crate) enum Verb {
    /// Pub/sub, sharded or not.
    Publish { sharded: bool, channel: Bytes, payload: Vec<u8> },
    /// An entry of a stream. `number` is that of an own broadcast that is waited for.
    Append { stream: Bytes, max_len: Bytes, fields: Vec<(&'static str, Vec<u8>)>, number: Option<u64> },
}

impl Post {
    /// Appends the command.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.verb {
            Verb::Publish { sharded, channel, payload } => {
                let verb: &[u8] = if *sharded { b"SPUBLISH" } else { b"PUBLISH" };
                command(out, [verb, channel, payload]);
            }
            Verb::Append { stream, max_len, fields, .. } => {
                let head: [&[u8]; 6] = [b"XADD", stream, b"MAXLEN", b"~", max_len, b"*"];
                let fields = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
                command(out, head.into_iter().chain(fields).collect::<Vec<_>>());
            }
        }
    }
}
