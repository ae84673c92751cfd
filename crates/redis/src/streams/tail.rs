//! Reading a stream, from where it ended when the first node joined.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;
use tokio::{
    io::AsyncWriteExt,
    sync::OnceCell,
    time::{sleep, timeout},
};
use trunkline_backend::Backoff;
use trunkline_core::{Error, ErrorKind, Gap, GapCause, NodeKey, Result, model::Delivery};

use super::entry::{Entry, EntryId};
use crate::{
    config::{Config, Streams},
    connection::Socket,
    resp::{Frames, Reader, Reply, command},
    status::Status,
    task::Task,
    topology::{Place, Servers, slot_of},
    watch::Watch,
    writer::FIRST_PAUSE,
};

/// Something to be told to a node once everything is read that was in the stream when it was claimed.
pub(super) type Claim = (NodeKey, Delivery);

/// Takes in what a tail reads.
pub(super) trait Reading: std::fmt::Debug + Send + Sync + 'static {
    /// Entries of a stream, in their order. Returns when there is room for more.
    fn entries(&self, stream: usize, entries: Vec<Entry>) -> impl Future<Output = ()> + Send;
    /// What has been claimed about the stream so far, and for which node.
    fn claims(&self, stream: usize) -> Vec<Claim>;
    /// Tells everybody who reads the stream.
    fn tell(&self, stream: usize, delivery: Delivery);
    /// Tells what was claimed.
    fn confirm(&self, claims: Vec<Claim>);
    fn lost(&self, stream: usize, reason: &str);
    fn restored(&self, stream: usize);
}

/// One stream, and the task that reads it once somebody wants it to.
#[derive(Debug)]
pub(super) struct Tail {
    name: Bytes,
    index: usize,
    servers: Arc<Servers>,
    status: Arc<Status>,
    limits: Limits,
    task: OnceCell<Task>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    count: u32,
    block: Duration,
    response_timeout: Duration,
    max_backoff: Duration,
}

impl Tail {
    pub(super) fn new(
        index: usize,
        name: Bytes,
        servers: Arc<Servers>,
        status: Arc<Status>,
        config: &Config,
        options: &Streams,
    ) -> Self {
        let limits = Limits {
            count: options.read_count,
            block: options.block,
            response_timeout: config.response_timeout,
            max_backoff: config.max_backoff,
        };
        Self { name, index, servers, status, limits, task: OnceCell::new() }
    }

    /// Makes sure that the stream is read, and says where it ends at present. Everything after that reaches `reading`.
    pub(super) async fn begin(&self, reading: &Arc<impl Reading>) -> Result<EntryId> {
        let last = state_of(&self.servers, &self.name).await?.last;
        self.task.get_or_init(|| async { Task::spawn(self.work(last, Arc::clone(reading)).run()) }).await;
        Ok(last)
    }

    fn work<R: Reading>(&self, position: EntryId, reading: Arc<R>) -> Work<R> {
        let Self { name, index, servers, status, limits, .. } = self;
        Work {
            name: name.clone(),
            index: *index,
            servers: Arc::clone(servers),
            status: Arc::clone(status),
            limits: *limits,
            reading,
            position,
            is_lost: false,
            connected_before: false,
        }
    }

    pub(super) async fn stop(&self) {
        if let Some(task) = self.task.get() {
            task.stop().await;
        }
    }
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The first entry that is there.
    pub(super) first: Option<EntryId>,
    /// The id that was given last.
    pub(super) last: EntryId,
}

/// Asks for the state of a stream, which need not exist yet.
pub(super) async fn state_of(servers: &Servers, stream: &Bytes) -> Result<State> {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(stream.as_ref());
    match servers.run_at::<Value>(stream, &command).await {
        Ok(answer) => parse_state(&answer)
            .ok_or_else(|| Error::new(ErrorKind::Broker, "the answer to XINFO STREAM was not understood")),
        Err(error) if error.kind() == ErrorKind::Broker && error.to_string().contains("no such key") => {
            Ok(State::default())
        }
        Err(error) => Err(error),
    }
}

fn parse_state(answer: &Value) -> Option<State> {
    let Value::Array(items) = answer else { return None };
    let mut state = State::default();
    for pair in items.chunks_exact(2) {
        match (text(&pair[0])?, &pair[1]) {
            (b"last-generated-id", id) => state.last = EntryId::parse(text(id)?)?,
            (b"first-entry", Value::Array(entry)) => state.first = EntryId::parse(text(entry.first()?)?),
            _ => {}
        }
    }
    Some(state)
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// How far a read has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Everything was read that was there when the server was asked.
    AtEnd,
    /// There is more.
    Behind,
}

/// The task of a tail.
struct Work<R> {
    name: Bytes,
    index: usize,
    servers: Arc<Servers>,
    status: Arc<Status>,
    limits: Limits,
    reading: Arc<R>,
    /// Everything up to here was read.
    position: EntryId,
    is_lost: bool,
    connected_before: bool,
}

