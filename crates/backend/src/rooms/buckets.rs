//! Rooms hashed into buckets.
//!
//! A broker must never hold one subscription per room: tearing down tens of thousands of them at once has frozen
//! brokers. So a room hashes into one of a few hundred *buckets*, and a node subscribes to a bucket while any of its
//! rooms has a local member.

use crate::rooms::RoomKeys;
use trunkline_core::{
    error::{Error, ErrorKind, Result},
    model::{Room, SeqChannel},
};

/// How rooms are spread over buckets. All nodes of a cluster must use the same number; heartbeats carry it, so that a
/// difference is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets(u16);

impl Buckets {
    /// The default number.
    pub const DEFAULT: Self = Self(256);

    /// The largest number: more would be what buckets are meant to avoid, and more channels than the engine keeps track
    /// of.
    pub const MAX: u16 = 1023;

    /// So many buckets.
    ///
    /// # Errors
    /// `Config` unless there are 1 to [`Buckets::MAX`].
    pub fn new(count: u16) -> Result<Self> {
        if (1..=Self::MAX).contains(&count) {
            return Ok(Self(count));
        }
        Err(Error::new(ErrorKind::Config, format!("{count} room buckets; allowed are 1 to {}", Self::MAX)))
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u16 {
        self.0
    }

    /// The bucket of a room: the 32-bit FNV-1a hash of its UTF-8 text, modulo the number of buckets.
    ///
    /// A room that is a whole number is hashed as its decimal text. Other numbers have no bucket: languages print them
    /// differently, so what is sent to them goes to all nodes.
    #[must_use]
    pub fn of(self, room: &Room) -> Option<Bucket> {
        let hash = match room {
            Room::Text(name) => fnv1a(name.as_bytes()),
            Room::Number(number) => fnv1a(number.as_integer()?.to_string().as_bytes()),
        };
        u16::try_from(hash % u32::from(self.0)).ok().map(Bucket)
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Bucket> + use<> {
        (0..self.0).map(Bucket)
    }
}

impl RoomKeys for Buckets {
    type Key = Bucket;

    fn key_of(&self, room: &Room) -> Option<Bucket> {
        self.of(room)
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Small, stable and the same in every language, which the hashes of the standard library are not.
fn fnv1a(bytes: &[u8]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

/// One of the [`Buckets`], counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The channel on which its messages are numbered: those after [`SeqChannel::ALL`].
    #[must_use]
    pub fn channel(self) -> SeqChannel {
        SeqChannel(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_as_documented() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn whole_numbers_share_the_bucket_of_their_text_and_other_numbers_have_none() {
        let buckets = Buckets::DEFAULT;
        assert_eq!(buckets.of(&Room::from(42)), buckets.of(&Room::from("42")));
        assert_eq!(buckets.of(&Room::number(1.5).unwrap()), None);
        assert_eq!(buckets.of(&Room::number(1e300).unwrap()), None);
    }

    #[test]
    fn rooms_spread_evenly() {
        let buckets = Buckets::DEFAULT;
        let mut counts = vec![0_u32; 256];
        for number in 0..50_000 {
            counts[buckets.of(&Room::new(format!("room:{number}"))).unwrap().number() as usize] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 100 && *most < 300, "from {least} to {most}, 195 on average");
    }

    #[test]
    fn a_number_of_buckets_out_of_range_is_refused() {
        assert!(Buckets::new(0).unwrap_err().to_string().contains("1 to 1023"));
        assert!(Buckets::new(1024).is_err());
        assert_eq!(Buckets::new(1).unwrap().of(&"any".into()), Some(Bucket(0)));
    }
}
