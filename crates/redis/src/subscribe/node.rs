//! The subscriptions that one server serves, and the task that restores the connection to it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use trunkline_backend::{Backoff, Direction};
use trunkline_core::{Error, ErrorKind, Result};

use super::{
    Done, Shared, Topic,
    connection::SubscriberConnection,
    router::{Event, NodeEvent},
};
use crate::connect::{Destination, FIRST_PAUSE, Former, Listening};

/// What the router asks for.
pub(super) enum NodeCommand {
    /// `is_interrupted`: it was active at another server, and the status knows that it moves.
    Subscribe {
        topic: Topic,
        number: u64,
        is_interrupted: bool,
    },
    Unsubscribe {
        topic: Topic,
        done: Option<Done>,
    },
}

/// Something that this server is asked for.
pub(super) struct Subscription {
    pub(super) number: u64,
    pub(super) is_active: bool,
    /// It was active once, and that messages may have been missed since has not been told.
    pub(super) is_interrupted: bool,
}

/// The task of one server.
pub(super) struct NodeSubscriber {
    destination: Destination,
    pub(super) shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    pub(super) commands: mpsc::UnboundedReceiver<NodeCommand>,
    pub(super) subscriptions: HashMap<Topic, Subscription>,
    /// As the status counts them: the connection while it is lost, and subscriptions that have moved here and are not
    /// active yet.
    outages: usize,
    is_lost: bool,
    former: Arc<Former>,
}

enum Connecting {
    Done(Box<SubscriberConnection>),
    Failed(Error),
    Closed,
}

impl NodeSubscriber {
    pub(super) fn new(
        destination: Destination,
        shared: Arc<Shared>,
        events: mpsc::UnboundedSender<Event>,
        commands: mpsc::UnboundedReceiver<NodeCommand>,
    ) -> Self {
        let (subscriptions, former) = Default::default();
        Self { destination, shared, events, commands, subscriptions, outages: 0, is_lost: false, former }
    }

