//! Packets that wait for a socket: because its buffer is full, or because it is being brought up to date first.
//!
//! socketioxide gives each socket a bounded buffer and drops what does not fit. A burst of broadcasts fills it before the socket's task gets
//! its turn, although the client could easily take more. So what does not fit waits here, in order and within limits, and is handed on as
//! soon as there is room. Almost always there is no lane at all, and then nothing here costs a lock.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socketioxide_core::{
    Sid, Value,
    packet::{Packet, PacketData},
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};
use trunkline_core::{AckSink, Offset};

/// How much may wait for sockets whose buffers are full. Beyond it packets are dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogLimits {
    /// Packets per socket. Default 8,192.
    pub packets: usize,
    /// Bytes per socket. Default 8 MiB.
    pub bytes: usize,
    /// Bytes over all sockets of a namespace. Default 64 MiB.
    pub total_bytes: usize,
    /// How long deliveries may be held back for a socket that is half its limit behind, so that it can catch up. It earns the time anew by
    /// taking packets, 20 µs for each: one that takes 50,000 a second is waited for as long as need be, a slow one holds up the others this
    /// long and no longer. Zero turns it off. Default 200 ms.
    pub patience: Duration,
}

impl Default for BacklogLimits {
    fn default() -> Self {
        Self { packets: 8192, bytes: 8 << 20, total_bytes: 64 << 20, patience: Duration::from_millis(200) }
    }
}

/// What can wait for a socket.
#[derive(Clone, Debug)]
pub(crate) enum Waiting {
    /// An event, and where it lies in the history.
    Event(Packet, Option<Offset>),
    /// An event that the client acknowledges within a time.
    Acked(Packet, Duration, AckSink),
    /// The end of the socket's membership of the namespace.
    Disconnect,
}

/// Hands packets to sockets.
pub(crate) trait Outlet {
    fn send(&self, socket: Sid, waiting: &Waiting) -> Sent;
}

/// What became of a packet at the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// The buffer is full.
    Full,
    /// The socket is closed.
    Gone,
}

/// What became of a packet for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Sent,
    /// It waits; whether the socket is so far behind that deliveries should be held back for a moment.
    Waits {
        hold_back: bool,
    },
    /// There was no room left.
    Dropped,
    /// It was among those that the socket was brought up to date with.
    Repeated,
    Gone,
}

/// When to hand on waiting packets again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// As soon as others had their turn.
    Soon,
    /// At this moment.
    At(Instant),
    /// When there is something new.
    Never,
}

impl Next {
    fn or_sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::Soon, _) | (_, Self::Soon) => Self::Soon,
            (Self::At(one), Self::At(other)) => Self::At(one.min(other)),
            (Self::At(at), Self::Never) | (Self::Never, Self::At(at)) => Self::At(at),
            (Self::Never, Self::Never) => Self::Never,
        }
    }
}

/// The lanes of one namespace.
#[derive(Debug)]
pub(crate) struct Lanes {
    limits: BacklogLimits,
    state: Mutex<State>,
    /// How many there are.
    open: AtomicUsize,
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    lanes: HashMap<Sid, Lane>,
    bytes: usize,
}

#[derive(Debug)]
struct Lane {
    queue: VecDeque<Waiting>,
    bytes: usize,
    /// How often in a row the socket could take nothing, and when to try again.
    refusals: u32,
    retry_at: Option<Instant>,
    /// Nothing is handed on before this moment: the socket is being brought up to date.
    held_until: Option<Instant>,
    /// A packet did not fit while the lane was held.
    overflowed: bool,
    /// What the socket was brought up to date with. This node may receive some of it later, having been behind the history.
    replayed: HashSet<Offset>,
    forget_replayed: Option<Instant>,
    /// For how long deliveries may still be held back on behalf of this socket.
    patience: Duration,
}

impl Lanes {
    pub(crate) fn new(limits: BacklogLimits) -> Self {
        Self { limits, state: Mutex::default(), open: AtomicUsize::new(0), work: Notify::new() }
    }

    /// Gives a packet to a socket: at once if it can take it and nothing waits before it.
    pub(crate) fn give(&self, socket: Sid, waiting: Waiting, outlet: &impl Outlet) -> Given {
        if !self.is_open(socket) {
            match outlet.send(socket, &waiting) {
                Sent::Yes => return Given::Sent,
                Sent::Gone => return Given::Gone,
                Sent::Full => {}
            }
        }
        self.change(|state| state.give(socket, waiting, self.limits, outlet))
    }

