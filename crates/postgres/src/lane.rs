//! The messages of one channel, in the order of their arrival, on their way to the nodes of this process.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use bytes::Bytes;
use trunkline_core::{
    Message, NodeId, Offset, Result,
    codec::{self, Header, Kind},
    model::Delivery,
};

use crate::{
    item::Pointer,
    seats::{Row, Taken},
};

/// Remembered senders. Beyond it all are forgotten, and a repeat might pass.
const MAX_SENDERS: usize = 4096;

/// One channel. A message whose row is still being fetched holds up what came after it.
#[derive(Debug)]
pub(crate) struct Lane {
    number: u64,
    row: Row,
    /// Whether own broadcasts are delivered here when they come back.
    has_history: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Joins among them: nobody knows yet which rooms will be wanted behind them.
    waiting_joins: usize,
    /// What the nodes get next, per node.
    ready: Vec<Vec<Delivery>>,
    /// The number of every node's last answer.
    answers: HashMap<NodeId, u64>,
    hears_foreigners: bool,
}

#[derive(Debug)]
enum Waiting {
    Message {
        arrived: Arrived,
        is_join: bool,
    },
    /// Of a row that is being fetched.
    Row {
        offset: Option<i64>,
        is_join: bool,
    },
    Tell(Delivery),
}

/// An encoded message.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: Bytes,
    /// Where it is stored.
    pub(crate) offset: Option<i64>,
}

/// A row to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    Attachment(i64),
    /// Kept for longer than an attachment.
    Stored(i64),
}

