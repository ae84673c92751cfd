//! Reader of a stream, from where it ended when the first node joined.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use trunkline_backend::{Backoff, Direction};
use trunkline_core::{Error, ErrorKind, Gap, GapCause, Result, model::Delivery};

use super::entry::{Entry, EntryId};
use crate::{
    config::{Config, Streams},
    connect::{
        Destination, FIRST_PAUSE, Frames, ROLE, Reader, Reply, ServerPool, Socket, Status, Tasks, demoted, is_replica,
        lost, no_answer, not_renewed, slot_of, write_all, write_command,
    },
};

/// Takes what is read from a stream.
pub(super) trait EntryHandler: std::fmt::Debug + Send + Sync + 'static {
    /// Entries of a stream, in their order. Returns when there is room for more.
    fn entries(&self, stream: usize, entries: Vec<Entry>) -> impl Future<Output = ()> + Send;
    /// The reader is about to ask for what it has not read.
    fn asking(&self, stream: usize);
    /// It has read to the end of the stream.
    fn at_end(&self, stream: usize);
    /// Entries of the stream are gone. `gap` is for all nodes that read it.
    fn cut(&self, stream: usize, gap: Delivery);
    /// A connection was lost while all others stood.
    fn lost(&self, reason: &str);
    /// All connections stand again.
    fn restored(&self);
}

/// One stream, and the task that reads it once a node has joined.
#[derive(Debug)]
pub(super) struct StreamReader {
    source: Source,
    tasks: Tasks,
    begun: OnceCell<()>,
}

/// How often it is looked whether the stream is still there.
const CHECK: Duration = Duration::from_secs(1);

/// Which stream is read, and how.
#[derive(Clone, Debug)]
struct Source {
    name: Bytes,
    index: usize,
    servers: Arc<ServerPool>,
    status: Arc<Status>,
    count: u32,
    max_len: u64,
    block: Duration,
    max_backoff: Duration,
}

impl StreamReader {
    pub(super) fn new(
        index: usize,
        name: Bytes,
        servers: Arc<ServerPool>,
        status: Arc<Status>,
        tasks: Tasks,
        config: &Config,
        options: &Streams,
    ) -> Self {
        let Streams { read_count: count, max_len, block, .. } = *options;
        let source = Source { name, index, servers, status, count, max_len, block, max_backoff: config.max_backoff };
        Self { source, tasks, begun: OnceCell::new() }
    }

    /// Makes sure that the stream is read, and says where it ends at present. Everything after that reaches `handler`.
    pub(super) async fn begin(&self, handler: &Arc<impl EntryHandler>) -> Result<EntryId> {
        let State { last, added, .. } = state_of(&self.source.servers, &self.source.name).await?;
        let begin = || async {
            let (source, handler) = (self.source.clone(), Arc::clone(handler));
            let (added_before, read, is_lost, connected_before) = (added.unwrap_or(0), 0, false, false);
            let task = ReaderTask { source, handler, position: last, added_before, read, is_lost, connected_before };
            self.tasks.spawn(task.run());
        };
        self.begun.get_or_init(begin).await;
        Ok(last)
    }
}

/// State of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// First entry that is there.
    pub(super) first: Option<EntryId>,
    /// Id that was given last.
    pub(super) last: EntryId,
    /// How many entries it has got since it was made. Known to Redis 7.
    added: Option<u64>,
}

/// Asks for the state of a stream, which need not exist yet.
pub(super) async fn state_of(servers: &ServerPool, stream: &Bytes) -> Result<State> {
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
            (b"entries-added", Value::Int(added)) => state.added = u64::try_from(*added).ok(),
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

/// How far one read has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Everything was read that was there when the server was asked.
    AtEnd,
    /// There is more.
    Behind,
}

/// The task of a reader.
struct ReaderTask<H> {
    source: Source,
    handler: Arc<H>,
    /// Everything up to here was read.
    position: EntryId,
    /// How many entries the stream had got at least before the first one that was read.
    added_before: u64,
    /// How many entries were read of it.
    read: u64,
    is_lost: bool,
    connected_before: bool,
}

