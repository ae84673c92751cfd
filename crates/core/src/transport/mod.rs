//! What a broker must implement: [`Transport`], the optional [`History`], [`RoomInterest`] and [`NodeCounter`], and the
//! inbox between a transport's reader and a node.

mod contract;
mod inbox;
mod sequencer;

pub use self::{
    contract::{
        Backend, Health, History, InboxLimits, JoinRequest, MissedBroadcast, NodeCount, NodeCounter, RestoredSession,
        RoomFilter, RoomInterest, Transport, Unfiltered,
    },
    inbox::{Inbox, InboxSender, inbox},
    sequencer::Sequencer,
};