    /// Lets a packet wait that the socket could not take.
    pub(crate) fn queue(&self, socket: Sid, waiting: Waiting) -> Given {
        self.change(|state| state.queue(socket, waiting, self.limits))
    }

    /// Which of the sockets have something waiting, or are held.
    pub(crate) fn among(&self, sockets: &[Sid]) -> Vec<Sid> {
        if self.open.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let state = self.lock();
        sockets.iter().filter(|socket| state.lanes.contains_key(socket)).copied().collect()
    }

    fn is_open(&self, socket: Sid) -> bool {
        self.open.load(Ordering::Acquire) > 0 && self.lock().lanes.contains_key(&socket)
    }

    /// Packets that wait, over all sockets.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().lanes.values().map(|lane| lane.queue.len()).sum()
    }

    // --- bringing a socket up to date ---

    /// From now on everything for the socket waits, but not beyond `until`.
    pub(crate) fn hold(&self, socket: Sid, until: Instant) {
        self.change(|state| {
            let lane = state.lane(socket, self.limits);
            if lane.held_until.replace(until).is_none() {
                lane.overflowed = false;
            }
        });
    }

    /// What waits may go on.
    pub(crate) fn release(&self, socket: Sid) {
        self.change(|state| {
            if let Some(lane) = state.lanes.get_mut(&socket) {
                lane.held_until = None;
            }
        });
    }

    /// Puts what the socket has missed before what waits, less what is in both. Returns `false` if something did not fit meanwhile: then the
    /// history must be asked again.
    pub(crate) fn catch_up(&self, socket: Sid, missed: Vec<(Packet, Offset)>, forget_at: Instant) -> bool {
        self.change(|state| {
            let lane = state.lane(socket, self.limits);
            let before = lane.bytes;
            let done = lane.catch_up(missed, forget_at);
            let after = lane.bytes;
            state.bytes = state.bytes + after - before;
            done
        })
    }

    /// Whether so much waits already that no more should be read for others.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().bytes >= self.limits.total_bytes
    }

    // --- handing on ---

    /// Hands on what can be, some from every lane.
    pub(crate) fn flush(&self, now: Instant, outlet: &impl Outlet) -> Next {
        let sockets: Vec<_> = self.lock().lanes.keys().copied().collect();
        let flush = |socket| self.update(|state| state.flush(socket, now, self.limits, outlet));
        sockets.into_iter().map(flush).fold(Next::Never, Next::or_sooner)
    }

    /// Resolves when there may be something new to hand on.
    pub(crate) fn work(&self) -> Notified<'_> {
        self.work.notified()
    }

    /// Changes what waits; whoever hands it on looks again.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = self.update(change);
        self.work.notify_one();
        result
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.open.store(state.lanes.len(), Ordering::Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, socket: Sid, limits: BacklogLimits) -> &mut Lane {
        self.lanes.entry(socket).or_insert_with(|| Lane {
            queue: VecDeque::new(),
            bytes: 0,
            refusals: 0,
            retry_at: None,
            held_until: None,
            overflowed: false,
            replayed: HashSet::new(),
            forget_replayed: None,
            patience: limits.patience,
        })
    }

    /// As [`Lanes::give`], now that nobody else changes the lane.
    fn give(&mut self, socket: Sid, waiting: Waiting, limits: BacklogLimits, outlet: &impl Outlet) -> Given {
        if let Some(lane) = self.lanes.get_mut(&socket) {
            if is_among(&lane.replayed, &waiting) {
                return Given::Repeated;
            }
            if lane.queue.is_empty() && lane.held_until.is_none() {
                match outlet.send(socket, &waiting) {
                    Sent::Yes => return Given::Sent,
                    Sent::Gone => return Given::Gone,
                    Sent::Full => {}
                }
            }
        }
        self.queue(socket, waiting, limits)
    }

    fn queue(&mut self, socket: Sid, waiting: Waiting, limits: BacklogLimits) -> Given {
        let weight = weight(&waiting);
        let has_total_room = self.bytes + weight <= limits.total_bytes;
        let lane = self.lane(socket, limits);
        let has_room = has_total_room && lane.queue.len() < limits.packets && lane.bytes + weight <= limits.bytes;
        if !has_room {
            lane.overflowed = true;
            return Given::Dropped;
        }
        lane.queue.push_back(waiting);
        lane.bytes += weight;
        let hold_back = lane.asks_for_patience(limits);
        self.bytes += weight;
        Given::Waits { hold_back }
    }

    fn flush(&mut self, socket: Sid, now: Instant, limits: BacklogLimits, outlet: &impl Outlet) -> Next {
        let Some(lane) = self.lanes.get_mut(&socket) else { return Next::Never };
        lane.expire(now);
        let before = lane.bytes;
        if lane.held_until.is_none() && lane.retry_at.is_none() {
            lane.send(socket, now, limits, outlet);
        }
        self.bytes -= before - lane.bytes;
        let next = lane.next();
        if next == Next::Never {
            self.lanes.remove(&socket);
        }
        next
    }
}

