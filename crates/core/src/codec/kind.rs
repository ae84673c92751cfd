//! [`Kind`]: the type of a message, which is a number on the wire.

/// Type of a message, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// First heartbeat of a node, which all nodes answer with theirs.
    InitialHeartbeat = 1,
    /// Heartbeat of a node.
    Heartbeat = 2,
    /// Packet for the matching sockets.
    Broadcast = 3,
    /// The matching sockets join rooms.
    Join = 4,
    /// The matching sockets leave rooms.
    Leave = 5,
    /// The matching sockets are disconnected.
    Disconnect = 6,
    /// Request to describe the matching sockets.
    FetchSockets = 7,
    /// Answer to [`Kind::FetchSockets`]: the matching sockets of one node.
    Sockets = 8,
    /// Server-side event.
    ServerSideEmit = 9,
    /// Answer to a server-side event.
    ServerSideEmitAnswer = 10,
    /// Number of clients of one node to which a broadcast with acknowledgement was sent.
    ClientCount = 11,
    /// Acknowledgement of one client.
    Ack = 12,
    /// A node leaves the cluster. In MongoDB collections this number means a session; that backend does not decode it
    /// here.
    Leaving = 13,
}

/// Kinds that sharded Redis and Redis streams send as MessagePack if they contain binary.
pub const BINARY_KINDS: [Kind; 5] =
    [Kind::Broadcast, Kind::Sockets, Kind::ServerSideEmit, Kind::ServerSideEmitAnswer, Kind::Ack];

/// Kinds that PostgreSQL stores as MessagePack attachment if they contain binary. Binary in fetched sockets goes as
/// JSON there.
pub const BINARY_KINDS_POSTGRES: [Kind; 4] =
    [Kind::Broadcast, Kind::ServerSideEmit, Kind::ServerSideEmitAnswer, Kind::Ack];

impl Kind {
    const ALL: [Self; 13] = [
        Self::InitialHeartbeat,
        Self::Heartbeat,
        Self::Broadcast,
        Self::Join,
        Self::Leave,
        Self::Disconnect,
        Self::FetchSockets,
        Self::Sockets,
        Self::ServerSideEmit,
        Self::ServerSideEmitAnswer,
        Self::ClientCount,
        Self::Ack,
        Self::Leaving,
    ];

    /// Finds the kind by its number; `None` for an unknown one, which receivers skip.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// Number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether messages of the kind have a `data` object.
    #[must_use]
    pub fn has_data(self) -> bool {
        !matches!(self, Self::InitialHeartbeat | Self::Heartbeat | Self::Leaving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_belong_together() {
        for number in 1..=13 {
            assert_eq!(Kind::from_number(number).map(|kind| u64::from(kind.number())), Some(number));
        }
        assert_eq!((Kind::from_number(0), Kind::from_number(14)), (None, None));
    }
}
