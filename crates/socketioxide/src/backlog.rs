//! Packets that wait for sockets: because a socket's buffer is full, or because it is paused until it has what it
//! missed.
//!
//! socketioxide gives each socket a bounded buffer and drops what does not fit. A burst of broadcasts fills it before
//! the socket's task gets its turn, although the client could easily take more. So what does not fit waits here, in
//! order and within limits, and is sent as soon as the buffer has space. Almost always no socket has a backlog, and
//! then nothing here costs a lock.

mod socket;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socketioxide_core::{Sid, packet::Packet};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};
use trunkline_core::{AckSink, Offset};

pub(crate) use self::socket::HOLD;
use self::socket::{SocketBacklog, weight};

/// How much may wait for sockets whose buffers are full. Beyond it packets are dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogLimits {
    /// Packets per socket. Default 8,192.
    pub packets: usize,
    /// Bytes per socket. Default 8 MiB.
    pub bytes: usize,
    /// Bytes over all sockets of a namespace. Default 64 MiB.
    pub total_bytes: usize,
    /// How long deliveries may be held back for a socket whose backlog has reached half a limit, so that it can catch
    /// up. It earns the time anew by taking packets, 20 µs for each: one that takes 50,000 a second is waited for as
    /// long as need be, a slow one holds up the others this long and no longer. Zero turns it off. Default 200 ms.
    pub max_hold: Duration,
}

impl Default for BacklogLimits {
    fn default() -> Self {
        Self { packets: 8192, bytes: 8 << 20, total_bytes: 64 << 20, max_hold: Duration::from_millis(200) }
    }
}

/// What can wait for a socket.
#[derive(Clone, Debug)]
pub(crate) enum Queued {
    /// An event, and its offset in the history.
    Event(Packet, Option<Offset>),
    /// An event that the client acknowledges within a time.
    WithAck(Packet, Duration, AckSink),
    /// Disconnects the socket from the namespace.
    Disconnect,
}

/// Puts packets into sockets' buffers.
pub(crate) trait SocketSink {
    fn send(&self, socket: Sid, packet: &Queued) -> SendOutcome;
}

/// Whether a socket's buffer took a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    Sent,
    /// The buffer is full.
    Full,
    /// The socket is closed.
    Closed,
}

/// Outcome of offering a packet to a socket with or without a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    Sent,
    /// It waits in the backlog; whether the socket is so far behind that deliveries should be held back for a moment.
    Queued {
        hold_back: bool,
    },
    /// The backlog is full.
    Dropped,
    /// The socket has already got it by a replay.
    Duplicate,
    /// The socket is closed.
    Closed,
}

/// When to flush the backlogs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextFlush {
    /// As soon as other tasks have run.
    Soon,
    /// At this moment.
    At(Instant),
    /// When a packet has been queued or a socket resumed.
    OnChange,
}

impl NextFlush {
    fn or_sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::Soon, _) | (_, Self::Soon) => Self::Soon,
            (Self::At(one), Self::At(other)) => Self::At(one.min(other)),
            (Self::At(at), Self::OnChange) | (Self::OnChange, Self::At(at)) => Self::At(at),
            (Self::OnChange, Self::OnChange) => Self::OnChange,
        }
    }
}

/// The backlogs of the sockets of one namespace.
#[derive(Debug)]
pub(crate) struct Backlogs {
    limits: BacklogLimits,
    state: Mutex<State>,
    /// Number of sockets with a backlog, readable without the lock.
    count: AtomicUsize,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    sockets: HashMap<Sid, SocketBacklog>,
    bytes: usize,
}

impl Backlogs {
    pub(crate) fn new(limits: BacklogLimits) -> Self {
        Self { limits, state: Mutex::default(), count: AtomicUsize::new(0), changed: Notify::new() }
    }

    /// Sends a packet to a socket if its buffer takes it and nothing waits before it; else queues it.
    pub(crate) fn offer(&self, socket: Sid, packet: Queued, sink: &impl SocketSink) -> Offered {
        if !self.has(socket) {
            match sink.send(socket, &packet) {
                SendOutcome::Sent => return Offered::Sent,
                SendOutcome::Closed => return Offered::Closed,
                SendOutcome::Full => {}
            }
        }
        self.change(|state| state.offer(socket, packet, self.limits, sink))
    }

    /// Queues a packet that the socket's buffer could not take.
    pub(crate) fn queue(&self, socket: Sid, packet: Queued) -> Offered {
        self.change(|state| state.queue(socket, packet, self.limits))
    }

