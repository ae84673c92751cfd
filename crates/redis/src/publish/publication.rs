//! A message in the outbox: the command that carries it.

use bytes::Bytes;
use trunkline_core::NodeKey;

use crate::connect::write_command;

/// One command that carries a message.
#[derive(Debug)]
pub(crate) struct Publication {
    /// The node that publishes; what the server rejects is counted there.
    pub(crate) from: NodeKey,
    /// The slot whose server takes it in a cluster; `None` for any server.
    pub(crate) slot: Option<u16>,
    /// As accounted for in the outbox.
    pub(crate) bytes: usize,
    pub(crate) command: Command,
}

#[derive(Debug)]
pub(crate) enum Command {
    /// `PUBLISH` or `SPUBLISH`.
    Publish { sharded: bool, channel: Bytes, payload: Vec<u8> },
    /// `XADD`. `number` is that of an own broadcast that comes back.
    Append { stream: Bytes, max_len: Bytes, fields: Vec<(&'static str, Vec<u8>)>, number: Option<u64> },
}

impl Publication {
    /// Appends the command.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.command {
            Command::Publish { sharded, channel, payload } => {
                let name: &[u8] = if *sharded { b"SPUBLISH" } else { b"PUBLISH" };
                write_command(out, [name, channel, payload]);
            }
            Command::Append { stream, max_len, fields, .. } => {
                let head: [&[u8]; 6] = [b"XADD", stream, b"MAXLEN", b"~", max_len, b"*"];
                let fields = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
                write_command(out, head.into_iter().chain(fields).collect::<Vec<_>>());
            }
        }
    }
}
