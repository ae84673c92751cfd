//! Type numbers of requests and answers.

use trunkline_core::model::{Answer, Heartbeat, Message};

pub(super) const SOCKETS: u64 = 0;
pub(super) const ALL_ROOMS: u64 = 1;
pub(super) const JOIN: u64 = 2;
pub(super) const LEAVE: u64 = 3;
pub(super) const DISCONNECT: u64 = 4;
pub(super) const FETCH: u64 = 5;
pub(super) const SERVER_SIDE_EMIT: u64 = 6;
pub(super) const BROADCAST: u64 = 7;
pub(super) const CLIENT_COUNT: u64 = 8;
pub(super) const ACK: u64 = 9;

// Ours. Node.js ignores what it does not know; on other wires these are 1, 2 and 13, which mean something else here.
pub(super) const INITIAL_HEARTBEAT: u64 = 101;
pub(super) const HEARTBEAT: u64 = 102;
pub(super) const LEAVING: u64 = 113;

pub(super) fn of(message: &Message) -> u64 {
    match message {
        Message::Broadcast { .. } => BROADCAST,
        Message::Join { .. } => JOIN,
        Message::Leave { .. } => LEAVE,
        Message::Disconnect { .. } => DISCONNECT,
        Message::FetchSockets { .. } => FETCH,
        Message::AllRooms { .. } => ALL_ROOMS,
        Message::ServerSideEmit { .. } => SERVER_SIDE_EMIT,
        Message::Heartbeat(Heartbeat { initial: true, .. }) => INITIAL_HEARTBEAT,
        Message::Heartbeat(_) => HEARTBEAT,
        Message::Leaving => LEAVING,
    }
}

/// Type of an answer; those to the older requests have none.
pub(super) fn of_answer(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Sockets(_) | Answer::Rooms(_) | Answer::Part(_) | Answer::TooLarge(_) => None,
        Answer::ServerSideEmit(_) => Some(SERVER_SIDE_EMIT),
        Answer::ClientCount(_) => Some(CLIENT_COUNT),
        Answer::Ack(_) => Some(ACK),
    }
}
