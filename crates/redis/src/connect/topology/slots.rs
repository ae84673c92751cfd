//! The slot map of a Redis Cluster: which node serves which keys and shard channels.

use redis::{FromRedisValue, Value};

use crate::config::Address;

/// How many slots there are.
const SLOTS: usize = 16_384;

/// The slot of a key or a shard channel: the CRC16 of its name, or of what stands between the first braces in it.
pub(crate) fn slot_of(name: &[u8]) -> u16 {
    crc16(hash_tag(name)) % SLOTS as u16
}

fn hash_tag(name: &[u8]) -> &[u8] {
    let tag = name.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        let close = rest.iter().position(|&byte| byte == b'}')?;
        Some(&rest[..close])
    });
    tag.filter(|tag| !tag.is_empty()).unwrap_or(name)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// The masters, by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// First and last slot, and the master that serves them; sorted.
    ranges: Vec<(u16, u16, Address)>,
}

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS` that `asked` gave: it may leave out its own host.
    pub(crate) fn parse(answer: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(rows) = answer else { return None };
        let mut ranges = rows.iter().map(|row| range(row, asked)).collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable_by_key(|(first, ..)| *first);
        Some(Self { ranges })
    }

    /// The master that serves a slot; `None` if none is known.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        let next = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, address) = self.ranges.get(next.checked_sub(1)?)?;
        (slot <= *last).then_some(address)
    }

    /// Gives a slot to a master.
    pub(crate) fn assign(&mut self, slot: u16, owner: Address) {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 2);
        for (first, last, address) in self.ranges.drain(..) {
            if !(first..=last).contains(&slot) {
                ranges.push((first, last, address));
                continue;
            }
            if first < slot {
                ranges.push((first, slot - 1, address.clone()));
            }
            if slot < last {
                ranges.push((slot + 1, last, address));
            }
        }
        ranges.push((slot, slot, owner));
        ranges.sort_unstable_by_key(|(first, ..)| *first);
        self.ranges = ranges;
    }

    /// All masters, each once.
    pub(crate) fn masters(&self) -> Vec<Address> {
        let mut masters: Vec<Address> = Vec::new();
        for (_, _, address) in &self.ranges {
            if !masters.contains(address) {
                masters.push(address.clone());
            }
        }
        masters
    }
}

/// `[first, last, [host, port, …], replicas…]`
fn range(row: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(row) = row else { return None };
    let (first, last) = (number(row.first()?)?, number(row.get(1)?)?);
    let Value::Array(master) = row.get(2)? else { return None };
    let host = String::from_redis_value_ref(master.first()?).ok().filter(|host| !host.is_empty() && host != "?");
    let port = number(master.get(1)?)?;
    Some((first, last, node(host, port, asked)?))
}

/// A node that leaves out its host has that of the node that was asked.
fn node(host: Option<String>, port: u16, asked: &Address) -> Option<Address> {
    match (host, asked) {
        (Some(host), _) => Some(Address::Tcp(host, port)),
        (None, Address::Tcp(host, _)) => Some(Address::Tcp(host.clone(), port)),
        (None, Address::Unix(_)) => None,
    }
}

/// Where a node of a cluster sends its callers: `MOVED 3999 127.0.0.1:6381`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirection {
    pub(super) slot: u16,
    pub(super) owner: Address,
}

impl Redirection {
    pub(super) fn parse(error: &[u8], asked: &Address) -> Option<Self> {
        let (slot, owner) = std::str::from_utf8(error).ok()?.strip_prefix("MOVED ")?.split_once(' ')?;
        let (host, port) = owner.rsplit_once(':')?;
        let host = Some(host.to_owned()).filter(|host| !host.is_empty() && host != "?");
        Some(Self { slot: slot.parse().ok()?, owner: node(host, port.parse().ok()?, asked)? })
    }
}

fn number(value: &Value) -> Option<u16> {
    u16::from_redis_value_ref(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` answers.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16_384);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }

    fn row(first: i64, last: i64, host: &str, port: i64) -> Value {
        let node =
            Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".to_vec())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn owners_are_found_by_slot() {
        let asked = Address::Tcp("seed".into(), 1);
        let answer = Value::Array(vec![row(100, 200, "b", 2), row(0, 50, "", 3), row(300, 300, "b", 2)]);
        let map = SlotMap::parse(&answer, &asked).unwrap();
        let b = Address::Tcp("b".into(), 2);
        for (slot, owner) in
            [(0, Some(Address::Tcp("seed".into(), 3))), (51, None), (100, Some(b.clone())), (201, None)]
        {
            assert_eq!(map.owner(slot), owner.as_ref(), "slot {slot}");
        }
        assert_eq!(map.owner(300), Some(&b));
        assert_eq!(map.masters().len(), 2);
        assert_eq!(SlotMap::parse(&Value::Nil, &asked), None);
    }

    #[test]
    fn a_slot_that_moved_has_another_owner_and_its_neighbours_keep_theirs() {
        let (a, b) = (Address::Tcp("a".into(), 1), Address::Tcp("b".into(), 2));
        let mut map = SlotMap { ranges: vec![(0, 9, a.clone()), (10, 19, b.clone())] };
        for (slot, owner) in [(5, &b), (0, &b), (19, &a), (30, &a)] {
            map.assign(slot, owner.clone());
        }
        for (slots, owner) in
            [(0..1, &b), (1..5, &a), (5..6, &b), (6..10, &a), (10..19, &b), (19..20, &a), (30..31, &a)]
        {
            slots.for_each(|slot| assert_eq!(map.owner(slot), Some(owner), "slot {slot}"));
        }
        assert_eq!(map.owner(20), None);
    }

    #[test]
    fn a_redirection_names_the_slot_and_its_new_owner() {
        let asked = Address::Tcp("seed".into(), 1);
        let parse = |error: &str| Redirection::parse(error.as_bytes(), &asked);
        let to = |host: &str| Some(Redirection { slot: 3999, owner: Address::Tcp(host.into(), 6381) });
        assert_eq!(parse("MOVED 3999 127.0.0.1:6381"), to("127.0.0.1"));
        assert_eq!(parse("MOVED 3999 ::1:6381"), to("::1"));
        assert_eq!(parse("MOVED 3999 :6381"), to("seed"));
        for other in ["ASK 3999 127.0.0.1:6381", "MOVED 3999", "MOVED x h:1", "MOVED 1 h:x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
