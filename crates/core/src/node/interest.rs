//! Which rooms have members on a node, as its broker knows them.

use super::{
    ClusterNode,
    command::Command,
    outgoing::{sync_interest, tell_all},
};
use crate::{
    error::Result,
    model::{Message, Room, Target},
};

impl ClusterNode {
    /// Makes the matching sockets join rooms. With room interest, the rooms are active on this node on return. See
    /// [`ClusterNode`] for when own sockets are in them.
    ///
    /// # Errors
    /// As [`ClusterNode::broadcast`]. Own sockets are in the rooms all the same, unless the node is closed.
    pub async fn sockets_join(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        let message = Message::Join { target: target.clone(), rooms: rooms.clone() };
        message.check()?;
        self.check_open()?;
        let interest = PendingInterest { node: self, rooms: &rooms, had_members: false, is_due: true };
        let published = self.change(&target, message, |local| local.join(&target, &rooms)).await;
        // Own sockets are in the rooms whether others could be told or not.
        published.and(interest.sync().await)
    }

    /// Makes the matching sockets leave rooms.
    ///
    /// # Errors
    /// As [`ClusterNode::broadcast`]. Own sockets have left the rooms all the same, unless the node is closed.
    pub async fn sockets_leave(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        let message = Message::Leave { target: target.clone(), rooms: rooms.clone() };
        message.check()?;
        self.check_open()?;
        let interest = PendingInterest { node: self, rooms: &rooms, had_members: true, is_due: true };
        let published = self.change(&target, message, |local| local.leave(&target, &rooms)).await;
        published.and(interest.sync().await)
    }

    /// Tells the broker that rooms got their first local socket. On return they are active: what is broadcast to them
    /// afterwards arrives.
    ///
    /// Needed only by servers that let sockets join without [`ClusterNode::sockets_join`], on backends with room
    /// interest.
    ///
    /// # Errors
    /// What the backend says; `Disconnected` if the broker is away and the rooms become active once it is back.
    pub async fn rooms_created(&self, rooms: &[Room]) -> Result<()> {
        if let Some(interest) = &self.shared.backend.interest {
            let created = rooms.iter().map(|room| interest.room_created(self.node(), room));
            tell_all(created.collect()).await?;
        }
        Ok(())
    }

    /// Tells the broker that the last local socket has left rooms. See [`ClusterNode::rooms_created`].
    ///
    /// # Errors
    /// What the backend says.
    pub async fn rooms_deleted(&self, rooms: &[Room]) -> Result<()> {
        if let Some(interest) = &self.shared.backend.interest {
            let deleted = rooms.iter().map(|room| interest.room_deleted(self.node(), room));
            tell_all(deleted.collect()).await?;
        }
        Ok(())
    }
}

/// Rooms into or out of which own sockets were moved, and of which the broker is still to be told. Dropped before, the
/// driver tells it.
struct PendingInterest<'a> {
    node: &'a ClusterNode,
    rooms: &'a [Room],
    /// Whether the broker knows the rooms as having members.
    had_members: bool,
    is_due: bool,
}

impl PendingInterest<'_> {
    async fn sync(mut self) -> Result<()> {
        let shared = &self.node.shared;
        let result = match &shared.backend.interest {
            Some(interest) => {
                sync_interest(&**interest, &shared.node, &shared.local, self.rooms, self.had_members).await
            }
            None => Ok(()),
        };
        self.is_due = false;
        result
    }
}

impl Drop for PendingInterest<'_> {
    fn drop(&mut self) {
        if self.is_due {
            let changed = Command::RoomsChanged { rooms: self.rooms.to_vec(), had_members: self.had_members };
            // Fails only when the driver is gone, or when a thousand commands wait for it.
            let _ = self.node.shared.commands.try_send(changed);
        }
    }
}
