//! A guard process that kills a broker when the test process ends, however it ends.

use std::{
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::error::{Error, Result};

/// Each line is the id of the process to kill in the end, an empty line means none. The pipe closes with the test
/// process, even after kill -9. The guard ignores the signals of a terminal: it must outlive the test process that is
/// interrupted there.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pid=
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
rm -rf "$1"
"#;

/// A shell that watches over one broker process and its folder.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "trunkline-guard"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("start /bin/sh"))?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Sets the process to kill in the end.
    pub(crate) fn watch(&mut self, pid: Option<u32>) -> Result<()> {
        let line = pid.map(|pid| pid.to_string()).unwrap_or_default();
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        writeln!(pipe, "{line}").map_err(Error::io("tell the guard of a broker"))
    }

    /// Kills the process, removes the folder, and returns when that is done.
    pub(crate) fn end(&mut self) {
        self.pipe = None;
        // It can only fail if the shell was waited for elsewhere, and then has ended.
        let _ = self.shell.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}
