//! The numbers by which the official adapters tell messages apart.

/// The type of a message, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A node has started and asks everybody for a heartbeat.
    InitialHeartbeat = 1,
    /// A node is there.
    Heartbeat = 2,
    /// A packet for the matching sockets.
    Broadcast = 3,
    /// The matching sockets join rooms.
    Join = 4,
    /// The matching sockets leave rooms.
    Leave = 5,
    /// The matching sockets are disconnected.
    Disconnect = 6,
    /// The matching sockets shall be described.
    FetchSockets = 7,
    /// The description of matching sockets.
    Sockets = 8,
    /// An event for the servers.
    ServerSideEmit = 9,
    /// The answer to an event for the servers.
    ServerSideEmitAnswer = 10,
    /// How many clients an acknowledged broadcast was sent to.
    ClientCount = 11,
    /// The acknowledgement of one client.
    Ack = 12,
    /// A node leaves. In MongoDB collections this number means a session; that backend does not decode it here.
    Leaving = 13,
}

/// Of these kinds, sharded Redis and Redis streams send binary as MessagePack.
pub const BINARY_KINDS: [Kind; 5] =
    [Kind::Broadcast, Kind::Sockets, Kind::ServerSideEmit, Kind::ServerSideEmitAnswer, Kind::Ack];

/// Of these kinds, PostgreSQL stores binary as MessagePack attachment: binary in fetched sockets goes as JSON there.
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

    /// The kind with this number; `None` for one that we do not know, which receivers skip.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether messages of this kind have a `data` object.
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
