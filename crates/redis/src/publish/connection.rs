//! One connection to publish over, from its beginning to its end: up to two batches are under way on it.

use std::{collections::VecDeque, future::pending, io, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use trunkline_core::{Error, ErrorKind, Result};

use super::Publication;
use crate::{
    config::Address,
    connect::{
        DEMOTED, Destination, Frames, Listening, ROLE, Reader, Renewals, Reply, ServerPool, Socket, Status, is_replica,
        is_temporary, lost, no_answer, not_renewed, time_on_link, write_all, write_command,
    },
};

/// Batches that may be unconfirmed at a time. With two, the server finds the next one when it has answered the first;
/// behind them the third one grows.
pub(super) const WINDOW: usize = 2;

/// Bytes under way behind which no further batch is written. The server copies what is published into a buffer per
/// subscriber and ends the connection of one whose buffer exceeds 32 MiB (`client-output-buffer-limit pubsub`): two messages
/// of 16 MiB at a time would do that to every subscriber.
const MAX_UNDER_WAY: usize = 2 << 20;

/// What became of a batch, or of its connection.
pub(super) struct BatchOutcome {
    pub(super) destination: Destination,
    /// What was answered: with a reply, or with a rejection.
    pub(super) answered: Vec<(Publication, std::result::Result<Reply, String>)>,
    /// The task has ended. Without this, the oldest batch is complete.
    pub(super) stopped: Option<Stopped>,
}

/// What a task leaves when it ends.
pub(super) struct Stopped {
    /// What the server has not taken, in order; to be sent again.
    pub(super) unsent: Vec<Publication>,
    /// The reason, unless a slot has moved or the server has closed an idle connection.
    pub(super) failure: Option<Error>,
    /// The connection, if it is still good.
    pub(super) open: Option<OpenConnection>,
    /// There was a connection.
    pub(super) was_open: bool,
}

/// An authenticated connection.
pub(super) struct OpenConnection {
    address: Address,
    socket: Socket,
    frames: Frames,
    /// Kept from batch to batch.
    buffer: Vec<u8>,
    /// When the role of the server is asked for; `None` if it need not.
    next_role_check: Option<Instant>,
    /// How often the subscriptions had been in doubt when the server was the master last.
    doubts: usize,
    renewals: Renewals,
}

/// What was written, and what of it is not answered yet.
#[derive(Default)]
struct Written {
    publications: VecDeque<Publication>,
    bytes: usize,
    /// What was asked in place of publishing something.
    question: Option<Question>,
}

/// What is asked on a connection between batches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Role,
    /// Whether renewed credentials are accepted.
    Credentials,
}

/// The task of one connection.
pub(super) struct NodeConnection {
    destination: Destination,
    servers: Arc<ServerPool>,
    status: Arc<Status>,
    listening: Listening,
    outcomes: mpsc::UnboundedSender<BatchOutcome>,
    /// The batch for which the connection is opened.
    first: Option<Vec<Publication>>,
    /// What the server has not answered yet, the oldest first.
    under_way: VecDeque<Written>,
    answered: Vec<(Publication, std::result::Result<Reply, String>)>,
    /// What the server does not take now, or not here. Nothing is written behind it: its slot would lose its order.
    unsent: Vec<Publication>,
    failure: Option<Error>,
}

impl NodeConnection {
    /// `outcomes` holds what is in the window at most.
    pub(super) fn new(
        destination: Destination,
        servers: Arc<ServerPool>,
        status: Arc<Status>,
        outcomes: mpsc::UnboundedSender<BatchOutcome>,
    ) -> Self {
        let listening = status.listening_at(&destination);
        let (first, under_way, answered, unsent, failure) = Default::default();
        Self { destination, servers, status, listening, outcomes, first, under_way, answered, unsent, failure }
    }

    /// Writes the batches that come over `open` or, after `pause`, over a new connection: until something is in the
    /// way, or none will come any more. Nothing is written while the subscriptions at the server are down, or those of
    /// peers.
    pub(super) async fn run(
        mut self,
        open: Option<OpenConnection>,
        pause: Option<Duration>,
        was_open_before: bool,
        mut batches: mpsc::Receiver<Vec<Publication>>,
    ) {
        let opened = match open {
            Some(open) => Ok(open),
            None => {
                // It connects when there is something to write.
                let Some(first) = batches.recv().await else { return };
                self.first = Some(first);
                let opened = self.open(pause).await;
                if opened.is_ok() && was_open_before {
                    self.status.reconnected();
                }
                opened
            }
        };
        let was_open = opened.is_ok();
        let open = match opened {
            Ok(open) => self.serve(open, &mut batches).await,
            Err(error) => {
                self.status.doubt_listening(&self.destination);
                self.failure = Some(error);
                None
            }
        };
        if self.failure.is_some() {
            // In a cluster the node may be gone for good.
            self.servers.try_refresh().await;
        }
        self.unsent.extend(self.under_way.drain(..).flat_map(|written| written.publications));
        self.unsent.extend(self.first.take().into_iter().flatten());
        batches.close();
        while let Some(batch) = batches.recv().await {
            self.unsent.extend(batch);
        }
        let (unsent, failure) = (std::mem::take(&mut self.unsent), self.failure.take());
        self.report(Some(Stopped { unsent, failure, open, was_open }));
    }

