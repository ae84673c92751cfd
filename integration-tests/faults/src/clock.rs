//! A clock of one process that can be set, with libfaketime. Only the time of day changes: timers go on as before.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Failure;

/// Where Debian's package `libfaketime` puts the library, on any machine.
const FOLDERS: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock that differs from the machine's by a number of seconds.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right at first.
    ///
    /// # Errors
    /// If the library is not installed.
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let library = library().ok_or("libfaketime is not installed: apt-get install libfaketime")?;
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock, by its difference from the machine's in seconds.
    pub(crate) fn set(&self, difference: i64) -> Result<(), Failure> {
        // Renamed, so that no process reads half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{difference:+}"))?;
        Ok(fs::rename(new, &self.file)?)
    }

    /// Environment of the process.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// Path of the library, if it is installed.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = fs::read_dir(FOLDERS).ok()?.flatten();
    folders.map(|folder| folder.path().join(LIBRARY)).find(|library| library.is_file())
}
