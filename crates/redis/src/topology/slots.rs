//! Which node of a Redis Cluster serves what.

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
    /// First and last slot, and who serves them; sorted.
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

    /// Who serves a slot; `None` if nobody is known to.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        let next = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, address) = self.ranges.get(next.checked_sub(1)?)?;
        (slot <= *last).then_some(address)
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
    let address = match (host, asked) {
        (Some(host), _) => Address::Tcp(host, port),
        (None, Address::Tcp(host, _)) => Address::Tcp(host.clone(), port),
        (None, Address::Unix(_)) => return None,
    };
    Some((first, last, address))
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
}
