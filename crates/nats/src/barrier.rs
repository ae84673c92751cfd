//! When a subscription is known in the whole of a NATS cluster.
//!
//! A server confirms a subscription that it has taken in itself. It passes it on to the servers it has routes to, and
//! nothing tells when they have it. But a route carries everything of an account in order: what we publish behind a
//! subscription reaches clients of another server only after that server has taken in the subscription. So transports
//! ask each other: an answer comes from behind a server that knows all we subscribed to before we asked. One answer
//! from behind each server is enough.
//!
//! Which servers to wait for is known because every transport asks when it connects, and all that hear it answer: of
//! two transports at least one has heard the other before it subscribes to anything, and both have before they publish.
//! An answer to a newcomer also shows that *its* server knows what the answering transport has subscribed to.
//! Announcements from time to time heal what was missed while servers had lost each other.
//!
//! One thing is beyond this: if two clients of one server are the first to subscribe to a subject and do so at the same
//! instant, the server tells the others on behalf of one of them, and the question of the other one can be faster, by
//! the time a thread takes from one lock to the next.

use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use trunkline_core::Result;

use crate::{
    broker::Nats,
    connection::subscribe,
    connection_state::ConnectionState,
    peers::{PeerHello, Peers},
};

/// How long to wait for known peers. One that has not answered by then is not waited for again until it is heard.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a transport that knows no peers waits for answers.
const DISCOVERY_TIMEOUT: Duration = Duration::from_millis(500);

/// When to ask again: a question may be lost while servers tell each other of subscriptions.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How often a transport announces itself.
const ANNOUNCEMENT: Duration = Duration::from_secs(10);

/// Callers that may wait in the queue. More wait in front of it.
const REQUESTS: usize = 1024;

/// Lets callers wait until the cluster knows their subscriptions.
#[derive(Debug)]
pub(crate) struct SubscriptionBarrier {
    pub(crate) subject: Subject,
    /// What to publish there to be waited for no more.
    pub(crate) goodbye: Bytes,
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

impl SubscriptionBarrier {
    /// `None` if the server stands alone.
    pub(crate) async fn open(client: &Client, nats: &Nats) -> Result<Option<(Self, BarrierTask)>> {
        let info = client.server_info();
        if info.cluster.is_none() && info.connect_urls.is_empty() {
            return Ok(None);
        }
        let sender = nats.settings.sender.to_string();
        let subject = Subject::from(format!("{}.fence", nats.prefix()));
        let (requests, received) = mpsc::channel(REQUESTS);
        let goodbye = PeerHello { sender: sender.clone(), server: None }.encode();
        let inbox = client.new_inbox();
        let task = BarrierTask {
            hellos: subscribe(client, subject.clone()).await?,
            answers: subscribe(client, format!("{inbox}.*").into()).await?,
            client: client.clone(),
            subject: subject.clone(),
            inbox,
            own: PeerHello { sender, server: Some(info.server_id.clone()) },
            server: info.server_id,
            // The list, if there is one, names this server, too.
            other_servers: info.connect_urls.len().checked_sub(1).unwrap_or(usize::MAX),
            // Callers wait for no more than the connect timeout.
            answer_timeout: ANSWER_TIMEOUT.min(nats.config.connect_timeout / 2),
            peers: Arc::clone(&nats.peers),
            requests: received,
            rounds: 0,
            round: None,
        };
        Ok(Some((Self { subject, goodbye, requests }, task)))
    }

    /// Returns when what was queued before, subscriptions above all, has come to all servers with peers behind them; or
    /// when those peers have had time enough to answer.
    pub(crate) async fn pass(&self) {
        let (passed, is_passed) = oneshot::channel();
        if self.requests.send(passed).await.is_ok() {
            // Fails only if the connection has ended, which is noticed elsewhere.
            let _ = is_passed.await;
        }
    }
}

/// The task that asks and answers on one connection.
#[derive(Debug)]
pub(crate) struct BarrierTask {
    client: Client,
    subject: Subject,
    inbox: String,
    own: PeerHello,
    server: String,
    /// How many other servers there may be.
    other_servers: usize,
    answer_timeout: Duration,
    peers: Arc<Peers>,
    hellos: Subscriber,
    answers: Subscriber,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    rounds: u64,
    round: Option<BarrierRound>,
}

/// A question that waits for answers.
#[derive(Debug)]
struct BarrierRound {
    reply: Subject,
    /// Servers that know what we subscribed to before it.
    passed: HashSet<String>,
    /// How many there must be.
    least: usize,
    ask_again: Instant,
    deadline: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

impl BarrierTask {
    /// Runs until the connection ends.
    pub(crate) async fn run(mut self, state: Arc<ConnectionState>) {
        tokio::select! {
            () = state.ended() => {}
            _ = self.work() => {}
        }
    }

