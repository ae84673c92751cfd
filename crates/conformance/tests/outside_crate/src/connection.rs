//! The one task of a backend: it keeps the connection, writes what is queued and hands out what arrives.

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

/// How long a backend that closes may take to write what is still queued.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the hub may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// What was taken from the queue and may not have arrived at the hub.
#[derive(Default)]
struct Batch {
    packets: Vec<Bytes>,
    bytes: usize,
}

pub async fn open(shared: &Shared) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(shared.address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Runs until the backend is closed.
pub async fn run(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut unsent = Batch::default();
    loop {
        shared.outbox.set_connected(true);
        let served = tokio::select! {
            served = serve(&shared, stream, &mut unsent) => served,
            () = async { shared.closing().await; sleep(LAST_WORDS).await } => Ok(()),
        };
        shared.outbox.set_connected(false);
        let Err(error) = served else { break };
        shared.lost(&error.to_string());
        stream = tokio::select! {
            stream = reopen(&shared) => stream,
            () = shared.closing() => break,
        };
    }
    shared.set_ended();
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

/// Serves one connection. Without an error only when everything queued was written and no more will be.
async fn serve(shared: &Shared, stream: TcpStream, unsent: &mut Batch) -> io::Result<()> {
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
            shared.hand_out(&packet);
        }
        // Nodes of this process are to have their turn.
        tokio::task::yield_now().await;
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Begins with the subscriptions and with what was on its way when the last connection broke: whoever has it already
/// drops the repeat.
async fn write(shared: &Shared, mut writer: OwnedWriteHalf, unsent: &mut Batch) -> io::Result<()> {
    const AT_ONCE: usize = 256 << 10;
    for topic in shared.topics() {
        writer.write_all(&wire::encode(Kind::Subscribe, &topic, &[])).await?;
    }
    loop {
        if unsent.packets.is_empty() {
            let Some(bytes) = shared.outbox.take(&mut unsent.packets, AT_ONCE).await else { break };
            unsent.bytes = bytes;
        }
        writer.write_all(&unsent.packets.concat()).await?;
        unsent.packets.clear();
        shared.outbox.release(mem::take(&mut unsent.bytes));
    }
    writer.shutdown().await
}