impl<H: EntryHandler> ReaderTask<H> {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, self.source.max_backoff);
        loop {
            let ended = self.read(&mut backoff).await;
            let reason = ended.err().map_or_else(|| "the connection ended".to_owned(), |error| error.to_string());
            tracing::debug!(stream = %self.source.name.escape_ascii(), %reason, "the reading connection is down");
            if self.connected_before && !std::mem::replace(&mut self.is_lost, true) {
                self.source.status.connection_lost(Direction::Inbound, &reason, |reason| self.handler.lost(reason));
            } else {
                self.source.status.connection_refused(&reason);
            }
            sleep(backoff.next_pause()).await;
        }
    }

    /// Reads over one connection until it fails.
    async fn read(&mut self, backoff: &mut Backoff) -> Result<()> {
        let destination = self.source.servers.destination_of(slot_of(&self.source.name));
        let mut renewals = self.source.servers.renewals();
        let opened = self.source.servers.open(&destination, "stream", None).await;
        let (address, mut socket) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.source.servers.refresh().await?;
                return Err(error);
            }
        };
        if self.connected_before {
            self.look_after().await?;
        }
        backoff.reset();
        self.restore();
        let mut frames = Frames::default();
        let (mut checked, mut next_role_check) = (Instant::now(), self.source.servers.next_role_check());
        loop {
            if next_role_check.is_some_and(|check| check <= Instant::now()) {
                let mut command = Vec::new();
                write_command(&mut command, ROLE);
                let answer = self.source.exchange(&command, Duration::ZERO, &mut socket, &mut frames).await;
                if is_replica(&mut Reader::new(answer.map_err(|error| lost(&address, error))?)) {
                    return Err(demoted(&address));
                }
                next_role_check = self.source.servers.next_role_check();
            }
            if let Some(command) = renewals.take() {
                let answer = self.source.exchange(&command, Duration::ZERO, &mut socket, &mut frames).await;
                let answer = answer.map_err(|error| lost(&address, error))?;
                if let Some(Reply::Error(error)) = Reader::new(answer).next() {
                    not_renewed(&String::from_utf8_lossy(&error));
                }
            }
            if checked.elapsed() >= CHECK {
                if self.is_cut().await {
                    self.look_after().await?;
                }
                checked = Instant::now();
            }
            self.handler.asking(self.source.index);
            let answer = self.source.ask(self.position, &mut socket, &mut frames).await;
            let answer = answer.map_err(|error| lost(&address, error))?;
            if self.take(answer, &destination).await? == Progress::AtEnd {
                self.handler.at_end(self.source.index);
            }
        }
    }

    fn restore(&mut self) {
        self.connected_before = true;
        if std::mem::take(&mut self.is_lost) {
            self.source.status.reconnected();
            self.source.status.connections_restored(1, || self.handler.restored());
        }
    }

    /// Whether the stream is shorter than what was read of it, because it was deleted or trimmed.
    async fn is_cut(&self) -> bool {
        let Source { name, servers, max_len, .. } = &self.source;
        let length: Result<u64> = servers.run_at(name, redis::cmd("XLEN").arg(name.as_ref())).await;
        length.is_ok_and(|length| length < self.read.min(*max_len))
    }

    /// Looks whether everything is still there that was not read, and whether the stream is still the same.
    async fn look_after(&mut self) -> Result<()> {
        let State { first, last, added } = state_of(&self.source.servers, &self.source.name).await?;
        let is_newer = last < self.position;
        let was_replaced = is_newer || added.is_some_and(|added| added < self.added_before + self.read);
        let was_trimmed = first.is_some_and(|first| first > self.position) && self.position != EntryId::ZERO;
        let was_emptied = first.is_none() && last != self.position;
        if is_newer {
            // What is in it is new.
            self.position = EntryId::ZERO;
        }
        if was_replaced || was_trimmed || was_emptied {
            (self.added_before, self.read) = (0, 0);
            let gap = Gap { cause: GapCause::Trimmed, missed: None };
            self.handler.cut(self.source.index, Delivery::Gap(gap));
        }
        Ok(())
    }

    async fn take(&mut self, answer: Bytes, destination: &Destination) -> Result<Progress> {
        let mut reader = Reader::new(answer);
        match reader.next() {
            // Nothing came in time.
            Some(Reply::Nothing) => Ok(Progress::AtEnd),
            Some(Reply::Array(_)) => {
                let entries = parse_entries(&mut reader).ok_or_else(not_understood)?;
                let Some(last) = entries.last().map(|entry| entry.id) else {
                    return Ok(Progress::AtEnd);
                };
                let is_behind = entries.len() >= self.source.count as usize;
                self.position = last;
                self.read += entries.len() as u64;
                self.handler.entries(self.source.index, entries).await;
                if !is_behind {
                    return Ok(Progress::AtEnd);
                }
                // A reader that is a whole read behind may be overtaken by the end that is cut off.
                self.look_after().await?;
                Ok(Progress::Behind)
            }
            Some(Reply::Error(error)) => {
                let text = String::from_utf8_lossy(&error).into_owned();
                if error.starts_with(b"MOVED") {
                    self.source.servers.refresh().await?;
                }
                Err(Error::new(ErrorKind::Broker, format!("{destination:?}: {text}")))
            }
            _ => Err(not_understood()),
        }
    }
}

impl Source {
    /// Asks for what follows a position, and waits for the answer.
    async fn ask(&self, position: EntryId, socket: &mut Socket, frames: &mut Frames) -> io::Result<Bytes> {
        let (count, block) = (self.count.to_string(), self.block.as_millis().to_string());
        let position = position.to_string();
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
        let mut command = Vec::new();
        write_command(&mut command, read);
        self.exchange(&command, self.block, socket, frames).await
    }

    /// Runs a command that may block for so long.
    async fn exchange(
        &self,
        command: &[u8],
        block: Duration,
        socket: &mut Socket,
        frames: &mut Frames,
    ) -> io::Result<Bytes> {
        let limit = self.servers.response_timeout();
        write_all(socket, command, limit).await?;
        let mut limit_of_silence = block + limit;
        loop {
            if let Some(answer) = frames.next()? {
                return Ok(answer);
            }
            // A long answer takes its time. Only silence is limited.
            timeout(limit_of_silence, frames.fill(socket)).await.unwrap_or_else(|_| Err(no_answer()))?;
            limit_of_silence = limit;
        }
    }
}

/// `[[stream, [[id, [name, value, …]], …]]]`, without the outermost head.
pub(super) fn parse_entries(reader: &mut Reader) -> Option<Vec<Entry>> {
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
