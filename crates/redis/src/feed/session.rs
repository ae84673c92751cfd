//! One connection of a feed, from its beginning to its end.

use std::{collections::VecDeque, io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use trunkline_core::{Error, ErrorKind};

use super::{Arrival, Done, FeedTask, Request, Topic};
use crate::{
    config::Address,
    connection::Socket,
    error::is_temporary,
    resp::{Frames, Reader, Reply, command},
};

/// A connection and what is asked on it.
pub(super) struct Session {
    address: Address,
    socket: Socket,
    frames: Frames,
    /// What the server has not answered yet, in order.
    asked: VecDeque<Asked>,
    /// Subscriptions from before that are not active yet.
    restoring: usize,
    heard: Instant,
    arrivals: Vec<Arrival>,
}

enum Asked {
    Subscribe { topic: Topic, restoring: bool },
    Unsubscribe { topic: Topic, done: Option<Done> },
    Ping,
}

impl Session {
    pub(super) fn new(address: Address, socket: Socket) -> Self {
        Self {
            address,
            socket,
            frames: Frames::default(),
            asked: VecDeque::new(),
            restoring: 0,
            heard: Instant::now(),
            arrivals: Vec::new(),
        }
    }

    /// Runs until the connection ends, and says why; `None` when the last handle of the feed is gone.
    pub(super) async fn run(mut self, task: &mut FeedTask, requests: &mut mpsc::Receiver<Request>) -> Option<String> {
        match self.serve(task, requests).await {
            Ok(()) => None,
            Err(error) => Some(format!("{}: {error}", self.address)),
        }
    }

    async fn serve(&mut self, task: &mut FeedTask, requests: &mut mpsc::Receiver<Request>) -> io::Result<()> {
        self.resubscribe(task).await?;
        loop {
            let silent_at = self.silent_at(task);
            tokio::select! {
                filled = self.frames.fill(&mut self.socket) => {
                    filled?;
                    self.take_frames(task)?;
                }
                request = requests.recv() => match request {
                    Some(request) => self.requests(request, requests, task).await?,
                    None => return Ok(()),
                },
                () = sleep_until(silent_at) => self.silence(task).await?,
            }
        }
    }

    // --- asking ---

    async fn resubscribe(&mut self, task: &mut FeedTask) -> io::Result<()> {
        let topics = task.subscriptions.in_order();
        self.restoring = topics.len();
        let mut out = Vec::new();
        for topic in topics {
            self.ask_to_subscribe(topic, true, &mut out);
        }
        self.write(&out, task.limits.response_timeout).await
    }

    /// This request, and whatever else waits.
    async fn requests(
        &mut self,
        first: Request,
        requests: &mut mpsc::Receiver<Request>,
        task: &mut FeedTask,
    ) -> io::Result<()> {
        let mut out = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Subscribe(topics, done) => {
                    for topic in task.subscriptions.want(topics, done) {
                        self.ask_to_subscribe(topic, false, &mut out);
                    }
                }
                Request::Unsubscribe(topics, done) => {
                    let gone = task.subscriptions.unwant(topics);
                    self.ask_to_unsubscribe(gone, done, &mut out);
                }
            }
            next = requests.try_recv().ok();
        }
        self.write(&out, task.limits.response_timeout).await
    }

    /// Something is asked; the silence counts from here.
    fn ask(&mut self, asked: Asked) {
        if self.asked.is_empty() {
            self.heard = Instant::now();
        }
        self.asked.push_back(asked);
    }

    fn ask_to_subscribe(&mut self, topic: Topic, restoring: bool, out: &mut Vec<u8>) {
        let verb: &[u8] = match topic {
            Topic::Channel(_) => b"SUBSCRIBE",
            Topic::Pattern(_) => b"PSUBSCRIBE",
            Topic::Shard(_) => b"SSUBSCRIBE",
        };
        command(out, [verb, topic.name()]);
        self.ask(Asked::Subscribe { topic, restoring });
    }

    /// The last of the topics answers for all.
    fn ask_to_unsubscribe(&mut self, topics: Vec<Topic>, done: Done, out: &mut Vec<u8>) {
        let mut done = Some(done);
        let last = topics.len().checked_sub(1);
        for (index, topic) in topics.into_iter().enumerate() {
            let verb: &[u8] = match topic {
                Topic::Channel(_) => b"UNSUBSCRIBE",
                Topic::Pattern(_) => b"PUNSUBSCRIBE",
                Topic::Shard(_) => b"SUNSUBSCRIBE",
            };
            command(out, [verb, topic.name()]);
            let done = if Some(index) == last { done.take() } else { None };
            self.ask(Asked::Unsubscribe { topic, done });
        }
        if let Some(done) = done {
            let _ = done.send(Ok(()));
        }
    }

    async fn write(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let write = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        timeout(limit, write).await.unwrap_or_else(|_| Err(no_answer()))
    }

    // --- signs of life ---

    /// When the silence has lasted too long: either the server is asked then, or it has not answered.
    fn silent_at(&self, task: &FeedTask) -> Instant {
        let limit = if self.asked.is_empty() { task.limits.keepalive } else { task.limits.response_timeout };
        self.heard + limit
    }

    async fn silence(&mut self, task: &FeedTask) -> io::Result<()> {
        if !self.asked.is_empty() {
            return Err(no_answer());
        }
        self.ask(Asked::Ping);
        let mut out = Vec::new();
        command(&mut out, [&b"PING"[..]]);
        self.write(&out, task.limits.response_timeout).await
    }

    // --- what comes ---

    fn take_frames(&mut self, task: &mut FeedTask) -> io::Result<()> {
        self.heard = Instant::now();
        while let Some(frame) = self.frames.next()? {
            self.take_frame(frame, task)?;
        }
        self.hand_over(task);
        Ok(())
    }

    fn hand_over(&mut self, task: &FeedTask) {
        if !self.arrivals.is_empty() {
            task.listener.arrived(&mut self.arrivals);
            self.arrivals.clear();
        }
    }

    fn take_frame(&mut self, frame: Bytes, task: &mut FeedTask) -> io::Result<()> {
        let mut reader = Reader::new(frame);
        match reader.next() {
            Some(Reply::Array(_)) => {
                let kind = reader.next_text().ok_or_else(unexpected)?;
                self.take_push(&kind, &mut reader, task)
            }
            Some(Reply::Error(error)) => self.take_error(&error, task),
            // The answer to PING, if nothing is subscribed to.
            Some(Reply::Simple(_)) => self.answered_ping(),
            _ => Err(unexpected()),
        }
    }

    fn take_push(&mut self, kind: &[u8], reader: &mut Reader, task: &mut FeedTask) -> io::Result<()> {
        let mut text = || reader.next_text().ok_or_else(unexpected);
        match kind {
            b"message" => {
                let (channel, payload) = (text()?, text()?);
                self.arrivals.push(Arrival { topic: Topic::Channel(channel.clone()), channel, payload });
            }
            b"pmessage" => {
                let (pattern, channel, payload) = (text()?, text()?, text()?);
                self.arrivals.push(Arrival { topic: Topic::Pattern(pattern), channel, payload });
            }
            b"smessage" => {
                let (channel, payload) = (text()?, text()?);
                self.arrivals.push(Arrival { topic: Topic::Shard(channel.clone()), channel, payload });
            }
            b"subscribe" | b"psubscribe" | b"ssubscribe" => self.subscribed(&text()?, task)?,
            b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => {
                let name = text()?;
                self.unsubscribed(&name, task);
            }
            b"pong" => self.answered_ping()?,
            _ => {}
        }
        Ok(())
    }

    fn subscribed(&mut self, name: &Bytes, task: &mut FeedTask) -> io::Result<()> {
        match self.asked.pop_front() {
            Some(Asked::Subscribe { topic, restoring }) if topic.name() == name => {
                task.subscriptions.activate(&topic);
                self.settled(restoring, task);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// A subscription from before is active again, or refused.
    fn settled(&mut self, restoring: bool, task: &mut FeedTask) {
        if restoring {
            self.restoring -= 1;
            if self.restoring == 0 {
                self.hand_over(task);
                task.restore();
            }
        }
    }

    /// Because it was asked for, or because the server of a cluster has given the channel away.
    fn unsubscribed(&mut self, name: &Bytes, task: &mut FeedTask) {
        match self.asked.front_mut() {
            Some(Asked::Unsubscribe { topic, done }) if topic.name() == name => {
                if let Some(done) = done.take() {
                    let _ = done.send(Ok(()));
                }
                self.asked.pop_front();
            }
            _ => {
                self.hand_over(task);
                task.listener.moved(&Topic::Shard(name.clone()));
            }
        }
    }

    fn take_error(&mut self, error: &Bytes, task: &mut FeedTask) -> io::Result<()> {
        let text = String::from_utf8_lossy(error).into_owned();
        match self.asked.pop_front() {
            Some(Asked::Subscribe { topic, restoring }) if error.starts_with(b"MOVED") => {
                task.listener.moved(&topic);
                self.settled(restoring, task);
            }
            // The server is not ready: what else waits would be refused as well.
            Some(Asked::Subscribe { .. }) if is_temporary(error) => return Err(io::Error::other(text)),
            Some(Asked::Subscribe { topic, restoring }) => {
                tracing::warn!(?topic, error = text, "the server refuses a subscription");
                let refused = Error::new(ErrorKind::Broker, format!("{}: {topic:?}: {text}", self.address));
                task.subscriptions.refuse(&topic, &refused);
                self.settled(restoring, task);
            }
            Some(Asked::Unsubscribe { done, .. }) => {
                if let Some(done) = done {
                    let _ = done.send(Ok(()));
                }
            }
            Some(Asked::Ping) | None => return Err(io::Error::other(text)),
        }
        Ok(())
    }

    fn answered_ping(&mut self) -> io::Result<()> {
        match self.asked.pop_front() {
            Some(Asked::Ping) => Ok(()),
            _ => Err(unexpected()),
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer to something that was not asked")
}
