//! Names of peers and requests, which contain the index of their peer.

use std::fmt;

use trunkline_core::{NodeId, Offset, RequestId};

/// Maximum number of peers in a run: sets of them are bits of a number.
pub(crate) const MAX_PEERS: usize = 64;

/// A set of peers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) fn with(self, peer: usize) -> Self {
        Self(self.0 | 1 << peer)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn contains(self, peer: usize) -> bool {
        self.0 >> peer & 1 == 1
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_PEERS).filter(move |peer| self.contains(*peer))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(peers: I) -> Self {
        peers.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// Node id of a peer: `n07` has an engine, `f08` is foreign.
pub(crate) fn node(index: usize, foreign: bool) -> NodeId {
    NodeId::new(format!("{}{index:02}", if foreign { 'f' } else { 'n' })).unwrap()
}

/// Index of a peer; `None` for the emitter and for unknown ids.
pub(crate) fn index(node: &NodeId) -> Option<usize> {
    match node.as_str().as_bytes() {
        [b'n' | b'f', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(usize::from(tens - b'0') * 10 + usize::from(ones - b'0'))
        }
        _ => None,
    }
}

pub(crate) fn is_foreign(node: &NodeId) -> bool {
    node.as_str().starts_with('f')
}

pub(crate) fn request(node: usize, serial: u32) -> RequestId {
    RequestId::new(format!("r{node:02}-{serial}")).unwrap()
}

/// Identifies a published message. It travels as the offset, which engines pass on unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) channel: usize,
    /// Number among the messages of its sender on the channel.
    pub(crate) number: u64,
    /// Number among all messages of its sender.
    pub(crate) serial: u64,
}

impl Tag {
    pub(crate) fn offset(self) -> Offset {
        Offset::new(smol_str::format_smolstr!("{}-{}-{}", self.channel, self.number, self.serial)).unwrap()
    }

    pub(crate) fn read(offset: &Offset) -> Self {
        let mut parts = offset.as_str().split('-').map(|part| part.parse().unwrap());
        let mut next = || parts.next().unwrap();
        let channel = usize::try_from(next()).unwrap();
        Self { channel, number: next(), serial: next() }
    }
}
