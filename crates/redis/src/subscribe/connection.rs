//! One connection to receive over, from its beginning to its end.

use std::{collections::VecDeque, io};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use trunkline_core::{Error, ErrorKind};

use super::{
    Done, PubSubMessage, Topic,
    node::{NodeCommand, NodeSubscriber, confirm},
};
use crate::{
    config::Address,
    connect::{
        DEMOTED, Frames, ROLE, Reader, Renewals, Reply, Socket, is_temporary, no_answer, not_renewed, rejection,
        write_all, write_command,
    },
};

/// A connection and what is asked on it.
pub(super) struct SubscriberConnection {
    address: Address,
    socket: Socket,
    frames: Frames,
    /// What the server has not answered yet, in order.
    asked: VecDeque<Asked>,
    /// Interrupted subscriptions that are not active yet. Until they are, messages are held back: that some may be
    /// missing is told before.
    restoring: usize,
    /// When the server was last heard, or asked something after a silence.
    heard: Instant,
    /// When the role of the server is asked for, however much arrives; `None` if it need not.
    next_role_check: Option<Instant>,
    renewals: Renewals,
    messages: Vec<PubSubMessage>,
    /// Channel of the last message, if that came by name and nothing else has come since: the server sends it once more
    /// for each pattern.
    named: Option<Bytes>,
    /// Commands that are not written yet.
    out: Vec<u8>,
}

enum Asked {
    Subscribe {
        topic: Topic,
        number: u64,
        is_restoring: bool,
    },
    Unsubscribe {
        topic: Topic,
        done: Option<Done>,
    },
    Ping,
    /// Whether renewed credentials are accepted.
    Credentials,
}

impl SubscriberConnection {
    pub(super) fn new(address: Address, socket: Socket, next_role_check: Option<Instant>, renewals: Renewals) -> Self {
        Self {
            address,
            socket,
            frames: Frames::default(),
            asked: VecDeque::new(),
            restoring: 0,
            heard: Instant::now(),
            next_role_check,
            renewals,
            messages: Vec::new(),
            named: None,
            out: Vec::new(),
        }
    }

    /// Runs until the connection ends, and says why; `None` when the router has dropped its end.
    pub(super) async fn run(mut self, node: &mut NodeSubscriber) -> Option<String> {
        let served = self.serve(node).await;
        for asked in self.asked {
            if let Asked::Unsubscribe { done, .. } = asked {
                confirm(done);
            }
        }
        served.err().map(|error| format!("{}: {error}", self.address))
    }

    async fn serve(&mut self, node: &mut NodeSubscriber) -> io::Result<()> {
        self.resubscribe(node).await?;
        let mut listening = node.listening();
        loop {
            let silent_at = self.silent_at(node);
            tokio::select! {
                filled = self.frames.fill(&mut self.socket) => {
                    filled?;
                    self.take_frames(node)?;
                }
                command = node.commands.recv() => match command {
                    Some(command) => self.take_commands(command, node).await?,
                    None => return Ok(()),
                },
                () = sleep_until(silent_at) => self.silence(node).await?,
                command = self.renewals.next() => {
                    self.out.extend(command);
                    self.ask(Asked::Credentials);
                    self.flush(node).await?;
                }
                // Another connection to the server has failed.
                () = listening.until_doubted(), if self.asked.is_empty() => self.silence(node).await?,
            }
        }
    }

    // --- asking ---

    async fn resubscribe(&mut self, node: &mut NodeSubscriber) -> io::Result<()> {
        for (topic, number, is_interrupted) in node.in_order() {
            self.ask_to_subscribe(topic, number, is_interrupted);
        }
        if self.restoring == 0 {
            self.restored(node);
        }
        self.flush(node).await
    }

    fn restored(&self, node: &mut NodeSubscriber) {
        node.restore();
        node.set_listening(Some(true));
    }

