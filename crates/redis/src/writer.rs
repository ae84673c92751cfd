//! Writing what is published.
//!
//! One task takes everything that is queued at once and writes it in one go; while the answers are on their way, the next batch forms. Only
//! what follows lone messages does not wait for their answers: where there is little to write, that would cost it a round trip. In a cluster
//! each node that is written to has a lane of its own, so that a node that is down holds up only what is for it. What was on its way when a
//! connection broke is written again: nobody can know whether it arrived, and our own nodes drop repeats by their numbers.

mod lane;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::sync::oneshot;
use trunkline_backend::{Backoff, Outbox};

use self::lane::{Lane, Sent};
use crate::{
    post::Post,
    resp::Reply,
    status::Status,
    topology::{Place, Servers},
};

/// What is written in one go at most, unless a single message is bigger.
const MAX_BATCH: usize = 1 << 20;

/// Learns what became of what was published.
pub(crate) trait Clerk: fmt::Debug + Send + Sync + 'static {
    /// Waits until more may be written; how many bytes.
    fn allowance(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>>;

    /// It was written. Returns the bytes that are free again in the outbox.
    fn written(&self, post: Post, reply: Reply) -> usize;

    /// The server does not take it, for a reason that time does not change. Returns the bytes that are free again in the outbox.
    fn refused(&self, post: Post, reason: &str) -> usize;
}

/// The writing end of a transport.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) outbox: Arc<Outbox<Post>>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) status: Arc<Status>,
    pub(crate) clerk: Arc<dyn Clerk>,
    pub(crate) max_backoff: Duration,
}

type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;

impl Writer {
    /// Runs until the outbox is closed and everything is written.
    pub(crate) async fn run(self) {
        let mut dispatch =
            Dispatch { writer: &self, lanes: HashMap::new(), sending: Vec::new(), busy: HashMap::new(), stale: false };
        let mut batch = Vec::new();
        let mut open = true;
        while open || !dispatch.sending.is_empty() {
            self.status.set_prompt(!dispatch.sending.is_empty() && !dispatch.is_busy());
            let takes = open && !dispatch.is_congested();
            tokio::select! {
                taken = self.take(&mut batch), if takes => match taken {
                    true => dispatch.route(batch.drain(..)),
                    false => open = false,
                },
                sent = next_sent(&mut dispatch.sending), if !dispatch.sending.is_empty() => dispatch.sent(sent),
            }
            dispatch.start().await;
        }
    }

    /// Takes what is queued. False once that is closed and empty.
    async fn take(&self, batch: &mut Vec<Post>) -> bool {
        let allowance = self.clerk.allowance().await;
        self.outbox.take(batch, MAX_BATCH.min(allowance)).await.is_some()
    }
}

/// Who writes what.
struct Dispatch<'a> {
    writer: &'a Writer,
    lanes: HashMap<Place, Waiting>,
    /// One per lane at most: so few that all are polled. (`FuturesUnordered` would wake this task once more each time.)
    sending: Vec<Sending>,
    /// In a cluster, the slots of what waits or is on its way: where, and how many messages. What follows them goes the same way, or it
    /// might overtake them when the slot moves.
    busy: HashMap<u16, (Place, usize)>,
    /// A node says that the map of the cluster has changed.
    stale: bool,
}

/// What waits for a lane, and the lane unless it is on its way.
struct Waiting {
    posts: VecDeque<Post>,
    lane: Option<Lane>,
    /// Takes a second batch, which may follow what is on its way.
    second: Option<oneshot::Sender<Vec<Post>>>,
    /// The last batch was a lone message, and nothing has failed since.
    calm: bool,
    failing: bool,
}

