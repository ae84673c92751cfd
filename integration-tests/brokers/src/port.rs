//! Ports that stay ours from one start of a broker to the next.

use std::{
    fs::{self, File},
    net::TcpListener,
    ops::Range,
};

use crate::error::{Error, Result};

/// Below the range from which the kernel serves outgoing connections, so that none takes the port of a broker that is down for a moment.
const RANGE: Range<u16> = 20_000..32_000;

/// From a Redis of a cluster to the port on which it talks to the others, unless told otherwise; only Redis 7 and later can be.
const TO_BUS: u16 = 10_000;

/// A free loopback port, locked against every other test process of this machine until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked; the lock ends with the file or with the process.
    _lock: File,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        search(RANGE, Self::take)
    }

    /// A port, and the one at the distance at which servers of a Redis Cluster expect each other.
    pub(crate) fn reserve_with_bus() -> Result<(Self, Self)> {
        let both = |number| Ok(Self::take(number)?.zip(Self::take(number + TO_BUS)?));
        search(RANGE.start..RANGE.end - TO_BUS, both)
    }

    /// `None` if somebody else has it.
    fn take(number: u16) -> Result<Option<Self>> {
        let folder = std::env::temp_dir().join("trunkline-ports");
        fs::create_dir_all(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        let path = folder.join(number.to_string());
        let lock = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
        let is_free = lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok();
        Ok(is_free.then_some(Self { number, _lock: lock }))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// Tries random numbers until one will do.
fn search<T>(range: Range<u16>, take: impl Fn(u16) -> Result<Option<T>>) -> Result<T> {
    for _ in 0..1_000 {
        if let Some(found) = take(fastrand::u16(range.clone()))? {
            return Ok(found);
        }
    }
    Err(Error::NotReady {
        broker: "a free port".into(),
        reason: format!("none found in {range:?}"),
        log: String::new(),
    })
}