    async fn open(&self, pause: Option<Duration>) -> Result<OpenConnection> {
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        let (doubts, renewals) = (self.listening.doubts(), self.servers.renewals());
        let (address, socket) = self.servers.open(&self.destination, "publish", None).await?;
        let next_role_check = self.servers.next_role_check();
        let (frames, buffer) = Default::default();
        Ok(OpenConnection { address, socket, frames, buffer, next_role_check, doubts, renewals })
    }

    /// Returns the connection if it is still good.
    async fn serve(
        &mut self,
        mut open: OpenConnection,
        batches: &mut mpsc::Receiver<Vec<Publication>>,
    ) -> Option<OpenConnection> {
        match self.exchange(&mut open, batches).await {
            Ok(()) => self.failure.is_none().then_some(open),
            Err(error) => {
                self.status.doubt_listening(&self.destination);
                // An idle connection that the server has closed is no failure: the next batch gets another one.
                if self.first.is_some() || self.under_way.iter().any(|written| !written.publications.is_empty()) {
                    self.failure = Some(lost(&open.address, error));
                }
                None
            }
        }
    }

    /// Writes batches, and reads one answer per command, in their order.
    async fn exchange(
        &mut self,
        open: &mut OpenConnection,
        batches: &mut mpsc::Receiver<Vec<Publication>>,
    ) -> io::Result<()> {
        let limit = self.servers.response_timeout();
        let mut is_closed = false;
        loop {
            while let Some(frame) = open.frames.next()? {
                self.take_answer(frame, &open.address)?;
            }
            let (is_idle, is_stopping) = (self.under_way.is_empty(), is_closed || !self.unsent.is_empty());
            if is_idle && is_stopping {
                return Ok(());
            }
            let (doubts, next_role_check, is_asking) = (open.doubts, open.next_role_check, self.is_asking());
            tokio::select! {
                biased;
                () = due(next_role_check), if !is_asking => self.ask_for_role(open).await?,
                command = open.renewals.next(), if !is_asking => self.ask(Question::Credentials, &command, open).await?,
                filled = fill(&mut open.frames, &mut open.socket, (!is_idle).then_some(limit + time_on_link(self.bytes_under_way()))) => filled?,
                next = next_batch(&mut self.listening, doubts, &mut self.first, batches),
                    if !is_stopping && !is_asking && self.has_room() => match next
                {
                    Next::Batch(batch) => {
                        self.under_way.push_back(Written { publications: batch.into(), ..Written::default() });
                        if let Some(written) = self.under_way.back_mut() {
                            written.bytes = open.write(&written.publications, limit).await?;
                        }
                    }
                    Next::Doubted(doubts) => {
                        open.doubts = doubts;
                        if open.next_role_check.is_some() {
                            self.ask_for_role(open).await?;
                        }
                    }
                    Next::Closed => is_closed = true,
                },
            }
        }
    }

    /// Nothing is written behind a question before it is answered.
    async fn ask_for_role(&mut self, open: &mut OpenConnection) -> io::Result<()> {
        open.next_role_check = self.servers.next_role_check();
        let mut command = Vec::new();
        write_command(&mut command, ROLE);
        self.ask(Question::Role, &command, open).await
    }

    async fn ask(&mut self, question: Question, command: &[u8], open: &mut OpenConnection) -> io::Result<()> {
        self.under_way.push_back(Written { question: Some(question), ..Written::default() });
        write_all(&mut open.socket, command, self.servers.response_timeout()).await
    }

    fn is_asking(&self) -> bool {
        self.under_way.iter().any(|written| written.question.is_some())
    }

    fn bytes_under_way(&self) -> usize {
        self.under_way.iter().map(|written| written.bytes).sum()
    }

    fn has_room(&self) -> bool {
        self.under_way.len() < WINDOW && self.bytes_under_way() < MAX_UNDER_WAY
    }

