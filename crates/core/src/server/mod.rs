//! What a Socket.IO server implements to take part in a cluster: [`Local`], and [`RoomIndex`] for servers without rooms
//! of their own.

mod local;
mod room_index;

pub(crate) use self::local::LocalAnswer;
pub use self::{
    local::{AckSink, DeliveryReport, DetachedAnswers, EventReply, Local},
    room_index::RoomIndex,
};
