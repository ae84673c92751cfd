//! The connection to one place, and what is on its way over it: one batch, or a second one behind a lone message.

use std::{collections::VecDeque, future::pending, io, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt, sync::oneshot, time::sleep};
use trunkline_backend::Backoff;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    config::Address,
    connection::Socket,
    error::{is_temporary, lost},
    post::Post,
    resp::{Frames, Reader, Reply},
    status::Status,
    topology::{Place, Servers},
    watch::Watch,
};

/// The way to one place.
pub(super) struct Lane {
    place: Place,
    open: Option<Open>,
    backoff: Backoff,
    /// The last attempt failed.
    pauses: bool,
    was_open: bool,
}

/// An open connection.
struct Open {
    address: Address,
    socket: Socket,
    frames: Frames,
    watch: Watch,
    /// Kept from batch to batch.
    buffer: Vec<u8>,
}

/// Where a second batch comes from, if one may come.
pub(super) type Second = Option<oneshot::Receiver<Vec<Post>>>;

/// What became of a batch and of the second one.
pub(super) struct Sent {
    pub(super) lane: Lane,
    /// What was answered: with a reply, or with a refusal.
    pub(super) outcomes: Vec<(Post, std::result::Result<Reply, String>)>,
    /// What was not, in order; to be sent again.
    pub(super) unsent: Vec<Post>,
    /// Why, if it was not because of a move.
    pub(super) failure: Option<Error>,
    /// The cluster has moved something.
    pub(super) moved: bool,
}

/// What an error of the server means for the message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It belongs to another node.
    Moved,
    /// The server is not ready, or is no longer the right one.
    Later,
    /// It will never be taken.
    Refused,
}

impl Verdict {
    fn of(error: &[u8]) -> Self {
        if error.starts_with(b"MOVED") {
            Self::Moved
        } else if is_temporary(error) {
            Self::Later
        } else {
            Self::Refused
        }
    }
}

/// Buffers that grew beyond this are not kept.
const KEPT_BUFFER: usize = 4 << 20;

impl Lane {
    pub(super) fn new(place: Place, backoff: Backoff) -> Self {
        Self { place, open: None, backoff, pauses: false, was_open: false }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Connects if need be, writes the batch in one go and waits for the answers. A second batch that comes meanwhile is written at once.
    pub(super) async fn send(
        mut self,
        posts: Vec<Post>,
        mut second: Second,
        servers: Arc<Servers>,
        status: Arc<Status>,
    ) -> Sent {
        let connected = self.connect(&servers, &status).await;
        let mut sent = Sent { lane: self, outcomes: Vec::new(), unsent: Vec::new(), failure: None, moved: false };
        let mut on_way = VecDeque::from(posts);
        match connected {
            Ok(mut open) => {
                let limit = servers.response_timeout();
                if let Err(error) = open.exchange(&mut on_way, &mut second, &mut sent, limit).await {
                    sent.failure = Some(lost(&open.address, error));
                }
                if sent.failure.is_none() {
                    sent.lane.backoff.reset();
                    sent.lane.open = Some(open);
                }
            }
            Err(error) => {
                sent.failure = Some(error);
                // In a cluster the node may be gone for good.
                sent.moved = servers.is_cluster();
            }
        }
        sent.lane.pauses = sent.failure.is_some();
        sent.unsent.extend(on_way);
        // It may have come together with the last answer.
        let unread = second.and_then(|mut second| second.try_recv().ok());
        sent.unsent.extend(unread.into_iter().flatten());
        sent
    }

    async fn connect(&mut self, servers: &Servers, status: &Status) -> Result<Open> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        if self.pauses {
            sleep(self.backoff.next_pause()).await;
        }
        let (address, socket) = servers.open(&self.place, "publish").await?;
        if std::mem::replace(&mut self.was_open, true) {
            status.reconnected();
        }
        status.set_near(socket.is_near());
        Ok(Open { address, socket, frames: Frames::default(), watch: Watch::default(), buffer: Vec::new() })
    }
}

impl Open {
    /// Writes what is on its way, then reads one answer per command, in their order.
    async fn exchange(
        &mut self,
        on_way: &mut VecDeque<Post>,
        second: &mut Second,
        sent: &mut Sent,
        limit: Duration,
    ) -> io::Result<()> {
        self.write(on_way.iter(), limit).await?;
        while !on_way.is_empty() {
            let Some(frame) = self.frames.next()? else {
                tokio::select! {
                    biased;
                    filled = self.watch.within(limit, self.frames.fill(&mut self.socket)) => filled?,
                    posts = follower(second) => {
                        let written = on_way.len();
                        on_way.extend(posts);
                        self.write(on_way.range(written..), limit).await?;
                    }
                }
                continue;
            };
            let reply = Reader::new(frame).next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            let Some(post) = on_way.pop_front() else { break };
            match reply {
                Reply::Error(error) => self.judge(&error, post, sent),
                reply => sent.outcomes.push((post, Ok(reply))),
            }
        }
        Ok(())
    }

    async fn write(&mut self, posts: impl Iterator<Item = &Post>, limit: Duration) -> io::Result<()> {
        self.buffer.clear();
        posts.for_each(|post| post.write(&mut self.buffer));
        let write = async {
            self.socket.write_all(&self.buffer).await?;
            self.socket.flush().await
        };
        self.watch.within(limit, write).await?;
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn judge(&self, error: &[u8], post: Post, sent: &mut Sent) {
        let text = String::from_utf8_lossy(error).into_owned();
        match Verdict::of(error) {
            Verdict::Refused => sent.outcomes.push((post, Err(text))),
            Verdict::Moved => {
                sent.moved = true;
                sent.unsent.push(post);
            }
            Verdict::Later => {
                let context = format!("{}: {text}", self.address);
                sent.failure = Some(Error::new(ErrorKind::Broker, context));
                sent.unsent.push(post);
            }
        }
    }
}

/// The second batch, once. *Cancel safe.*
async fn follower(second: &mut Second) -> Vec<Post> {
    let Some(coming) = second else { return pending().await };
    let posts = coming.await;
    *second = None;
    posts.unwrap_or_default()
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
            (b"NOPERM this user has no permissions", Verdict::Refused),
            (b"OOM command not allowed when used memory > 'maxmemory'.", Verdict::Refused),
            (b"ERR unknown command 'SPUBLISH'", Verdict::Refused),
        ] {
            assert_eq!(Verdict::of(error), verdict, "{}", error.escape_ascii());
        }
    }
}
