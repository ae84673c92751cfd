//! Ports that stay ours from one start of a broker to the next.

use std::{
    fs::{self, File},
    net::TcpListener,
};

use crate::error::{Error, Result};

/// Below the range from which the kernel serves outgoing connections, so that none takes the port of a broker that is down for a moment.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A free loopback port, locked against every other test process of this machine until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked; the lock ends with the file or with the process.
    _lock: File,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        let folder = std::env::temp_dir().join("trunkline-ports");
        fs::create_dir_all(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        for _ in 0..1_000 {
            let number = fastrand::u16(RANGE);
            let path = folder.join(number.to_string());
            let lock = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::NotReady {
            broker: "a free port".into(),
            reason: format!("none found in {RANGE:?}"),
            log: String::new(),
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
