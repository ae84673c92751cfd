//! The broker: passes what is published on a topic to all clients that have subscribed to it, in the order of arrival.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::wire::{self, Kind};

/// Maximum number of packets that wait for a client. A client that is further behind is disconnected, so that it does
/// not delay the others.
const MAX_BEHIND: usize = 100_000;

/// Runs the hub until the future is dropped.
pub async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let hub = Arc::new(Hub::default());
    let mut clients = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        clients.spawn(Arc::clone(&hub).serve_client(stream));
        while clients.try_join_next().is_some() {}
    }
}

#[derive(Default)]
struct Hub {
    topics: Mutex<HashMap<String, HashMap<u64, Client>>>,
    clients: AtomicU64,
}

#[derive(Clone)]
struct Client {
    id: u64,
    queue: mpsc::Sender<Bytes>,
    disconnect: Arc<Notify>,
}

impl Client {
    fn send(&self, packet: Bytes) {
        if self.queue.try_send(packet).is_err() {
            self.disconnect.notify_one();
        }
    }
}

impl Hub {
    async fn serve_client(self: Arc<Self>, stream: TcpStream) {
        let (queue, queued) = mpsc::channel(MAX_BEHIND);
        let id = self.clients.fetch_add(1, Ordering::Relaxed);
        let client = Client { id, queue, disconnect: Arc::default() };
        let (reader, writer) = stream.into_split();
        tokio::select! {
            _ = self.read(reader, &client) => {}
            _ = write(writer, queued) => {}
            () = client.disconnect.notified() => {}
        }
        self.forget(id);
    }

    async fn read(&self, mut reader: OwnedReadHalf, client: &Client) -> io::Result<()> {
        let mut read = BytesMut::new();
        while reader.read_buf(&mut read).await? > 0 {
            while let Some(packet) = wire::take_packet(&mut read)? {
                let same = wire::encode(packet.kind, &packet.topic, &packet.body);
                match packet.kind {
                    Kind::Subscribe => self.subscribe(packet.topic, client, same),
                    Kind::Unsubscribe => self.unsubscribe(&packet.topic, client.id),
                    Kind::Publish => self.publish(&packet.topic, &same),
                }
            }
        }
        Ok(())
    }

    fn subscribe(&self, topic: String, client: &Client, confirmation: Bytes) {
        self.with_topics(|topics| topics.entry(topic).or_default().insert(client.id, client.clone()));
        client.send(confirmation);
    }

    fn unsubscribe(&self, topic: &str, client: u64) {
        self.with_topics(|topics| {
            if let Some(subscribers) = topics.get_mut(topic) {
                subscribers.remove(&client);
                if subscribers.is_empty() {
                    topics.remove(topic);
                }
            }
        });
    }

    fn publish(&self, topic: &str, packet: &Bytes) {
        self.with_topics(|topics| {
            for client in topics.get(topic).into_iter().flat_map(HashMap::values) {
                client.send(packet.clone());
            }
        });
    }

    fn forget(&self, client: u64) {
        self.with_topics(|topics| {
            topics.retain(|_, subscribers| {
                subscribers.remove(&client);
                !subscribers.is_empty()
            });
        });
    }

    fn with_topics<R>(&self, change: impl FnOnce(&mut HashMap<String, HashMap<u64, Client>>) -> R) -> R {
        change(&mut self.topics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queued: mpsc::Receiver<Bytes>) -> io::Result<()> {
    const AT_ONCE: usize = 256;
    let mut batch = Vec::new();
    while queued.recv_many(&mut batch, AT_ONCE).await > 0 {
        writer.write_all(&batch.concat()).await?;
        batch.clear();
    }
    Ok(())
}
