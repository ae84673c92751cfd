//! When a subscription is known in the whole of a NATS cluster.
//!
//! A server confirms a subscription that it has taken in itself. To the servers it has routes to it passes it on, and nobody says when they
//! have it. But a route carries everything of an account in order: what we publish behind a subscription reaches clients of another server
//! only after that server has taken in the subscription. So transports ask each other: who answers is behind a server that knows all we
//! subscribed to before we asked. It suffices that one of those behind a server answers.
//!
//! Whom to wait for is known because every transport asks when it connects, and all who hear it answer: of two transports at least one has
//! heard the other before it subscribes to anything, and both have before they publish. An answer that comes to a newcomer also shows that
//! *its* server knows what the one who answers has subscribed to. Announcements from time to time heal what was missed while servers had
//! lost each other.
//!
//! One thing is beyond this: if two clients of one server are the first to subscribe to a subject and do so at the same instant, the server
//! tells the others on behalf of one of them, and the question of the other one can be faster, by the time a thread takes from one lock to
//! the next.

use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    config::Config,
    life::Life,
    peers::{Hello, Peers},
    subjects::token,
};

/// How long to wait for those who are known. Who has not answered by then is not waited for again until it is heard.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a transport that knows nobody waits for answers.
const ARRIVAL: Duration = Duration::from_millis(500);

/// A question may be lost while servers tell each other who listens.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How often a transport says that it is there.
const ANNOUNCEMENT: Duration = Duration::from_secs(10);

/// Callers who may wait in the queue. More wait in front of it.
const REQUESTS: usize = 1024;

/// Where callers ask for a round of questions.
#[derive(Debug)]
pub(crate) struct Fence {
    pub(crate) subject: Subject,
    /// What to publish there to be waited for no more.
    pub(crate) farewell: Bytes,
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

impl Fence {
    /// `None` if the server stands alone.
    pub(crate) async fn open(
        client: &Client,
        config: &Config,
        sender: String,
        peers: Arc<Peers>,
    ) -> Result<Option<(Self, Fencing)>> {
        let info = client.server_info();
        if info.cluster.is_none() && info.connect_urls.is_empty() {
            return Ok(None);
        }
        let subject = Subject::from(format!("{}.fence", token(&config.prefix)));
        let (requests, received) = mpsc::channel(REQUESTS);
        let farewell = Hello { sender: sender.clone(), server: None }.encode();
        let fence = Self { subject: subject.clone(), farewell, requests };
        let me = Hello { sender, server: Some(info.server_id.clone()) };
        let inbox = client.new_inbox();
        let fencing = Fencing {
            said: subscribe(client, subject.clone()).await?,
            answers: subscribe(client, format!("{inbox}.*").into()).await?,
            client: client.clone(),
            subject,
            inbox,
            me,
            server: info.server_id,
            // The list, if there is one, names this server, too.
            others: info.connect_urls.len().checked_sub(1).unwrap_or(usize::MAX),
            // Whoever waits for this waits for no more than that.
            patience: PATIENCE.min(config.connect_timeout / 2),
            peers,
            requests: received,
            rounds: 0,
            round: None,
        };
        Ok(Some((fence, fencing)))
    }

