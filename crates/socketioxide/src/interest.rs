//! The rooms that the broker knows to have members on this node.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use async_trait::async_trait;
use trunkline_core::{ClusterNode, Local, NodeKey, Result, Room, transport::RoomInterest};

/// What a namespace tells the broker of rooms, with a record of it. Joins through the adapter, joins that other nodes
/// ask for and answers that name sockets tell it at once; the rest is found by [`Interest::update`].
#[derive(Debug)]
pub(crate) struct Interest {
    broker: Arc<dyn RoomInterest>,
    /// What was told, and whether the broker has confirmed it.
    rooms: Mutex<HashMap<Room, bool>>,
}

impl Interest {
    pub(crate) fn new(broker: Arc<dyn RoomInterest>) -> Self {
        Self { broker, rooms: Mutex::default() }
    }

    /// Whether what is sent to the room arrives.
    pub(crate) fn is_confirmed(&self, room: &Room) -> bool {
        self.lock().get(room) == Some(&true)
    }

    /// Reports the differences to `present`, the rooms that had members a moment ago. What fails is tried again the next
    /// time.
    pub(crate) async fn update(&self, node: &ClusterNode, local: &Weak<dyn Local>, present: HashSet<Room>) {
        let (created, deleted) = {
            let rooms = self.lock();
            let created: Vec<_> = present.iter().filter(|room| rooms.get(*room) != Some(&true)).cloned().collect();
            let deleted: Vec<_> = rooms.keys().filter(|room| !present.contains(*room)).cloned().collect();
            (created, deleted)
        };
        if let Err(error) = node.rooms_created(&created).await {
            tracing::debug!(%error, "new rooms could not be reported to the broker");
        }
        if let Err(error) = node.rooms_deleted(&deleted).await {
            tracing::debug!(%error, "empty rooms could not be reported to the broker");
        }
        // A socket may have joined meanwhile.
        let has_members = |room: &Room| local.upgrade().is_some_and(|local| local.has_room(room));
        let joined: Vec<_> = deleted.into_iter().filter(has_members).collect();
        if let Err(error) = node.rooms_created(&joined).await {
            tracing::debug!(%error, "new rooms could not be reported to the broker");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Room, bool>> {
        // The map is valid after each step.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RoomInterest for Interest {
    fn buckets(&self) -> Option<u16> {
        self.broker.buckets()
    }

    fn subscriptions(&self, node: &NodeKey) -> usize {
        self.broker.subscriptions(node)
    }

    fn is_active(&self, _: &NodeKey, room: &Room) -> bool {
        self.is_confirmed(room)
    }

    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()> {
        if self.is_confirmed(room) {
            return Ok(());
        }
        // The broker may take it even if this is dropped or fails.
        self.lock().entry(room.clone()).or_insert(false);
        self.broker.room_created(node, room).await?;
        if let Some(is_active) = self.lock().get_mut(room) {
            *is_active = true;
        }
        Ok(())
    }

    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.lock().remove(room);
        self.broker.room_deleted(node, room).await.inspect_err(|_| {
            self.lock().entry(room.clone()).or_insert(false);
        })
    }
}
