//! What is measured of clusters of different sizes.

use serde::{Deserialize, Serialize};

/// One measured value. A results file has one per line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// A broker with nodes that are processes, or the simulation.
    pub(crate) source: String,
    /// How many there are of what the quantity depends on: [`Quantity::of`].
    pub(crate) nodes: usize,
    pub(crate) quantity: Quantity,
    pub(crate) value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    IdleMessages,
    IdleBytes,
    IdleDeliveries,
    StartMessages,
    StartTime,
    DeathTime,
    FetchAnswers,
    FetchTime,
    NamespacesCpu,
    NamespacesBrokerCpu,
    RoomsStartTime,
    RoomsStartBytes,
    RoomsStartCpu,
    RoomsReconnectTime,
    RoomsReconnectBytes,
    RoomsReconnectCpu,
    RoomsLeaveTime,
    RoomsLeaveBytes,
    RoomsLeaveCpu,
    Memory,
    DescriptionsTime,
    DescriptionsBytes,
}

impl Quantity {
    pub(crate) const ALL: [Self; 22] = [
        Self::IdleMessages,
        Self::IdleBytes,
        Self::IdleDeliveries,
        Self::StartMessages,
        Self::StartTime,
        Self::DeathTime,
        Self::FetchAnswers,
        Self::FetchTime,
        Self::NamespacesCpu,
        Self::NamespacesBrokerCpu,
        Self::RoomsStartTime,
        Self::RoomsStartBytes,
        Self::RoomsStartCpu,
        Self::RoomsReconnectTime,
        Self::RoomsReconnectBytes,
        Self::RoomsReconnectCpu,
        Self::RoomsLeaveTime,
        Self::RoomsLeaveBytes,
        Self::RoomsLeaveCpu,
        Self::Memory,
        Self::DescriptionsTime,
        Self::DescriptionsBytes,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::IdleMessages => "Messages that all nodes publish per second while nothing is emitted",
            Self::IdleBytes => "Bytes per second while nothing is emitted",
            Self::IdleDeliveries => "Messages that each node receives per second while nothing is emitted",
            Self::StartMessages => {
                "Messages that all nodes publish from the start of a node until a second after all know it"
            }
            Self::StartTime => "Seconds from the start of a node until all know it and it knows all",
            Self::DeathTime => "Seconds from the death of a node until all have given it up",
            Self::FetchAnswers => "Answers per request to all nodes",
            Self::FetchTime => "Seconds until all nodes have answered a request",
            Self::NamespacesCpu => {
                "Milliseconds of processor time of each of four processes per second while nothing is emitted"
            }
            Self::NamespacesBrokerCpu => {
                "Milliseconds of processor time of the broker of four processes per second while nothing is emitted"
            }
            Self::RoomsStartTime => "Seconds until a node that starts hears its rooms",
            Self::RoomsStartBytes => "Bytes between broker and nodes while it starts",
            Self::RoomsStartCpu => "Processor seconds of the broker while it starts",
            Self::RoomsReconnectTime => "Seconds until a node whose connection was cut hears its rooms again",
            Self::RoomsReconnectBytes => "Bytes between broker and nodes while it reconnects",
            Self::RoomsReconnectCpu => "Processor seconds of the broker while it reconnects",
            Self::RoomsLeaveTime => "Seconds until all know that a node has left",
            Self::RoomsLeaveBytes => "Bytes between broker and nodes while it leaves",
            Self::RoomsLeaveCpu => "Processor seconds of the broker while it leaves",
            Self::Memory => "MiB of a node with its sockets and their rooms, more than without",
            Self::DescriptionsTime => {
                "Seconds until a node has the descriptions of all sockets of another, in ten rooms each"
            }
            Self::DescriptionsBytes => "Bytes between broker and nodes for them",
        }
    }

    /// What the quantity depends on.
    pub(crate) fn of(self) -> &'static str {
        match self {
            Self::NamespacesCpu | Self::NamespacesBrokerCpu => "namespaces",
            Self::Memory | Self::DescriptionsTime | Self::DescriptionsBytes => "sockets",
            _ => "nodes",
        }
    }

    /// Name of the chart, for what grows with the number of nodes.
    pub(crate) fn chart(self) -> Option<&'static str> {
        match self {
            Self::IdleMessages => Some("idle-messages"),
            Self::IdleBytes => Some("idle-bytes"),
            Self::IdleDeliveries => Some("idle-deliveries"),
            Self::StartMessages => Some("start-messages"),
            Self::StartTime => Some("start-time"),
            Self::DeathTime => Some("death-time"),
            Self::FetchAnswers => Some("fetch-answers"),
            _ => None,
        }
    }
}