    /// Returns when what was queued before, subscriptions above all, has come to all servers behind which there are peers; or when those
    /// have had time enough to answer.
    pub(crate) async fn pass(&self) {
        let (passed, is_passed) = oneshot::channel();
        if self.requests.send(passed).await.is_ok() {
            // Fails only if the connection has ended, which is noticed elsewhere.
            let _ = is_passed.await;
        }
    }
}

async fn subscribe(client: &Client, subject: Subject) -> Result<Subscriber> {
    let subscribed = client.subscribe(subject).await;
    subscribed.map_err(|error| Error::new(ErrorKind::Disconnected, "subscribing").with_source(error))
}

/// The task that asks and answers on one connection.
#[derive(Debug)]
pub(crate) struct Fencing {
    client: Client,
    subject: Subject,
    inbox: String,
    me: Hello,
    server: String,
    /// How many other servers there may be.
    others: usize,
    patience: Duration,
    peers: Arc<Peers>,
    said: Subscriber,
    answers: Subscriber,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    rounds: u64,
    round: Option<Round>,
}

/// A question that waits for answers.
#[derive(Debug)]
struct Round {
    reply: Subject,
    /// Servers that know what we subscribed to before it.
    passed: HashSet<String>,
    /// So many there must be.
    least: usize,
    ask_again: Instant,
    until: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Fencing {
    /// Runs until the connection ends.
    pub(crate) async fn run(mut self, life: Arc<Life>) {
        tokio::select! {
            () = life.ended() => {}
            _ = self.work() => {}
        }
    }

    /// `None` when there is nothing more to do.
    async fn work(&mut self) -> Option<()> {
        let mut announcements = interval_at(Instant::now() + ANNOUNCEMENT, ANNOUNCEMENT);
        announcements.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.arrive().await?;
        loop {
            tokio::select! {
                said = self.said.next() => self.hear(said?).await,
                answer = self.answers.next() => self.answered(&answer?),
                () = due(self.round.as_ref()) => self.overdue().await?,
                request = self.requests.recv(), if self.round.is_none() => self.serve(request?).await?,
                _ = announcements.tick() => self.say_hello(self.subject.clone()).await?,
            }
            self.finish();
        }
    }

    /// The first question says that we are there. Who knows nobody listens for a while.
    async fn arrive(&mut self) -> Option<()> {
        match self.peers.is_empty() {
            true => self.begin(self.others, self.patience.min(ARRIVAL), Vec::new()),
            false => self.begin(0, self.patience, Vec::new()),
        }
        self.ask().await?;
        self.finish();
        Some(())
    }

    /// One question serves all who wait.
    async fn serve(&mut self, request: oneshot::Sender<()>) -> Option<()> {
        let mut waiting = vec![request];
        while waiting.len() < REQUESTS
            && let Ok(request) = self.requests.try_recv()
        {
            waiting.push(request);
        }
        self.begin(0, self.patience, waiting);
        if self.is_passed() { Some(()) } else { self.ask().await }
    }

    fn begin(&mut self, others: usize, patience: Duration, waiting: Vec<oneshot::Sender<()>>) {
        self.rounds += 1;
        let now = Instant::now();
        self.round = Some(Round {
            reply: format!("{}.{}", self.inbox, self.rounds).into(),
            passed: HashSet::from([self.server.clone()]),
            least: others.saturating_add(1),
            ask_again: now,
            until: now + patience,
            waiting,
        });
    }

    async fn ask(&mut self) -> Option<()> {
        let Some(round) = &mut self.round else { return Some(()) };
        round.ask_again = Instant::now() + ASK_AGAIN;
        let question = self.client.publish_with_reply(self.subject.clone(), round.reply.clone(), self.me.encode());
        question.await.ok()
    }

    async fn say_hello(&self, to: Subject) -> Option<()> {
        self.client.publish(to, self.me.encode()).await.ok()
    }

    /// Somebody says that they are there, or leave, and may ask.
    async fn hear(&mut self, said: Message) {
        let Some(hello) = Hello::decode(&said.payload) else { return };
        if hello.sender == self.me.sender {
            return;
        }
        let is_here = hello.server.is_some();
        // First of all, so that whoever has our answer is waited for.
        self.peers.heard(hello);
        if is_here && let Some(reply) = said.reply {
            // No answer to what nobody can publish to.
            let _ = self.say_hello(reply).await;
        }
    }

    fn answered(&mut self, answer: &Message) {
        let Some(hello) = Hello::decode(&answer.payload) else { return };
        if let Some(round) = &mut self.round
            && let Some(server) = &hello.server
            && answer.subject == round.reply
        {
            round.passed.insert(server.clone());
        }
        self.peers.heard(hello);
    }

    /// It is time to ask again, or to give up.
    async fn overdue(&mut self) -> Option<()> {
        let Some(round) = &mut self.round else { return Some(()) };
        if Instant::now() < round.until {
            return self.ask().await;
        }
        let silent = self.peers.keep_only_behind(&round.passed);
        if silent > 0 {
            tracing::warn!(silent, "nodes behind other NATS servers do not answer: what they send next may be missed");
        }
        self.let_go();
        Some(())
    }

    fn is_passed(&self) -> bool {
        self.round
            .as_ref()
            .is_some_and(|round| round.passed.len() >= round.least && self.peers.are_all_behind(&round.passed))
    }

    /// Lets go of those who wait, once everybody has answered.
    fn finish(&mut self) {
        if self.is_passed() {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        for passed in self.round.take().into_iter().flat_map(|round| round.waiting) {
            // Fails only if nobody waits any more.
            let _ = passed.send(());
        }
    }
}

async fn due(round: Option<&Round>) {
    match round {
        Some(round) => sleep_until(round.ask_again.min(round.until)).await,
        None => pending().await,
    }
}