impl Dispatch<'_> {
    /// Nothing more is taken while it would only wait here: the batch grows where it is.
    fn is_congested(&self) -> bool {
        if !self.writer.servers.is_cluster() {
            return self.is_busy();
        }
        // What waits for a node that is down does not hold up the others; the outbox bounds it.
        let working = self.lanes.values().filter(|lane| !lane.failing);
        let waiting: usize = working.flat_map(|lane| &lane.posts).map(|post| post.bytes).sum();
        waiting >= MAX_BATCH
    }

    /// A lane takes nothing until it is answered.
    fn is_busy(&self) -> bool {
        self.lanes.values().any(|waiting| waiting.lane.is_none() && waiting.second.is_none())
    }

    fn route(&mut self, posts: impl Iterator<Item = Post>) {
        for post in posts {
            let place = post.slot.map_or(Place::Anywhere, |slot| self.place_of(slot));
            self.lane(place).posts.push_back(post);
        }
    }

    fn place_of(&mut self, slot: u16) -> Place {
        let servers = &self.writer.servers;
        if !servers.is_cluster() {
            return Place::Anywhere;
        }
        let (place, count) = self.busy.entry(slot).or_insert_with(|| (servers.place_of(slot), 0));
        *count += 1;
        place.clone()
    }

    fn lane(&mut self, place: Place) -> &mut Waiting {
        let max_backoff = self.writer.max_backoff;
        self.lanes.entry(place.clone()).or_insert_with(|| {
            let backoff = Backoff::new(FIRST_PAUSE, max_backoff);
            Waiting {
                posts: VecDeque::new(),
                lane: Some(Lane::new(place, backoff)),
                second: None,
                calm: false,
                failing: false,
            }
        })
    }

    /// Sets every lane to work that can take something and has something to do.
    async fn start(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.reroute().await;
        }
        for waiting in self.lanes.values_mut() {
            if waiting.posts.is_empty() {
                continue;
            }
            if let Some(lane) = waiting.lane.take() {
                let posts = waiting.take_batch();
                let is_lone = posts.len() == 1;
                let was_calm = std::mem::replace(&mut waiting.calm, is_lone);
                let (sender, second) = (was_calm && is_lone).then(oneshot::channel).unzip();
                waiting.second = sender;
                let (servers, status) = (Arc::clone(&self.writer.servers), Arc::clone(&self.writer.status));
                self.sending.push(Box::pin(lane.send(posts, second, servers, status)));
            } else if let Some(second) = waiting.second.take() {
                let posts = waiting.take_batch();
                waiting.calm = posts.len() == 1;
                if let Err(posts) = second.send(posts) {
                    waiting.put_back(posts);
                }
            }
        }
    }

    /// The map of the cluster has changed: everything that is not on its way gets its place anew.
    async fn reroute(&mut self) {
        if let Err(error) = self.writer.servers.refresh().await {
            tracing::debug!(%error, "the map of the cluster could not be read");
        }
        let posts: Vec<_> = self.lanes.values_mut().flat_map(|waiting| waiting.posts.drain(..)).collect();
        posts.iter().filter_map(|post| post.slot).for_each(|slot| self.landed(slot));
        self.route(posts.into_iter());
        self.lanes.retain(|_, waiting| waiting.lane.is_none() || !waiting.posts.is_empty());
        self.tell_connected();
    }

    /// A message is not on its way any more.
    fn landed(&mut self, slot: u16) {
        if let Some((_, count)) = self.busy.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(&slot);
            }
        }
    }

    fn sent(&mut self, sent: Sent) {
        let Sent { lane, outcomes, unsent, failure, moved } = sent;
        let place = lane.place().clone();
        outcomes.iter().filter_map(|(post, _)| post.slot).for_each(|slot| self.landed(slot));
        for (post, outcome) in outcomes {
            let bytes = match outcome {
                Ok(reply) => self.writer.clerk.written(post, reply),
                Err(reason) => self.writer.clerk.refused(post, &reason),
            };
            self.writer.outbox.release(bytes);
        }
        self.stale |= moved;
        let waiting = self.lane(place);
        waiting.put_back(unsent);
        waiting.second = None;
        waiting.failing = failure.is_some();
        waiting.calm &= !waiting.failing;
        waiting.lane = Some(lane);
        if let Some(error) = failure {
            tracing::debug!(%error, "writing failed");
        }
        self.tell_connected();
    }

    fn tell_connected(&self) {
        let connected = self.lanes.values().all(|waiting| !waiting.failing);
        self.writer.outbox.set_connected(connected);
        self.writer.status.set_writing(connected);
    }
}

/// Waits for the first batch that is through. *Cancel safe.*
async fn next_sent(sending: &mut Vec<Sending>) -> Sent {
    poll_fn(|context| {
        let through = sending.iter_mut().enumerate().find_map(|(index, batch)| match batch.as_mut().poll(context) {
            Poll::Ready(sent) => Some((index, sent)),
            Poll::Pending => None,
        });
        through.map_or(Poll::Pending, |(index, sent)| {
            drop(sending.swap_remove(index));
            Poll::Ready(sent)
        })
    })
    .await
}

impl Waiting {
    fn take_batch(&mut self) -> Vec<Post> {
        let mut bytes = 0;
        let count = self.posts.iter().take_while(|post| {
            let fits = bytes == 0 || bytes + post.bytes <= MAX_BATCH;
            bytes += post.bytes;
            fits
        });
        let count = count.count();
        self.posts.drain(..count).collect()
    }

    fn put_back(&mut self, posts: Vec<Post>) {
        posts.into_iter().rev().for_each(|post| self.posts.push_front(post));
    }
}

/// The first pause before connecting again.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
