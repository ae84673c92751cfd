//! The types that nodes, servers and backends exchange: ids, rooms, targets, messages, events, metrics.

mod capabilities;
mod delivery;
mod event;
mod id;
mod message;
mod metrics;
mod probe;
mod request;
mod room;
mod setters;
mod target;

#[cfg(test)]
pub(crate) use self::delivery::MAX_DROPPED;
pub use self::{
    capabilities::{Capabilities, Membership},
    delivery::{Delivery, Dropped, Overflow},
    event::{DownReason, Event, Gap, GapCause},
    id::{IdScheme, MAX_ID_BYTES, Namespace, NodeId, NodeKey, Offset, RequestId, SessionId, SocketId},
    message::{Ack, Answer, Heartbeat, Message, Part, Response, SeqChannel, SeqNo, Session, SocketInfo},
    metrics::{Counter, DisconnectReason, METRICS_BUCKETS, MetricsSnapshot, NodeMetrics, ServerLevels, ServerMetrics},
    probe::Probe,
    request::{AckCounts, Incomplete, RequestError},
    room::Room,
    target::{Flags, Target},
};
pub(crate) use self::{
    message::weight_of_rooms,
    metrics::{Exported, HistoryKind, HistoryOutcome, Levels, MessageKind, RequestKind, RequestOutcome},
    setters::setters,
};
