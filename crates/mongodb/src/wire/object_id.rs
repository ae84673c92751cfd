//! Object ids for outgoing documents.

use mongodb::bson::oid::ObjectId;

/// Generates ascending object ids, because official adapters replay in the order of ids.
#[derive(Debug)]
pub(crate) struct ObjectIdGenerator {
    process: [u8; 5],
    second: u32,
    count: u32,
}

impl ObjectIdGenerator {
    pub(crate) fn new() -> Self {
        let random = ObjectId::new().bytes();
        // The driver's five bytes are those of the process; its counter, which starts at random, sets this generator
        // apart.
        let mut process = [0; 5];
        process.copy_from_slice(&random[4..9]);
        let salt = u32::from_be_bytes([0, random[9], random[10], random[11]]).to_be_bytes();
        process.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
        Self { process, second: 0, count: 0 }
    }

    /// A generator whose first id is larger than `other`, even within the same second or with a clock that is late.
    pub(crate) fn after(other: [u8; 12]) -> Self {
        let mut ids = Self::new();
        let second = u32::from_be_bytes([other[0], other[1], other[2], other[3]]);
        // A larger process in the same second, or else the next second.
        let is_larger = other[4] < u8::MAX;
        ids.process[0] = if is_larger { u8::MAX } else { ids.process[0] };
        ids.second = second.saturating_add(u32::from(!is_larger));
        ids
    }

    /// The next id, `now` milliseconds after 1970.
    pub(super) fn next_id(&mut self, now: u64) -> [u8; 12] {
        const COUNT_END: u32 = 1 << 24;
        let second = (now / 1000) as u32;
        if second > self.second {
            (self.second, self.count) = (second, 0);
        } else if self.count == COUNT_END {
            (self.second, self.count) = (self.second + 1, 0);
        }
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.second.to_be_bytes());
        id[4..9].copy_from_slice(&self.process);
        id[9..].copy_from_slice(&self.count.to_be_bytes()[1..]);
        self.count += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_after_another_is_larger_whatever_the_clock_says() {
        for process in [0, 100, 254, 255] {
            let other = [0x70, 0, 0, 0, process, 9, 9, 9, 9, 255, 255, 255];
            for now in [0, 0x7000_0000_u64 * 1000, 0x7000_0001_u64 * 1000] {
                assert!(ObjectIdGenerator::after(other).next_id(now) > other, "{process} {now}");
            }
        }
    }

    #[test]
    fn ids_ascend_even_if_the_clock_does_not() {
        let mut ids = ObjectIdGenerator { process: [1; 5], second: 0, count: 0 };
        let mut last = ids.next_id(5_000);
        for now in [5_001, 4_000, 6_000, 1_000] {
            let next = ids.next_id(now);
            assert!(next > last);
            last = next;
        }
        ids.count = 1 << 24;
        assert!(ids.next_id(6_000) > last);
    }
}