    fn take_answer(&mut self, frame: bytes::Bytes, address: &Address) -> io::Result<()> {
        let mut reader = Reader::new(frame);
        let asked = self.under_way.pop_front_if(|written| written.question.is_some());
        if let Some(question) = asked.and_then(|asked| asked.question) {
            return match question {
                Question::Role if is_replica(&mut reader) => Err(io::Error::other(DEMOTED)),
                Question::Role => Ok(()),
                Question::Credentials => {
                    if let Some(Reply::Error(error)) = reader.next() {
                        not_renewed(&String::from_utf8_lossy(&error));
                    }
                    Ok(())
                }
            };
        }
        let publication = self.under_way.front_mut().and_then(|written| written.publications.pop_front());
        let (Some(reply), Some(publication)) = (reader.next(), publication) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to something that was not asked"));
        };
        match reply {
            Reply::Error(error) => self.judge(&error, publication, address),
            reply => self.answered.push((publication, Ok(reply))),
        }
        let is_complete = self.under_way.pop_front_if(|written| written.publications.is_empty()).is_some();
        // With a failure it is reported at the end: the server has not taken all of it.
        if is_complete && self.failure.is_none() {
            self.report(None);
        }
        Ok(())
    }

    fn judge(&mut self, error: &[u8], publication: Publication, address: &Address) {
        let text = String::from_utf8_lossy(error).into_owned();
        match Verdict::of(error) {
            Verdict::Rejected => self.answered.push((publication, Err(text))),
            Verdict::Moved => {
                self.servers.note_moved(error, address);
                self.unsent.push(publication);
            }
            Verdict::Later => {
                self.failure = Some(Error::new(ErrorKind::Broker, format!("{address}: {text}")));
                self.unsent.push(publication);
            }
        }
    }

    fn report(&mut self, stopped: Option<Stopped>) {
        let (destination, answered) = (self.destination.clone(), std::mem::take(&mut self.answered));
        // Fails only when the transport is closed.
        let _ = self.outcomes.send(BatchOutcome { destination, answered, stopped });
    }
}

/// What a connection waits for while it has room.
enum Next {
    Batch(Vec<Publication>),
    /// The subscriptions at the server were in doubt since it was the master last: so many times so far.
    Doubted(usize),
    /// None will come any more.
    Closed,
}

/// The next batch that comes while something may be published. *Cancel safe.*
async fn next_batch(
    listening: &mut Listening,
    doubts: usize,
    first: &mut Option<Vec<Publication>>,
    batches: &mut mpsc::Receiver<Vec<Publication>>,
) -> Next {
    loop {
        let doubts_now = listening.until_open().await;
        if doubts_now != doubts {
            return Next::Doubted(doubts_now);
        }
        if let Some(batch) = first.take() {
            return Next::Batch(batch);
        }
        tokio::select! {
            biased;
            () = listening.until_held() => {}
            batch = batches.recv() => return batch.map_or(Next::Closed, Next::Batch),
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Buffers that grew beyond this are not kept.
const KEPT_BUFFER: usize = 4 << 20;

/// Reads what comes within this time. *Cancel safe.*
async fn fill(frames: &mut Frames, socket: &mut Socket, limit: Option<Duration>) -> io::Result<()> {
    let fill = frames.fill(socket);
    match limit {
        Some(limit) => timeout(limit, fill).await.unwrap_or_else(|_| Err(no_answer())),
        None => fill.await,
    }
}

impl OpenConnection {
    /// Returns how many bytes that were.
    async fn write(&mut self, batch: &VecDeque<Publication>, limit: Duration) -> io::Result<usize> {
        self.buffer.clear();
        batch.iter().for_each(|publication| publication.write(&mut self.buffer));
        write_all(&mut self.socket, &self.buffer, limit).await?;
        let written = self.buffer.len();
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(written)
    }
}

/// What an error of the server means for the message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Its slot has moved to another node.
    Moved,
    /// The server is not ready, or is no longer the right one.
    Later,
    /// It will never be taken.
    Rejected,
}

impl Verdict {
    fn of(error: &[u8]) -> Self {
        if error.starts_with(b"MOVED") {
            Self::Moved
        } else if is_temporary(error) {
            Self::Later
        } else {
            Self::Rejected
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_judged_by_their_code() {
        for (error, verdict) in [
            (&b"MOVED 3999 127.0.0.1:6381"[..], Verdict::Moved),
            (b"READONLY You can't write against a read only replica.", Verdict::Later),
            (b"LOADING Redis is loading the dataset in memory", Verdict::Later),
            (b"NOPERM this user has no permissions", Verdict::Rejected),
            (b"OOM command not allowed when used memory > 'maxmemory'.", Verdict::Later),
            (b"ERR unknown command 'SPUBLISH'", Verdict::Rejected),
        ] {
            assert_eq!(Verdict::of(error), verdict, "{}", error.escape_ascii());
        }
    }
}