impl<R: Reading> Work<R> {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, self.limits.max_backoff);
        loop {
            let ended = self.session(&mut backoff).await;
            let reason = ended.err().map_or_else(|| "the connection ended".to_owned(), |error| error.to_string());
            tracing::debug!(stream = %self.name.escape_ascii(), %reason, "the reading connection is down");
            if self.connected_before && !std::mem::replace(&mut self.is_lost, true) {
                self.status.set_deaf(true);
                self.reading.lost(self.index, &reason);
            }
            sleep(backoff.next_pause()).await;
        }
    }

    /// Reads over one connection until it fails.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<()> {
        let place = self.servers.place_of(slot_of(&self.name));
        let opened = self.servers.open(&place, "stream").await;
        let (address, mut socket) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.servers.refresh().await?;
                return Err(error);
            }
        };
        if self.connected_before {
            self.catch_up().await?;
        }
        backoff.reset();
        self.restore();
        let failed = |error: io::Error| crate::error::lost(&address, error);
        let mut frames = Frames::default();
        let mut watch = Watch::default();
        let mut claims = Vec::new();
        loop {
            claims.extend(self.reading.claims(self.index));
            self.ask(&mut socket).await.map_err(failed)?;
            let answer = self.answer(&mut socket, &mut frames, &mut watch).await.map_err(failed)?;
            if self.take(answer, &place).await? == Progress::AtEnd {
                self.reading.confirm(std::mem::take(&mut claims));
                // Whoever has got something takes it in first: to ask for more takes as long as that.
                tokio::task::yield_now().await;
            }
        }
    }

    fn restore(&mut self) {
        self.connected_before = true;
        if std::mem::take(&mut self.is_lost) {
            self.status.set_deaf(false);
            self.status.reconnected();
            self.reading.restored(self.index);
        }
    }

    /// After a pause: is everything still there that was not read?
    async fn catch_up(&mut self) -> Result<()> {
        let State { first, last } = state_of(&self.servers, &self.name).await?;
        let was_replaced = last < self.position;
        let was_trimmed = first.is_some_and(|first| first > self.position) && self.position != EntryId::ZERO;
        let was_emptied = first.is_none() && last != self.position;
        if was_replaced {
            // The stream is another one, and what is in it is new.
            self.position = EntryId::ZERO;
        }
        if was_replaced || was_trimmed || was_emptied {
            self.reading.tell(self.index, Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None }));
        }
        Ok(())
    }

    async fn ask(&self, socket: &mut Socket) -> io::Result<()> {
        let (count, block) = (self.limits.count.to_string(), self.limits.block.as_millis().to_string());
        let position = self.position.to_string();
        let mut out = Vec::new();
        let read: [&[u8]; 8] = [
            b"XREAD",
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            block.as_bytes(),
            b"STREAMS",
            &self.name,
            position.as_bytes(),
        ];
        command(&mut out, read);
        let write = async {
            socket.write_all(&out).await?;
            socket.flush().await
        };
        timeout(self.limits.response_timeout, write).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn answer(&self, socket: &mut Socket, frames: &mut Frames, watch: &mut Watch) -> io::Result<Bytes> {
        let limit = self.limits.block + self.limits.response_timeout;
        let read = async {
            loop {
                if let Some(frame) = frames.next()? {
                    return Ok(frame);
                }
                frames.fill(socket).await?;
            }
        };
        watch.within(limit, read).await
    }

    async fn take(&mut self, answer: Bytes, place: &Place) -> Result<Progress> {
        let mut reader = Reader::new(answer);
        match reader.next() {
            // Nothing came in time.
            Some(Reply::Nothing) => Ok(Progress::AtEnd),
            Some(Reply::Array(_)) => {
                let entries = parse_entries(&mut reader).ok_or_else(not_understood)?;
                let Some(last) = entries.last().map(|entry| entry.id) else {
                    return Ok(Progress::AtEnd);
                };
                let is_behind = entries.len() >= self.limits.count as usize;
                self.position = last;
                self.reading.entries(self.index, entries).await;
                if !is_behind {
                    return Ok(Progress::AtEnd);
                }
                self.check_trimmed().await?;
                Ok(Progress::Behind)
            }
            Some(Reply::Error(error)) => {
                let text = String::from_utf8_lossy(&error).into_owned();
                if error.starts_with(b"MOVED") {
                    self.servers.refresh().await?;
                }
                Err(Error::new(ErrorKind::Broker, format!("{place:?}: {text}")))
            }
            _ => Err(not_understood()),
        }
    }

    /// Whoever is a whole read behind may be overtaken by the end that is cut off.
    async fn check_trimmed(&self) -> Result<()> {
        let State { first, .. } = state_of(&self.servers, &self.name).await?;
        if first.is_some_and(|first| first > self.position) {
            self.reading.tell(self.index, Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None }));
        }
        Ok(())
    }
}

/// `[[stream, [[id, [name, value, …]], …]]]`, without the outermost head.
fn parse_entries(reader: &mut Reader) -> Option<Vec<Entry>> {
    reader.next_array()?;
    reader.next_text()?;
    let count = reader.next_array()?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.extend(parse_entry(reader)?);
    }
    Some(entries)
}

/// An entry that was deleted has no fields.
fn parse_entry(reader: &mut Reader) -> Option<Option<Entry>> {
    reader.next_array()?;
    let id = EntryId::parse(&reader.next_text()?)?;
    let Reply::Array(fields) = reader.next()? else { return Some(None) };
    let mut pairs = Vec::with_capacity(fields / 2);
    for _ in 0..fields / 2 {
        pairs.push((reader.next_text()?, reader.next_text()?));
    }
    Some(Some(Entry::new(id, pairs.into_iter())))
}

fn not_understood() -> Error {
    Error::new(ErrorKind::Broker, "the answer to XREAD was not understood")
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")
}
