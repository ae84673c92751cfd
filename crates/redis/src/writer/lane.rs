//! The connection to one place, and one batch on its way over it.

use std::{io, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt, time::sleep};
use trunkline_core::{Error, ErrorKind, Result, backoff::Backoff};

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
    /// Kept from batch to batch.
    buffer: Vec<u8>,
}

/// An open connection.
struct Open {
    address: Address,
    socket: Socket,
    frames: Frames,
    watch: Watch,
}

/// What became of a batch.
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
        Self { place, open: None, backoff, pauses: false, was_open: false, buffer: Vec::new() }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Connects if need be, writes the batch in one go and waits for the answers.
    pub(super) async fn send(mut self, posts: Vec<Post>, servers: Arc<Servers>, status: Arc<Status>) -> Sent {
        if let Err(error) = self.connect(&servers, &status).await {
            // In a cluster the node may be gone for good.
            let moved = servers.is_cluster();
            return Sent { lane: self, outcomes: Vec::new(), unsent: posts, failure: Some(error), moved };
        }
        self.exchange(posts, servers.response_timeout()).await
    }

    async fn connect(&mut self, servers: &Servers, status: &Status) -> Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        if std::mem::replace(&mut self.pauses, true) {
            sleep(self.backoff.next_pause()).await;
        }
        let (address, socket) = servers.open(&self.place, "publish").await?;
        if std::mem::replace(&mut self.was_open, true) {
            status.reconnected();
        }
        self.open = Some(Open { address, socket, frames: Frames::default(), watch: Watch::default() });
        Ok(())
    }

    async fn exchange(self, posts: Vec<Post>, limit: Duration) -> Sent {
        let mut sent = Sent { lane: self, outcomes: Vec::new(), unsent: Vec::new(), failure: None, moved: false };
        let mut open = sent.lane.open.take();
        let mut buffer = std::mem::take(&mut sent.lane.buffer);
        buffer.clear();
        posts.iter().for_each(|post| post.write(&mut buffer));
        let mut posts = posts.into_iter();
        if let Some(open) = &mut open {
            let answered = open.write(&buffer, limit).await;
            let answered = match answered {
                Ok(()) => open.read_answers(&mut posts, &mut sent, limit).await,
                Err(error) => Err(error),
            };
            if let Err(error) = answered {
                sent.failure = Some(lost(&open.address, error));
            }
        }
        sent.unsent.extend(posts);
        if sent.failure.is_none() {
            sent.lane.backoff.reset();
            sent.lane.open = open;
        }
        sent.lane.pauses = sent.failure.is_some();
        sent.lane.buffer = if buffer.capacity() <= KEPT_BUFFER { buffer } else { Vec::new() };
        sent
    }
}

impl Open {
    async fn write(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        let write = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        self.watch.within(limit, write).await
    }

    /// One answer per command, in their order.
    async fn read_answers(
        &mut self,
        posts: &mut std::vec::IntoIter<Post>,
        sent: &mut Sent,
        limit: Duration,
    ) -> io::Result<()> {
        while posts.len() > 0 {
            let Some(frame) = self.frames.next()? else {
                self.watch.within(limit, self.frames.fill(&mut self.socket)).await?;
                continue;
            };
            let reply = Reader::new(frame).next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            let Some(post) = posts.next() else { break };
            match reply {
                Reply::Error(error) => self.judge(&error, post, sent),
                reply => sent.outcomes.push((post, Ok(reply))),
            }
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
