//! A proxy before the server that counts inserts, holds them, or answers them like a server whose cache is full.

use std::io;

use mongodb::bson::doc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, watch},
    task::JoinSet,
};
use trunkline_brokers::MongoDb as Server;

/// What happens to the inserts that arrive.
#[derive(Clone, Copy)]
pub(crate) enum Inserts {
    Pass,
    Hold,
    /// Answered without the server, whose cache gets full only by chance: by inserts that overlap.
    CacheFull,
}

/// A proxy for the connections of one transport. Ends when dropped.
pub(crate) struct InsertProxy {
    url: String,
    mode: watch::Sender<Inserts>,
    count: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl InsertProxy {
    pub(crate) async fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // The members of a replica set name their own addresses: without `directConnection` the driver would bypass the
        // proxy.
        let url = format!("mongodb://{}/?directConnection=true", listener.local_addr().unwrap());
        let target = server.url().strip_prefix("mongodb://").unwrap().split('/').next().unwrap().to_owned();
        let (mode, current_mode) = watch::channel(Inserts::Pass);
        let (counter, count) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { return };
                let (mode, counter) = (current_mode.clone(), counter.clone());
                connections.spawn(async move {
                    // An error is the end of either connection, which ends the other one.
                    let _ = forward(client, server, mode, &counter).await;
                });
            }
        });
        Self { url, mode, count, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Decides about inserts that are held, and about those to come.
    pub(crate) fn set(&self, mode: Inserts) {
        self.mode.send_replace(mode);
    }

    /// How many inserts have arrived.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until so many inserts have arrived.
    pub(crate) async fn until(&self, count: usize) {
        self.count.clone().wait_for(|arrived| *arrived >= count).await.unwrap();
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    mode: watch::Receiver<Inserts>,
    counter: &watch::Sender<usize>,
) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let to_client = Mutex::new(to_client);
    tokio::try_join!(
        forward_answers(from_server, &to_client),
        forward_requests(from_client, to_server, &to_client, mode, counter)
    )?;
    Ok(())
}

async fn forward_answers(mut from_server: OwnedReadHalf, to_client: &Mutex<OwnedWriteHalf>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = from_server.read(&mut buffer).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to_client.lock().await.write_all(&buffer[..len]).await?;
    }
}

async fn forward_requests(
    mut from_client: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    to_client: &Mutex<OwnedWriteHalf>,
    mut mode: watch::Receiver<Inserts>,
    counter: &watch::Sender<usize>,
) -> io::Result<()> {
    loop {
        let request = read_message(&mut from_client).await?;
        if is_insert(&request) {
            counter.send_modify(|count| *count += 1);
            let decided = mode.wait_for(|mode| !matches!(mode, Inserts::Hold)).await.map(|mode| *mode);
            if let Ok(Inserts::CacheFull) = decided {
                // The driver waits for this answer alone: the server writes nothing to this connection meanwhile.
                to_client.lock().await.write_all(&cache_full(&request)).await?;
                continue;
            }
        }
        to_server.write_all(&request).await?;
    }
}

/// Length of the header of a message: its length, its id, the id of what it answers, and the opcode.
const HEADER: usize = 16;

async fn read_message(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let len = from.read_i32_le().await?;
    let mut message = vec![0; usize::try_from(len).unwrap()];
    message[..4].copy_from_slice(&len.to_le_bytes());
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// Whether the first field of the command is `insert`. It stands behind flags, the kind of the section and the length
/// of the document.
fn is_insert(message: &[u8]) -> bool {
    message.get(HEADER + 9..).is_some_and(|fields| fields.starts_with(b"\x02insert\0"))
}

/// What mongod 6.0 answers if the cache is full.
fn cache_full(request: &[u8]) -> Vec<u8> {
    const OP_MSG: i32 = 2013;
    let error = doc! {
        "index": 0, "code": 388,
        "errmsg": "WiredTigerIdIndex::_insert: index: _id_; uri: table:index-39--379105178590417866 -31800: \
                   transaction is too large and will not fit in the storage engine cache",
    };
    let document = doc! { "n": 0, "writeErrors": [error], "ok": 1.0 }.to_vec().unwrap();
    let len = i32::try_from(HEADER + 5 + document.len()).unwrap();
    let answer = [&len.to_le_bytes(), &[0; 4], &request[4..8], &OP_MSG.to_le_bytes(), &[0; 5], &*document];
    answer.concat()
}
