//! Ports that stay reserved between two starts of a broker.

use std::{
    fs::{self, File},
    net::TcpListener,
    ops::Range,
};

use crate::error::{Error, Result};

/// Range below the kernel's ephemeral ports, so that no outgoing connection takes the port of a broker that is down for
/// a moment.
const RANGE: Range<u16> = 20_000..32_000;

/// Distance from a Redis Cluster node's port to its cluster bus port. Only Redis 7 and later can be configured
/// otherwise.
const TO_BUS: u16 = 10_000;

/// A free loopback port, locked against all other test processes of this machine until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// The lock ends with the file or with the process.
    _lock: File,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        search(RANGE, Self::take)
    }

    /// Reserves a port, and the one at the distance of a cluster bus port.
    pub(crate) fn reserve_with_bus() -> Result<(Self, Self)> {
        let both = |number| Ok(Self::take(number)?.zip(Self::take(number + TO_BUS)?));
        search(RANGE.start..RANGE.end - TO_BUS, both)
    }

    /// Reserves this port, `None` if it is in use.
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

/// Tries random port numbers until one is free.
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
