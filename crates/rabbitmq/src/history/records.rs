//! Sessions and claims, as they lie in the stream.
//!
//! A record is a message of a batch with the routing key of sessions: a letter, 8 bytes, the length of the session's id
//! in 2 bytes, the id, and the rest. Integers are big-endian. `S` keeps a session: the 8 bytes tell when it expires
//! (milliseconds since 1970), the rest is the session. `C` claims one: the 8 bytes are random. Of the claims that
//! follow a session the first one has it. A claim with an empty id claims nothing; it only marks a position.

use bytes::{Buf, BufMut, Bytes};
use trunkline_backend::batch::{Batch, BatchBuilder, ConnectionId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Session { id: Bytes, expires: u64, session: Bytes },
    Claim { id: Bytes, claimant: u64 },
}

impl Record {
    pub(crate) fn session(id: &str, expires: u64, session: Vec<u8>) -> Self {
        Self::Session { id: Bytes::copy_from_slice(id.as_bytes()), expires, session: session.into() }
    }

    pub(crate) fn claim(id: &str, claimant: u64) -> Self {
        Self::Claim { id: Bytes::copy_from_slice(id.as_bytes()), claimant }
    }

    /// A batch of its own, not numbered: claims are told apart by themselves, and a session may be stored twice.
    pub(crate) fn batch(&self, sender: ConnectionId) -> Bytes {
        let (letter, number, id, rest) = match self {
            Self::Session { id, expires, session } => (b'S', *expires, id, session.as_ref()),
            Self::Claim { id, claimant } => (b'C', *claimant, id, &[][..]),
        };
        let mut bytes = vec![letter];
        bytes.put_u64(number);
        bytes.put_u16(id.len().try_into().unwrap_or(u16::MAX));
        bytes.put_slice(id);
        bytes.put_slice(rest);
        let mut batch = BatchBuilder::new(sender, 0, bytes.len());
        batch.push(&bytes);
        batch.finish()
    }

    /// The records of a batch. What cannot be understood is left out.
    pub(crate) fn all(batch: Batch) -> impl Iterator<Item = Self> {
        batch.flatten().filter_map(Self::read)
    }

    fn read(mut bytes: Bytes) -> Option<Self> {
        let letter = bytes.try_get_u8().ok()?;
        let number = bytes.try_get_u64().ok()?;
        let length = usize::from(bytes.try_get_u16().ok()?);
        if length > bytes.len() {
            return None;
        }
        let id = bytes.split_to(length);
        match letter {
            b'S' => Some(Self::Session { id, expires: number, session: bytes }),
            b'C' => Some(Self::Claim { id, claimant: number }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_cut_one_does_not() {
        let session = Record::session("secret", 7, vec![1, 2, 3]);
        let batch = session.batch(ConnectionId::random());
        let expected = b"\0\0\0\x14S\0\0\0\0\0\0\0\x07\0\x06secret\x01\x02\x03";
        assert_eq!(batch[17..], expected[..]);
        for record in [session, Record::claim("secret", 9), Record::claim("", 0)] {
            let batch = Batch::parse(record.batch(ConnectionId::random())).unwrap();
            assert_eq!(Record::all(batch).collect::<Vec<_>>(), [record]);
        }
        for end in 21..batch.len() - 3 {
            let mut builder = BatchBuilder::new(ConnectionId::random(), 0, 0);
            builder.push(&batch[21..end]);
            assert_eq!(Record::all(Batch::parse(builder.finish()).unwrap()).count(), 0, "cut at {end}");
        }
    }
}
