//! The bounded history of a hub.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::HistoryLimits;
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Message, Namespace, Offset, Room, Target},
    payload::Payload,
    transport::MissedBroadcast,
};

/// Keeps the latest broadcasts of all namespaces, up to a number and a size.
#[derive(Debug)]
pub(super) struct Ring {
    /// Random id of this ring, in its offsets: those of an earlier process are told apart by it.
    epoch: u32,
    limits: HistoryLimits,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Number of the first entry.
    first: u64,
}

#[derive(Debug)]
struct Entry {
    namespace: Namespace,
    target: Target,
    payload: Payload,
    kept: Instant,
}

impl Ring {
    pub(super) fn new(limits: HistoryLimits) -> Self {
        Self { epoch: fastrand::u32(..), limits, entries: VecDeque::new(), bytes: 0, first: 1 }
    }

    /// Keeps a plain, non-volatile broadcast. Returns its offset.
    pub(super) fn keep(&mut self, namespace: &Namespace, message: &Message) -> Option<Offset> {
        let Message::Broadcast { request: None, target, payload } = message else { return None };
        if target.flags.is_volatile() {
            return None;
        }
        self.bytes += payload.len();
        let (namespace, target, payload) = (namespace.clone(), target.clone(), payload.clone());
        self.entries.push_back(Entry { namespace, target, payload, kept: Instant::now() });
        let offset = self.offset(self.first + self.entries.len() as u64 - 1);
        self.trim();
        Some(offset)
    }

    /// Broadcasts after `since` for members of `rooms`.
    pub(super) fn replay(&self, namespace: &Namespace, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let since = self.number(since)?;
        let next = self.first + self.entries.len() as u64;
        if since >= next || since + 1 < self.first {
            let context = format!("offset {} is not in the history any more", self.offset(since));
            return Err(Error::new(ErrorKind::HistoryLost, context));
        }
        let skipped = usize::try_from(since + 1 - self.first).unwrap_or(usize::MAX);
        let numbered = self.entries.iter().enumerate().skip(skipped);
        Ok(numbered
            .filter(|(_, entry)| entry.namespace == *namespace && entry.target.matches(rooms))
            .map(|(index, entry)| MissedBroadcast {
                payload: entry.payload.clone(),
                offset: self.offset(self.first + index as u64),
            })
            .collect())
    }

    /// Age of the oldest broadcast.
    pub(super) fn reach(&self) -> Option<Duration> {
        self.entries.front().map(|entry| entry.kept.elapsed())
    }

    fn trim(&mut self) {
        while self.entries.len() > self.limits.messages || self.bytes > self.limits.bytes {
            let Some(entry) = self.entries.pop_front() else { return };
            self.bytes -= entry.payload.len();
            self.first += 1;
        }
    }

    /// # Errors
    /// `Malformed` for what is no offset.
    pub(super) fn check(&self, offset: &Offset) -> Result<()> {
        match self.number(offset) {
            Err(error) if error.kind() == ErrorKind::Malformed => Err(error),
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn offset(&self, number: u64) -> Offset {
        let text = format!("{:08x}-{number}", self.epoch);
        Offset::new(text).expect("an offset has at most 29 characters")
    }

    fn number(&self, offset: &Offset) -> Result<u64> {
        let malformed = || Error::malformed(format!("{offset:?} is no offset of this history"));
        let (epoch, number) = offset.as_str().split_once('-').ok_or_else(malformed)?;
        let epoch = u32::from_str_radix(epoch, 16).map_err(|_| malformed())?;
        let number = number.parse().map_err(|_| malformed())?;
        if epoch != self.epoch {
            let context = format!("offset {offset} belongs to a history that is gone");
            return Err(Error::new(ErrorKind::HistoryLost, context));
        }
        Ok(number)
    }
}