impl Lane {
    /// `number` tells it from an earlier one of the same channel.
    pub(crate) fn new(number: u64, row: Row, has_history: bool) -> Self {
        Self {
            number,
            ready: vec![Vec::new(); row.len()],
            row,
            has_history,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_joins: 0,
            answers: HashMap::new(),
            hears_foreigners: false,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The nodes have changed. Call when everything is flushed.
    pub(crate) fn reseat(&mut self, row: &Row) {
        self.ready.resize(row.len(), Vec::new());
        self.row = row.clone();
    }

    /// Takes a message in.
    pub(crate) fn message(&mut self, arrived: Arrived) {
        if self.waiting.is_empty() {
            return self.pass(&arrived);
        }
        let is_join = codec::peek(&arrived.bytes).is_none_or(|header| header.kind == Kind::Join);
        self.wait(Waiting::Message { arrived, is_join });
    }

    /// Takes in something that every node is told in its place.
    pub(crate) fn tell(&mut self, delivery: Delivery) {
        if self.waiting.is_empty() {
            return self.pass_on(&delivery);
        }
        self.wait(Waiting::Tell(delivery));
    }

    /// Takes the notification of a row in. Returns what to fetch, if somebody here wants it.
    pub(crate) fn pointer(&mut self, id: i64, pointer: &Pointer) -> Option<Fetch> {
        let offset = pointer.offset();
        if self.row.iter().any(|taken| self.may_have_members(taken, pointer)) {
            self.wait(Waiting::Row { offset, is_join: pointer.kind() == Some(Kind::Join) });
            return Some(offset.filter(|_| self.has_history).map_or(Fetch::Attachment(id), Fetch::Stored));
        }
        if let Some(from) = pointer.from() {
            self.tell(Delivery::Skipped { from, seq_no: pointer.assign() });
        }
        None
    }

    fn wants(&self, taken: &Taken, pointer: &Pointer) -> bool {
        if pointer.from().as_ref() == Some(&taken.node.id) {
            return self.has_history && pointer.kind() == Some(Kind::Broadcast);
        }
        pointer.room().is_none_or(|room| self.waiting_joins > 0 || taken.wants(room))
    }

    /// The row that was waited for first is here; `None` if it does not exist.
    pub(crate) fn fetched(&mut self, bytes: Option<Bytes>) {
        let Some(Waiting::Row { offset, .. }) = self.next(|_| true) else { return };
        match bytes {
            Some(bytes) => self.pass(&Arrived { bytes, offset }),
            // If it was numbered, a hole is noticed with the next message of its sender.
            None => self.row.iter().for_each(|taken| taken.metrics.malformed.increment()),
        }
        while let Some(waiting) = self.next(|waiting| !matches!(waiting, Waiting::Row { .. })) {
            match waiting {
                Waiting::Message { arrived, .. } => self.pass(&arrived),
                Waiting::Tell(delivery) => self.pass_on(&delivery),
                // Left where it is until it is fetched.
                Waiting::Row { .. } => {}
            }
        }
    }

    /// Bytes that wait for a row.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether somebody here publishes what is not stored: an official node or emitter.
    pub(crate) fn hears_foreigners(&self) -> bool {
        self.hears_foreigners
    }

    /// Hands over what is ready.
    pub(crate) fn flush(&mut self) {
        for (taken, ready) in self.row.iter().zip(&mut self.ready) {
            if !ready.is_empty() {
                taken.inbox.push(ready.drain(..));
            }
        }
    }

    fn wait(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.weight();
        self.waiting_joins += usize::from(waiting.is_join());
        self.waiting.push_back(waiting);
    }

    fn next(&mut self, is_next: impl FnOnce(&mut Waiting) -> bool) -> Option<Waiting> {
        let waiting = self.waiting.pop_front_if(is_next)?;
        self.waiting_bytes -= waiting.weight();
        self.waiting_joins -= usize::from(waiting.is_join());
        Some(waiting)
    }

    fn pass_on(&mut self, delivery: &Delivery) {
        for (taken, ready) in self.row.iter().zip(&mut self.ready) {
            match delivery {
                Delivery::Skipped { from, .. } if *from == taken.node.id => taken.metrics.own_echoes.increment(),
                delivery => ready.push(delivery.clone()),
            }
        }
    }

    /// Lets every node take the message in.
    fn pass(&mut self, arrived: &Arrived) {
        let Arrived { bytes, offset } = arrived;
        let must_peek = offset.is_none() && (self.has_history || may_be_ephemeral(bytes));
        let header = if must_peek { codec::peek(bytes) } else { None };
        if header.as_ref().is_some_and(|header| self.is_repeat(header)) {
            return;
        }
        let from = header.as_ref().and_then(|header| header.from.as_ref());
        for (taken, ready) in self.row.iter().zip(&mut self.ready) {
            // An own broadcast that is not stored, being volatile, is delivered in its place all the same.
            let is_own = self.has_history && from == Some(&taken.node.id);
            let delivery = match offset.or(is_own.then_some(0)).map(text_of) {
                Some(Ok(text)) if taken.expects(*offset) => taken.decoder.take_stored(bytes, text),
                Some(_) => None,
                None => taken.decoder.decode(bytes),
            };
            let Some(delivery) = delivery else { continue };
            self.hears_foreigners |= is_foreign(&delivery);
            let is_join = matches!(delivery, Delivery::Message { message: Message::Join { .. }, .. });
            ready.push(delivery);
            if is_join {
                // The inbox knows that rooms are about to be wanted.
                taken.inbox.push(ready.drain(..));
            }
        }
    }

    /// Whether an answer was here before, and was sent again after a connection broke. The engine knows repeated messages by itself.
    fn is_repeat(&mut self, header: &Header) -> bool {
        let Header { kind, from: Some(from), seq_no: Some(seq_no), .. } = header else { return false };
        if !matches!(kind, Kind::Sockets | Kind::ServerSideEmitAnswer | Kind::ClientCount | Kind::Ack) {
            return false;
        }
        if let Some(last) = self.answers.get_mut(from) {
            let before = mem::replace(last, seq_no.number.max(*last));
            return seq_no.number <= before;
        }
        if self.answers.len() >= MAX_SENDERS {
            self.answers.clear();
        }
        self.answers.insert(from.clone(), seq_no.number);
        false
    }
}

impl Waiting {
    fn weight(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Self::Message { arrived, .. } => FIXED + arrived.bytes.len(),
            Self::Row { .. } => 0,
            Self::Tell(_) => FIXED,
        }
    }

    fn is_join(&self) -> bool {
        matches!(self, Self::Message { is_join: true, .. } | Self::Row { is_join: true, .. })
    }
}

fn text_of(offset: i64) -> Result<Offset> {
    Offset::new(offset.to_string())
}

/// Whether it is worth looking for a number among the ephemeral ones: in JSON it stands at the end, and rows are few.
fn may_be_ephemeral(bytes: &Bytes) -> bool {
    const WINDOW: usize = 36;
    let end = &bytes[bytes.len().saturating_sub(WINDOW)..];
    bytes.first() != Some(&b'{') || end.windows(STAMP.len()).any(|window| window == STAMP)
}

/// How [`EPHEMERAL`](crate::item::EPHEMERAL) numbers begin.
const STAMP: &[u8] = b"\"stamp\":[1,";

/// Whether who sent it stores nothing. Our own nodes number everything but signs of life, in which they tell how far they are.
fn is_foreign(delivery: &Delivery) -> bool {
    match delivery {
        Delivery::Message { message: Message::Heartbeat(heartbeat), .. } => heartbeat.high_water_marks.is_empty(),
        Delivery::Message { message: Message::Leaving, .. } => false,
        Delivery::Message { from: Some(_), seq_no: None, .. } | Delivery::Skipped { seq_no: None, .. } => true,
        _ => false,
    }
}