    /// Runs until the router drops its end.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, self.shared.limits.max_backoff);
        while self.until_wanted().await {
            let ended = match self.connect().await {
                Connecting::Done(connection) => {
                    backoff.reset();
                    connection.run(&mut self).await
                }
                Connecting::Failed(error) => Some(error.to_string()),
                Connecting::Closed => None,
            };
            let Some(reason) = ended else { break };
            self.lose(&reason);
            if !self.pause(backoff.next_pause()).await {
                break;
            }
        }
        self.restore();
        self.set_listening(None);
    }

    /// Waits until something is subscribed to. False if the router drops its end before.
    async fn until_wanted(&mut self) -> bool {
        while self.subscriptions.is_empty() {
            self.restore();
            self.set_listening(None);
            match self.commands.recv().await {
                Some(command) => self.note(command),
                None => return false,
            }
        }
        true
    }

    async fn connect(&mut self) -> Connecting {
        let (servers, destination) = (Arc::clone(&self.shared.servers), self.destination.clone());
        let former = Arc::clone(&self.former);
        let renewals = servers.renewals();
        let connecting = async move { servers.open(&destination, "receive", Some(&former)).await };
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                opened = &mut connecting => return match opened {
                    Ok((address, socket)) => {
                        let next_role_check = self.shared.servers.next_role_check();
                        let connection = SubscriberConnection::new(address, socket, next_role_check, renewals);
                        Connecting::Done(Box::new(connection))
                    }
                    Err(error) => Connecting::Failed(error),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.note(command),
                    None => return Connecting::Closed,
                },
            }
            if self.subscriptions.is_empty() {
                return Connecting::Failed(Error::new(ErrorKind::Disconnected, "nothing is wanted from it any more"));
            }
        }
    }

    /// False if the router drops its end before. Ends early when nothing is wanted any more.
    async fn pause(&mut self, pause: Duration) -> bool {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        while !self.subscriptions.is_empty() {
            tokio::select! {
                () = &mut sleep => return true,
                command = self.commands.recv() => match command {
                    Some(command) => self.note(command),
                    None => return false,
                },
            }
        }
        true
    }

    /// Without a connection: what is wanted is subscribed to when there is one.
    fn note(&mut self, command: NodeCommand) {
        match command {
            NodeCommand::Subscribe { topic, number, is_interrupted } => self.add(topic, number, is_interrupted),
            NodeCommand::Unsubscribe { topic, done } => {
                self.subscriptions.remove(&topic);
                confirm(done);
            }
        }
    }

    pub(super) fn add(&mut self, topic: Topic, number: u64, is_interrupted: bool) {
        self.outages += usize::from(is_interrupted);
        self.subscriptions.insert(topic, Subscription { number, is_active: false, is_interrupted });
    }

    fn lose(&mut self, reason: &str) {
        let mut was_active = false;
        for subscription in self.subscriptions.values_mut().filter(|subscription| subscription.is_active) {
            (subscription.is_active, subscription.is_interrupted, was_active) = (false, true, true);
        }
        self.shared.note_trouble(Some(reason.to_owned()));
        self.shared.servers.forget(&self.destination);
        self.set_listening(Some(false));
        if was_active && !std::mem::replace(&mut self.is_lost, true) {
            self.outages += 1;
            self.shared.status.connection_lost(Direction::Inbound, reason, |reason| self.shared.handler.lost(reason));
            self.report(NodeEvent::Lost);
        } else {
            self.shared.status.connection_refused(reason);
        }
        tracing::debug!(destination = ?self.destination, %reason, "the receiving connection is down");
    }

    /// Everything that was interrupted is active again, or not wanted any more.
    pub(super) fn restore(&mut self) {
        self.shared.note_trouble(None);
        let missed: Vec<_> = self
            .subscriptions
            .iter_mut()
            .filter_map(|(topic, subscription)| std::mem::take(&mut subscription.is_interrupted).then(|| topic.clone()))
            .collect();
        if !missed.is_empty() {
            self.shared.handler.missed(&missed);
            self.await_peers(&missed);
        }
        let outages = std::mem::take(&mut self.outages);
        if std::mem::take(&mut self.is_lost) {
            self.shared.status.reconnected();
            self.report(NodeEvent::Restored);
        }
        self.shared.status.connections_restored(outages, || self.shared.handler.restored());
    }

    /// Peers that have lost the same server are back a moment earlier or later.
    fn await_peers(&self, missed: &[Topic]) {
        let Shared { servers, status, handler, tasks, .. } = &*self.shared;
        tasks.spawn(handler.await_peers(missed, Arc::clone(servers), status.hold(&self.destination)));
    }

    pub(super) fn set_listening(&self, is_listening: Option<bool>) {
        self.shared.status.set_listening(&self.destination, is_listening);
    }

    /// What publishers wait for.
    pub(super) fn listening(&self) -> Listening {
        self.shared.status.listening_at(&self.destination)
    }

    pub(super) fn report(&self, event: NodeEvent) {
        // Fails only when the transport is closed.
        let _ = self.events.send(Event::Node(self.destination.clone(), event));
    }

    // --- what the server says ---

    /// The topics in the order in which they were wanted, with their numbers and whether they were interrupted.
    pub(super) fn in_order(&self) -> Vec<(Topic, u64, bool)> {
        let wanted = |(topic, subscription): (&Topic, &Subscription)| {
            (topic.clone(), subscription.number, subscription.is_interrupted)
        };
        let mut topics: Vec<_> = self.subscriptions.iter().map(wanted).collect();
        topics.sort_unstable_by_key(|(_, number, _)| *number);
        topics
    }

    /// The server has confirmed a subscription.
    pub(super) fn activate(&mut self, topic: Topic, number: u64) {
        if let Some(subscription) = self.subscription(&topic, number) {
            subscription.is_active = true;
            self.report(NodeEvent::Subscribed(topic, number));
        }
    }

    /// The server has refused a subscription.
    pub(super) fn reject(&mut self, topic: Topic, number: u64, error: Error) {
        if self.subscription(&topic, number).is_some() {
            self.report(NodeEvent::Rejected(topic, number, error));
        }
    }

    /// The server does not serve a channel: it has refused the subscription.
    pub(super) fn redirect(&mut self, topic: Topic, number: u64) {
        if self.subscription(&topic, number).is_some() {
            self.moved(topic);
        }
    }

    /// The server does not serve a channel (any more).
    pub(super) fn moved(&mut self, topic: Topic) {
        let Some(Subscription { number, is_active, is_interrupted }) = self.subscriptions.remove(&topic) else {
            return;
        };
        let is_interrupted = is_active || is_interrupted;
        if is_interrupted {
            self.shared.status.subscription_moves();
        }
        self.report(NodeEvent::Moved { topic, number, is_interrupted });
    }

    /// `None` if this is not what is wanted now, but was wanted earlier.
    fn subscription(&mut self, topic: &Topic, number: u64) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(topic).filter(|subscription| subscription.number == number)
    }
}

/// Fails only if the caller has given up, or never waited.
pub(super) fn confirm(done: Option<Done>) {
    if let Some(done) = done {
        let _: Result<(), Result<()>> = done.send(Ok(()));
    }
}