    /// Returns `None` when the client has ended.
    async fn work(&mut self) -> Option<()> {
        let mut announcements = interval_at(Instant::now() + ANNOUNCEMENT, ANNOUNCEMENT);
        announcements.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.discover().await?;
        loop {
            tokio::select! {
                hello = self.hellos.next() => self.heard(hello?).await,
                answer = self.answers.next() => self.answered(&answer?),
                () = due(self.round.as_ref()) => self.overdue().await?,
                request = self.requests.recv(), if self.round.is_none() => self.serve(request?).await?,
                _ = announcements.tick() => self.say_hello(self.subject.clone()).await?,
            }
            self.finish();
        }
    }

    /// The first question announces this transport. One that knows no peers listens for a while.
    async fn discover(&mut self) -> Option<()> {
        match self.peers.is_empty() {
            true => self.begin(self.other_servers, self.answer_timeout.min(DISCOVERY_TIMEOUT), Vec::new()),
            false => self.begin(0, self.answer_timeout, Vec::new()),
        }
        self.ask().await?;
        self.finish();
        Some(())
    }

    /// One question serves all callers that wait.
    async fn serve(&mut self, request: oneshot::Sender<()>) -> Option<()> {
        let mut waiting = vec![request];
        while waiting.len() < REQUESTS
            && let Ok(request) = self.requests.try_recv()
        {
            waiting.push(request);
        }
        self.begin(0, self.answer_timeout, waiting);
        if self.is_passed() { Some(()) } else { self.ask().await }
    }

    fn begin(&mut self, other_servers: usize, answer_timeout: Duration, waiting: Vec<oneshot::Sender<()>>) {
        self.rounds += 1;
        let now = Instant::now();
        self.round = Some(BarrierRound {
            reply: format!("{}.{}", self.inbox, self.rounds).into(),
            passed: HashSet::from([self.server.clone()]),
            least: other_servers.saturating_add(1),
            ask_again: now,
            deadline: now + answer_timeout,
            waiting,
        });
    }

    async fn ask(&mut self) -> Option<()> {
        let Some(round) = &mut self.round else { return Some(()) };
        round.ask_again = Instant::now() + ASK_AGAIN;
        let question = self.client.publish_with_reply(self.subject.clone(), round.reply.clone(), self.own.encode());
        question.await.ok()
    }

    async fn say_hello(&self, to: Subject) -> Option<()> {
        self.client.publish(to, self.own.encode()).await.ok()
    }

    /// A peer announces itself or leaves, and may ask.
    async fn heard(&mut self, message: Message) {
        let Some(hello) = PeerHello::decode(&message.payload) else { return };
        if hello.sender == self.own.sender {
            return;
        }
        let is_here = hello.server.is_some();
        // First of all, so that a peer that has our answer is waited for.
        self.peers.heard(hello);
        if is_here && let Some(reply) = message.reply {
            // Fails only if the client has ended.
            let _ = self.say_hello(reply).await;
        }
    }

    fn answered(&mut self, answer: &Message) {
        let Some(hello) = PeerHello::decode(&answer.payload) else { return };
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
        if Instant::now() < round.deadline {
            return self.ask().await;
        }
        let silent = self.peers.keep_only_behind(&round.passed);
        if silent > 0 {
            tracing::warn!(silent, "nodes behind other NATS servers do not answer: what they send next may be missed");
        }
        self.release_callers();
        Some(())
    }

    fn is_passed(&self) -> bool {
        self.round
            .as_ref()
            .is_some_and(|round| round.passed.len() >= round.least && self.peers.are_all_behind(&round.passed))
    }

    /// Ends the round when all servers have passed.
    fn finish(&mut self) {
        if self.is_passed() {
            self.release_callers();
        }
    }

    fn release_callers(&mut self) {
        for passed in self.round.take().into_iter().flat_map(|round| round.waiting) {
            // Fails only if the caller no longer waits.
            let _ = passed.send(());
        }
    }
}

async fn due(round: Option<&BarrierRound>) {
    match round {
        Some(round) => sleep_until(round.ask_again.min(round.deadline)).await,
        None => pending().await,
    }
}