    /// This command, and what else waits.
    async fn take_commands(&mut self, first: NodeCommand, node: &mut NodeSubscriber) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                NodeCommand::Subscribe { topic, number, is_interrupted } => {
                    node.add(topic.clone(), number, is_interrupted);
                    self.ask_to_subscribe(topic, number, is_interrupted);
                }
                NodeCommand::Unsubscribe { topic, done } => match node.subscriptions.remove(&topic) {
                    Some(_) => self.ask_to_unsubscribe(topic, done),
                    None => confirm(done),
                },
            }
            next = node.commands.try_recv().ok();
        }
        self.flush(node).await
    }

    fn ask_to_subscribe(&mut self, topic: Topic, number: u64, is_restoring: bool) {
        let command: &[u8] = match topic {
            Topic::Channel(_) => b"SUBSCRIBE",
            Topic::Pattern(_) => b"PSUBSCRIBE",
            Topic::Shard(_) => b"SSUBSCRIBE",
        };
        self.restoring += usize::from(is_restoring);
        write_command(&mut self.out, [command, topic.name()]);
        self.ask(Asked::Subscribe { topic, number, is_restoring });
    }

    fn ask_to_unsubscribe(&mut self, topic: Topic, done: Option<Done>) {
        let command: &[u8] = match topic {
            Topic::Channel(_) => b"UNSUBSCRIBE",
            Topic::Pattern(_) => b"PUNSUBSCRIBE",
            Topic::Shard(_) => b"SUNSUBSCRIBE",
        };
        write_command(&mut self.out, [command, topic.name()]);
        self.ask(Asked::Unsubscribe { topic, done });
    }

    /// The silence counts from the first question on.
    fn ask(&mut self, asked: Asked) {
        if self.asked.is_empty() {
            self.heard = Instant::now();
        }
        self.asked.push_back(asked);
    }

    async fn flush(&mut self, node: &NodeSubscriber) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        if out.is_empty() {
            return Ok(());
        }
        write_all(&mut self.socket, &out, node.shared.limits.response_timeout).await
    }

    // --- signs of life ---

    /// When the silence has lasted too long: either the server is asked then, or it has not answered.
    fn silent_at(&self, node: &NodeSubscriber) -> Instant {
        let limits = &node.shared.limits;
        if !self.asked.is_empty() {
            return self.heard + limits.response_timeout;
        }
        let silent_at = self.heard + limits.ping_interval;
        self.next_role_check.map_or(silent_at, |check| check.min(silent_at))
    }

    async fn silence(&mut self, node: &NodeSubscriber) -> io::Result<()> {
        if !self.asked.is_empty() {
            return Err(no_answer());
        }
        self.ask(Asked::Ping);
        match self.next_role_check {
            Some(_) => write_command(&mut self.out, ROLE),
            None => write_command(&mut self.out, [&b"PING"[..]]),
        }
        self.next_role_check = node.shared.servers.next_role_check();
        self.flush(node).await
    }

    // --- what comes ---

    fn take_frames(&mut self, node: &mut NodeSubscriber) -> io::Result<()> {
        self.heard = Instant::now();
        while let Some(frame) = self.frames.next()? {
            self.take_frame(frame, node)?;
        }
        self.hand_over(node);
        Ok(())
    }

    fn hand_over(&mut self, node: &NodeSubscriber) {
        if self.restoring == 0 && !self.messages.is_empty() {
            node.shared.handler.received(&mut self.messages);
            self.messages.clear();
        }
    }

    fn take_frame(&mut self, frame: Bytes, node: &mut NodeSubscriber) -> io::Result<()> {
        let mut reader = Reader::new(frame);
        match reader.next() {
            Some(Reply::Array(_)) => {
                let kind = reader.next_text().ok_or_else(unexpected)?;
                self.take_push(&kind, &mut reader, node)
            }
            Some(Reply::Error(error)) => self.take_error(&error, node),
            Some(Reply::Simple(_))
                if self.asked.pop_front_if(|asked| matches!(asked, Asked::Credentials)).is_some() =>
            {
                Ok(())
            }
            // The answer to PING, with RESP3 or if nothing is subscribed to.
            Some(Reply::Simple(_)) => self.answered_ping(node),
            _ => Err(unexpected()),
        }
    }

    fn take_push(&mut self, kind: &[u8], reader: &mut Reader, node: &mut NodeSubscriber) -> io::Result<()> {
        let mut text = || reader.next_text().ok_or_else(unexpected);
        let named = self.named.take();
        let mut push = |topic, channel, payload, came_by_name| {
            self.messages.push(PubSubMessage { topic, channel, payload, came_by_name });
        };
        match kind {
            b"message" => {
                let (channel, payload) = (text()?, text()?);
                self.named = Some(channel.clone());
                push(Topic::Channel(channel.clone()), channel, payload, false);
            }
            b"pmessage" => {
                let (pattern, channel, payload) = (text()?, text()?, text()?);
                self.named = named.filter(|named| *named == channel);
                push(Topic::Pattern(pattern), channel, payload, self.named.is_some());
            }
            b"smessage" => {
                let (channel, payload) = (text()?, text()?);
                push(Topic::Shard(channel.clone()), channel, payload, false);
            }
            b"subscribe" | b"psubscribe" | b"ssubscribe" => self.subscribed(&text()?, node)?,
            b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => self.unsubscribed(text()?, node),
            b"slave" => return Err(io::Error::other(DEMOTED)),
            b"pong" | b"master" => self.answered_ping(node)?,
            // Another role.
            _ if matches!(self.asked.front(), Some(Asked::Ping)) => self.answered_ping(node)?,
            _ => {}
        }
        Ok(())
    }

    fn subscribed(&mut self, name: &Bytes, node: &mut NodeSubscriber) -> io::Result<()> {
        match self.asked.pop_front() {
            Some(Asked::Subscribe { topic, number, is_restoring }) if topic.name() == name => {
                node.activate(topic, number);
                self.settled(is_restoring, node);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// An interrupted subscription is active again, refused, or served elsewhere.
    fn settled(&mut self, was_restoring: bool, node: &mut NodeSubscriber) {
        if was_restoring {
            self.restoring -= 1;
            if self.restoring == 0 {
                self.restored(node);
            }
        }
    }

    /// The answer to a command, or the server of a cluster has given the channel away.
    fn unsubscribed(&mut self, name: Bytes, node: &mut NodeSubscriber) {
        // What came before is to be judged by what was subscribed to then.
        self.hand_over(node);
        match self.asked.front_mut() {
            Some(Asked::Unsubscribe { topic, done }) if *topic.name() == name => {
                confirm(done.take());
                self.asked.pop_front();
            }
            _ => node.moved(Topic::Shard(name)),
        }
    }

    fn take_error(&mut self, error: &Bytes, node: &mut NodeSubscriber) -> io::Result<()> {
        let text = String::from_utf8_lossy(error).into_owned();
        match self.asked.pop_front() {
            Some(Asked::Subscribe { topic, number, is_restoring }) if error.starts_with(b"MOVED") => {
                node.shared.servers.note_moved(error, &self.address);
                node.redirect(topic, number);
                self.settled(is_restoring, node);
            }
            // The server is not ready: what else waits would be refused as well.
            Some(Asked::Subscribe { .. }) if is_temporary(error) => return Err(io::Error::other(text)),
            Some(Asked::Subscribe { topic, number, is_restoring }) => {
                tracing::warn!(?topic, error = text, "the server refuses a subscription");
                let hint = if matches!(topic, Topic::Pattern(_)) {
                    "; subscription=rooms and mode=sharded need none"
                } else {
                    ""
                };
                let text = format!("{topic:?}: {text}{hint}");
                // Some services lack a command.
                let kind =
                    if error.starts_with(b"ERR unknown command") { ErrorKind::Unsupported } else { ErrorKind::Broker };
                let refused = match rejection(error) {
                    Some(failure) => failure.at(&self.address).with_source(text),
                    None => Error::new(kind, format!("{}: {text}", self.address)),
                };
                node.reject(topic, number, refused);
                self.settled(is_restoring, node);
            }
            Some(Asked::Unsubscribe { done, .. }) => confirm(done),
            // A server that cannot write to its disk (MISCONF) refuses PING, and goes on delivering. A subscriber without
            // RESP3, or a user without the right, may not ask for the role.
            Some(Asked::Ping) => node.set_listening(Some(true)),
            Some(Asked::Credentials) => not_renewed(&text),
            None => return Err(io::Error::other(text)),
        }
        Ok(())
    }

    fn answered_ping(&mut self, node: &NodeSubscriber) -> io::Result<()> {
        match self.asked.pop_front() {
            Some(Asked::Ping) => {
                node.set_listening(Some(true));
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer to something that was not asked")
}
