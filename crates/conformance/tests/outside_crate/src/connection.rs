//! The connection task: keeps the connection to the hub, writes what is queued and delivers what arrives.

use std::{io, mem, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};
use trunkline_backend::Backoff;

use crate::{
    transport::Shared,
    wire::{self, Kind},
};

/// How long a backend that is being closed may take to write what is still queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the hub may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of bytes in one write.
const MAX_WRITE: usize = 256 << 10;

/// Packets that were taken from the queue and may not have arrived at the hub.
#[derive(Default)]
struct Unsent {
    packets: Vec<Bytes>,
    bytes: usize,
}

pub async fn open(shared: &Shared) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(shared.address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Runs until the backend is closed.
pub async fn run(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut unsent = Unsent::default();
    loop {
        shared.outbox.set_connected(true);
        let served = tokio::select! {
            served = serve(&shared, stream, &mut unsent) => served,
            () = async { shared.closing.cancelled().await; sleep(FLUSH_TIMEOUT).await } => Ok(()),
        };
        shared.outbox.set_connected(false);
        let Err(error) = served else { break };
        shared.lost(&error.to_string());
        stream = tokio::select! {
            stream = reopen(&shared) => stream,
            () = shared.closing.cancelled() => break,
        };
    }
}

async fn reopen(shared: &Shared) -> TcpStream {
    let mut backoff = Backoff::default();
    loop {
        sleep(backoff.next_pause()).await;
        if let Ok(stream) = open(shared).await {
            return stream;
        }
    }
}

/// Serves one connection. Returns `Ok` once the outbox is closed and everything queued was written.
async fn serve(shared: &Shared, stream: TcpStream, unsent: &mut Unsent) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        ended = read(shared, reader) => ended,
        ended = write(shared, writer, unsent) => ended,
    }
}

async fn read(shared: &Shared, mut reader: OwnedReadHalf) -> io::Result<()> {
    let mut read = BytesMut::new();
    while reader.read_buf(&mut read).await? > 0 {
        while let Some(packet) = wire::take_packet(&mut read)? {
            shared.deliver(&packet);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Subscribes, writes again what was on its way when the last connection broke, and then what is queued. Receivers drop
/// repeats.
async fn write(shared: &Shared, mut writer: OwnedWriteHalf, unsent: &mut Unsent) -> io::Result<()> {
    for topic in shared.topics() {
        writer.write_all(&wire::encode(Kind::Subscribe, &topic, &[])).await?;
    }
    loop {
        if unsent.packets.is_empty() {
            let Some(bytes) = shared.outbox.take(&mut unsent.packets, MAX_WRITE).await else { break };
            unsent.bytes = bytes;
        }
        writer.write_all(&unsent.packets.concat()).await?;
        unsent.packets.clear();
        shared.outbox.release(mem::take(&mut unsent.bytes));
    }
    writer.shutdown().await
}
