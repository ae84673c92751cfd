//! The backlog of one socket.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use socketioxide_core::{
    Sid, Value,
    packet::{Packet, PacketData},
};
use tokio::time::Instant;
use trunkline_core::Offset;

use super::{BacklogLimits, NextFlush, Offered, Queued, SendOutcome, SocketSink};

/// The packets that wait for one socket.
#[derive(Debug)]
pub(super) struct SocketBacklog {
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Attempts in a row at which the socket's buffer was full, and when to try again.
    full_in_a_row: u32,
    retry_at: Option<Instant>,
    /// Nothing is sent before this moment: the socket is to get what it missed first.
    paused_until: Option<Instant>,
    /// A packet did not fit while the socket was paused.
    overflowed: bool,
    /// What the socket has got by a replay. This node may receive some of it later, having been behind the history.
    replayed: HashSet<Offset>,
    forget_replayed_at: Option<Instant>,
    /// For how long deliveries may still be held back on behalf of this socket.
    hold_left: Duration,
}

impl SocketBacklog {
    pub(super) fn new(limits: BacklogLimits) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            full_in_a_row: 0,
            retry_at: None,
            paused_until: None,
            overflowed: false,
            replayed: HashSet::new(),
            forget_replayed_at: None,
            hold_left: limits.max_hold,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits, so that a packet may be sent past the queue.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.paused_until.is_none()
    }

    pub(super) fn queue(&mut self, packet: Queued, fits_in_total: bool, limits: BacklogLimits) -> Offered {
        let weight = weight(&packet);
        if !fits_in_total || self.queue.len() >= limits.packets || self.bytes + weight > limits.bytes {
            self.overflowed = true;
            return Offered::Dropped;
        }
        self.queue.push_back(packet);
        self.bytes += weight;
        Offered::Queued { hold_back: self.spend_hold(limits) }
    }

    /// Whether the socket is far behind and still worth holding deliveries back; charges it for the time.
    fn spend_hold(&mut self, limits: BacklogLimits) -> bool {
        let is_far_behind = self.queue.len() > limits.packets / 2 || self.bytes > limits.bytes / 2;
        let holds = is_far_behind && self.paused_until.is_none() && self.hold_left >= HOLD;
        if holds {
            self.hold_left -= HOLD;
        }
        holds
    }

    // --- replay ---

    pub(super) fn pause(&mut self, until: Instant) {
        if self.paused_until.replace(until).is_none() {
            self.overflowed = false;
        }
    }

    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// As [`Backlogs::catch_up`](super::Backlogs::catch_up).
    pub(super) fn catch_up(&mut self, missed: Vec<(Packet, Offset)>, forget_at: Instant) -> bool {
        let done = !std::mem::take(&mut self.overflowed);
        let mut waiting = std::mem::take(&mut self.queue);
        if done {
            self.replayed.extend(missed.iter().map(|(_, offset)| offset.clone()));
            self.forget_replayed_at = Some(forget_at);
            self.queue.extend(missed.into_iter().map(|(packet, offset)| Queued::Event(packet, Some(offset))));
            waiting.retain(|packet| !self.was_replayed(packet));
        } else {
            // The history has these, and what did not fit after them.
            waiting.retain(|packet| !matches!(packet, Queued::Event(_, Some(_))));
        }
        self.queue.append(&mut waiting);
        self.bytes = self.queue.iter().map(weight).sum();
        done
    }

    pub(super) fn was_replayed(&self, packet: &Queued) -> bool {
        matches!(packet, Queued::Event(_, Some(offset)) if self.replayed.contains(offset))
    }

    // --- flushing ---

    pub(super) fn flush(
        &mut self,
        socket: Sid,
        now: Instant,
        limits: BacklogLimits,
        sink: &impl SocketSink,
    ) -> NextFlush {
        self.expire(now);
        if self.paused_until.is_none() && self.retry_at.is_none() {
            self.send(socket, now, limits, sink);
        }
        self.next_flush()
    }

    fn expire(&mut self, now: Instant) {
        let has_come = |at: &mut Instant| *at <= now;
        self.paused_until.take_if(has_come);
        self.retry_at.take_if(has_come);
        if self.forget_replayed_at.take_if(has_come).is_some() {
            self.replayed.clear();
        }
    }

    fn send(&mut self, socket: Sid, now: Instant, limits: BacklogLimits, sink: &impl SocketSink) {
        for _ in 0..PACKETS_PER_TURN {
            let Some(packet) = self.queue.front() else { return };
            match sink.send(socket, packet) {
                SendOutcome::Sent => self.sent(limits),
                SendOutcome::Full => return self.refused(now),
                SendOutcome::Closed => {
                    self.queue.clear();
                    self.bytes = 0;
                }
            }
        }
    }

    fn sent(&mut self, limits: BacklogLimits) {
        self.bytes -= self.queue.pop_front().as_ref().map_or(0, weight);
        self.hold_left = (self.hold_left + HOLD_EARNED).min(limits.max_hold);
        self.full_in_a_row = 0;
    }

    /// Tries again soon a few times, then less and less often: socketioxide does not tell when a buffer has space.
    fn refused(&mut self, now: Instant) {
        self.full_in_a_row += 1;
        if let Some(doublings) = self.full_in_a_row.checked_sub(QUICK_RETRIES) {
            self.retry_at = Some(now + HOLD * (1 << doublings.min(4)));
        }
    }

    fn next_flush(&self) -> NextFlush {
        match (self.queue.is_empty(), self.paused_until, self.retry_at) {
            (_, Some(at), _) | (false, None, Some(at)) => NextFlush::At(at),
            (false, None, None) => NextFlush::Soon,
            (true, None, _) => self.forget_replayed_at.map_or(NextFlush::OnChange, NextFlush::At),
        }
    }
}

/// Bytes that a waiting packet is counted with.
pub(super) fn weight(packet: &Queued) -> usize {
    const FIXED: usize = 128;
    let packet = match packet {
        Queued::Event(packet, _) | Queued::WithAck(packet, ..) => packet,
        Queued::Disconnect => return FIXED,
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

/// How long deliveries are held back at a time.
pub(crate) const HOLD: Duration = Duration::from_millis(1);

/// The time by which a socket may hold deliveries back again for each packet that it takes.
const HOLD_EARNED: Duration = Duration::from_micros(20);

/// Packets sent to one socket before the next one has its turn.
const PACKETS_PER_TURN: usize = 64;

/// Attempts at a full buffer that cost no waiting.
pub(super) const QUICK_RETRIES: u32 = 4;