impl Lane {
    fn catch_up(&mut self, missed: Vec<(Packet, Offset)>, forget_at: Instant) -> bool {
        let done = !std::mem::take(&mut self.overflowed);
        let mut waiting = std::mem::take(&mut self.queue);
        if done {
            self.replayed.extend(missed.iter().map(|(_, offset)| offset.clone()));
            self.forget_replayed = Some(forget_at);
            self.queue.extend(missed.into_iter().map(|(packet, offset)| Waiting::Event(packet, Some(offset))));
            waiting.retain(|waiting| !is_among(&self.replayed, waiting));
        } else {
            // The history has these, and what did not fit after them.
            waiting.retain(|waiting| !matches!(waiting, Waiting::Event(_, Some(_))));
        }
        self.queue.append(&mut waiting);
        self.bytes = self.queue.iter().map(weight).sum();
        done
    }

    /// Whether the socket is far behind and still worth waiting for; charges it for the wait.
    fn asks_for_patience(&mut self, limits: BacklogLimits) -> bool {
        let far_behind = self.queue.len() > limits.packets / 2 || self.bytes > limits.bytes / 2;
        let asks = far_behind && self.held_until.is_none() && self.patience >= PAUSE;
        if asks {
            self.patience -= PAUSE;
        }
        asks
    }

    fn send(&mut self, socket: Sid, now: Instant, limits: BacklogLimits, outlet: &impl Outlet) {
        for _ in 0..CHUNK {
            let Some(waiting) = self.queue.front() else { return };
            match outlet.send(socket, waiting) {
                Sent::Yes => self.sent(limits),
                Sent::Full => return self.refused(now),
                Sent::Gone => {
                    self.queue.clear();
                    self.bytes = 0;
                }
            }
        }
    }

    fn sent(&mut self, limits: BacklogLimits) {
        self.bytes -= self.queue.pop_front().as_ref().map_or(0, weight);
        self.patience = (self.patience + EARNED).min(limits.patience);
        self.refusals = 0;
    }

    /// Tries again soon a few times, then less and less often: nobody tells when the buffer has room.
    fn refused(&mut self, now: Instant) {
        self.refusals += 1;
        if let Some(doublings) = self.refusals.checked_sub(QUICK_RETRIES) {
            self.retry_at = Some(now + PAUSE * (1 << doublings.min(4)));
        }
    }

    fn expire(&mut self, now: Instant) {
        let has_come = |at: &mut Instant| *at <= now;
        self.held_until.take_if(has_come);
        self.retry_at.take_if(has_come);
        if self.forget_replayed.take_if(has_come).is_some() {
            self.replayed.clear();
        }
    }

    fn next(&self) -> Next {
        match (self.queue.is_empty(), self.held_until, self.retry_at) {
            (_, Some(at), _) | (false, None, Some(at)) => Next::At(at),
            (false, None, None) => Next::Soon,
            (true, None, _) => self.forget_replayed.map_or(Next::Never, Next::At),
        }
    }
}

fn is_among(replayed: &HashSet<Offset>, waiting: &Waiting) -> bool {
    matches!(waiting, Waiting::Event(_, Some(offset)) if replayed.contains(offset))
}

fn weight(waiting: &Waiting) -> usize {
    const FIXED: usize = 128;
    let packet = match waiting {
        Waiting::Event(packet, _) | Waiting::Acked(packet, ..) => packet,
        Waiting::Disconnect => return FIXED,
    };
    FIXED
        + match &packet.inner {
            PacketData::Event(value, _) | PacketData::BinaryEvent(value, _) => match value {
                Value::Str(text, binary) => text.len() + binary.iter().flatten().map(bytes::Bytes::len).sum::<usize>(),
                Value::Bytes(bytes) => bytes.len(),
            },
            _ => 0,
        }
}

/// Packets handed to one socket before the next one has its turn.
const CHUNK: usize = 64;

/// How long deliveries are held back at a time.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);

/// How much patience a socket earns by taking a packet.
const EARNED: Duration = Duration::from_micros(20);

/// Attempts at a full buffer that cost no waiting.
const QUICK_RETRIES: u32 = 4;
