//! What is emitted or asked, and how many clients there are.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What one caller at the first server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// 128 bytes to one client at each server, as fast as the emit call lets one caller.
    W1,
    /// 4 KiB to one client at each server, as fast as the emit call lets one caller.
    W2,
    /// 128 bytes to 100 clients at each server, as fast as the emit call lets one caller.
    W3,
    /// 128 bytes to one client at each server, 1,000 a second: latency.
    W4,
    /// 128 bytes to a room whose only member is at the second of four servers, 2,000 a second: what that costs the other two.
    W5,
    /// Fetches 1,000 sockets of each server, one call after the other.
    W6,
    /// 128 bytes that 50 clients at each server acknowledge, one broadcast after the other.
    W7,
}

/// What a handler does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Emit,
    FetchSockets,
    EmitWithAck,
}

/// What is done how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) call: Call,
    /// Messages that are emitted, or calls.
    pub(crate) messages: u64,
    /// Length of an event's argument list as JSON.
    pub(crate) bytes: usize,
    /// Events per second; 0 is as fast as the call lets one caller.
    pub(crate) rate: u64,
    /// Clients in the room at the first server.
    pub(crate) own_clients: usize,
    /// Clients in the room at the second server.
    pub(crate) clients: usize,
    /// Further servers, without clients.
    pub(crate) bystanders: usize,
}

impl Workload {
    /// `clients` is for w3, the number of messages for all.
    pub(crate) fn load(self, messages: u64, clients: usize) -> Load {
        let load = Load { messages, ..Load::NOTHING };
        match self {
            Self::W1 => load,
            Self::W2 => Load { bytes: 4096, ..load },
            Self::W3 => Load { messages: messages.div_ceil(10), own_clients: clients, clients, ..load },
            Self::W4 => Load { messages: 10_000.min(messages), rate: 1000, ..load },
            Self::W5 => Load { messages: 20_000.min(messages), rate: 2000, own_clients: 0, bystanders: 2, ..load },
            Self::W6 => Load {
                call: Call::FetchSockets,
                messages: messages.div_ceil(100),
                own_clients: 1000,
                clients: 1000,
                ..load
            },
            Self::W7 => {
                Load { call: Call::EmitWithAck, messages: messages.div_ceil(50), own_clients: 50, clients: 50, ..load }
            }
        }
    }

    /// Whether it is about how long a message takes.
    pub(crate) fn is_latency(self) -> bool {
        self == Self::W4
    }
}

impl Load {
    /// No message but the end.
    pub(crate) const NOTHING: Self =
        Self { call: Call::Emit, messages: 0, bytes: 128, rate: 0, own_clients: 1, clients: 1, bystanders: 0 };

    /// Sockets or acknowledgements that all calls together gather.
    pub(crate) fn answers(&self) -> u64 {
        self.messages * (self.own_clients + self.clients) as u64
    }
}

impl Call {
    /// The event whose handler does it.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Emit => "go",
            Self::FetchSockets => "fetch",
            Self::EmitWithAck => "ask",
        }
    }

    /// What is counted per second.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Emit => "delivered",
            Self::FetchSockets => "calls",
            Self::EmitWithAck => "acks",
        }
    }
}
