//! A server whose sockets only count what is sent to them.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::stream::{Empty, empty};
use socketioxide::AckError;
use socketioxide_core::{
    Sid, Str, Uid, Value,
    adapter::errors::SocketError,
    adapter::{AckStreamItem, BroadcastIter, CoreAdapter, CoreLocalAdapter, RemoteSocketData, SocketEmitter},
    packet::Packet,
    parser::Parse,
};
use socketioxide_parser_common::CommonParser;
use trunkline_core::memory::{MemoryConfig, backend};
use trunkline_socketioxide::{Cluster, Trunkline};

/// The sockets of a server, all connected.
#[derive(Clone, Default)]
pub(crate) struct Sockets {
    pub(crate) sids: Arc<Vec<Sid>>,
    pub(crate) sent: Arc<AtomicU64>,
    /// Sockets that were looked at to list all, or to describe some.
    pub(crate) visited: Arc<AtomicU64>,
}

/// The adapter of a namespace with this many sockets, all of them in `room`; it is in a cluster by itself.
pub(crate) async fn adapter(hub: &str, members: usize, room: &'static str) -> (Arc<Trunkline<Sockets>>, Sockets) {
    let sockets = Sockets { sids: Arc::new((0..members).map(|_| Sid::new()).collect()), ..Sockets::default() };
    let local = CoreLocalAdapter::new(sockets.clone());
    for sid in sockets.sids.iter() {
        local.add_all(*sid, room);
    }
    let cluster = Cluster::from(backend(hub, MemoryConfig::default()).unwrap());
    let adapter = Arc::new(Trunkline::new(&cluster, local));
    Arc::clone(&adapter).init(|| ()).await.unwrap();
    (adapter, sockets)
}

impl SocketEmitter for Sockets {
    type AckError = AckError;
    type AckStream = Empty<AckStreamItem<AckError>>;

    fn get_all_sids(&self, filter: impl Fn(&Sid) -> bool) -> Vec<Sid> {
        self.visited.fetch_add(self.sids.len() as u64, Ordering::Relaxed);
        self.sids.iter().filter(|sid| filter(sid)).copied().collect()
    }

    fn get_remote_sockets(&self, sids: BroadcastIter<'_>) -> Vec<RemoteSocketData> {
        let describe = |id| {
            self.visited.fetch_add(1, Ordering::Relaxed);
            RemoteSocketData { id, server_id: Uid::ZERO, ns: "/".into() }
        };
        sids.map(describe).collect()
    }

    fn send_many(&self, sids: BroadcastIter<'_>, _: Value) -> Result<(), Vec<SocketError>> {
        self.sent.fetch_add(sids.count() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn send_many_volatile(&self, sids: BroadcastIter<'_>, data: Value) {
        self.send_many(sids, data).unwrap();
    }

    fn send_many_with_ack(&self, _: BroadcastIter<'_>, _: Packet, _: Option<Duration>) -> (Self::AckStream, u32) {
        (empty(), 0)
    }

    fn disconnect_many(&self, _: Vec<Sid>) -> Result<(), Vec<SocketError>> {
        Ok(())
    }

    fn path(&self) -> &Str {
        static ROOT: LazyLock<Str> = LazyLock::new(|| "/".into());
        &ROOT
    }

    fn parser(&self) -> impl Parse {
        CommonParser
    }

    fn server_id(&self) -> Uid {
        Uid::ZERO
    }

    fn ack_timeout(&self) -> Duration {
        Duration::from_secs(5)
    }
}