    /// Those of the sockets that have a backlog or are paused.
    pub(crate) fn among(&self, sockets: &[Sid]) -> Vec<Sid> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let state = self.lock();
        sockets.iter().filter(|socket| state.sockets.contains_key(socket)).copied().collect()
    }

    fn has(&self, socket: Sid) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().sockets.contains_key(&socket)
    }

    /// Number of packets that wait, over all sockets.
    pub(crate) fn len(&self) -> usize {
        self.lock().sockets.values().map(SocketBacklog::len).sum()
    }

    /// Number of sockets with a backlog, of packets that wait for them, and of bytes of these.
    pub(crate) fn totals(&self) -> (usize, usize, usize) {
        let state = self.lock();
        let waiting = state.sockets.values().map(SocketBacklog::len);
        (waiting.clone().filter(|packets| *packets > 0).count(), waiting.sum(), state.bytes)
    }

    // --- replay ---

    /// Queues everything for the socket from now on, until [`Backlogs::resume`] or `until`.
    pub(crate) fn pause(&self, socket: Sid, until: Instant) {
        self.change(|state| state.backlog(socket, self.limits).pause(until));
    }

    /// Ends [`Backlogs::pause`].
    pub(crate) fn resume(&self, socket: Sid) {
        self.change(|state| {
            if let Some(backlog) = state.sockets.get_mut(&socket) {
                backlog.resume();
            }
        });
    }

    /// Puts what the socket has missed before what waits, less what is in both. Returns `false` if something did not
    /// fit meanwhile: then the history must be read again.
    pub(crate) fn catch_up(&self, socket: Sid, missed: Vec<(Packet, Offset)>, forget_at: Instant) -> bool {
        self.change(|state| {
            let backlog = state.backlog(socket, self.limits);
            let before = backlog.bytes();
            let done = backlog.catch_up(missed, forget_at);
            let after = backlog.bytes();
            state.bytes = state.bytes + after - before;
            done
        })
    }

    /// Whether so much waits already that no more should be read for others.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().bytes >= self.limits.total_bytes
    }

    // --- flushing ---

    /// Sends what the buffers take, some packets from every backlog.
    pub(crate) fn flush(&self, now: Instant, sink: &impl SocketSink) -> NextFlush {
        let sockets: Vec<_> = self.lock().sockets.keys().copied().collect();
        let flush = |socket| self.update(|state| state.flush(socket, now, self.limits, sink));
        sockets.into_iter().map(flush).fold(NextFlush::OnChange, NextFlush::or_sooner)
    }

    /// Resolves when there may be something new to flush.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Changes what waits and wakes the task that flushes.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = self.update(change);
        self.changed.notify_one();
        result
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.count.store(state.sockets.len(), Ordering::Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn backlog(&mut self, socket: Sid, limits: BacklogLimits) -> &mut SocketBacklog {
        self.sockets.entry(socket).or_insert_with(|| SocketBacklog::new(limits))
    }

    /// As [`Backlogs::offer`], now that the backlog cannot change meanwhile.
    fn offer(&mut self, socket: Sid, packet: Queued, limits: BacklogLimits, sink: &impl SocketSink) -> Offered {
        if let Some(backlog) = self.sockets.get_mut(&socket) {
            if backlog.was_replayed(&packet) {
                return Offered::Duplicate;
            }
            if backlog.is_idle() {
                match sink.send(socket, &packet) {
                    SendOutcome::Sent => return Offered::Sent,
                    SendOutcome::Closed => return Offered::Closed,
                    SendOutcome::Full => {}
                }
            }
        }
        self.queue(socket, packet, limits)
    }

    fn queue(&mut self, socket: Sid, packet: Queued, limits: BacklogLimits) -> Offered {
        let weight = weight(&packet);
        let fits_in_total = self.bytes + weight <= limits.total_bytes;
        let offered = self.backlog(socket, limits).queue(packet, fits_in_total, limits);
        if offered != Offered::Dropped {
            self.bytes += weight;
        }
        offered
    }

    fn flush(&mut self, socket: Sid, now: Instant, limits: BacklogLimits, sink: &impl SocketSink) -> NextFlush {
        let Some(backlog) = self.sockets.get_mut(&socket) else { return NextFlush::OnChange };
        let before = backlog.bytes();
        let next = backlog.flush(socket, now, limits, sink);
        self.bytes -= before - backlog.bytes();
        if next == NextFlush::OnChange {
            self.sockets.remove(&socket);
        }
        next
    }
}
