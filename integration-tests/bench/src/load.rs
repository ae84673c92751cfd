//! What is emitted, and to how many clients.

use clap::ValueEnum;

/// What one caller at the first server emits to the room of all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// 128 bytes to one client at each server, as fast as the emit call lets one caller.
    W1,
    /// 4 KiB to one client at each server, as fast as the emit call lets one caller.
    W2,
    /// 128 bytes to 100 clients at each server, as fast as the emit call lets one caller.
    W3,
    /// 128 bytes to one client at each server, 1,000 a second: latency.
    W4,
}

/// What is emitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    /// Length of an event's argument list as JSON.
    pub(crate) bytes: usize,
    /// Events per second; 0 is as fast as the emit call lets one caller.
    pub(crate) rate: u64,
    /// Clients at each server.
    pub(crate) clients: usize,
}

impl Workload {
    /// `clients` is for w3, the number of messages for all but w4.
    pub(crate) fn load(self, messages: u64, clients: usize) -> Load {
        let load = Load { messages, bytes: 128, rate: 0, clients: 1 };
        match self {
            Self::W1 => load,
            Self::W2 => Load { bytes: 4096, ..load },
            Self::W3 => Load { messages: messages.div_ceil(10), clients, ..load },
            Self::W4 => Load { messages: 10_000.min(messages), rate: 1000, ..load },
        }
    }

    /// Whether it is about how long a message takes.
    pub(crate) fn is_latency(self) -> bool {
        self == Self::W4
    }
}
