//! What processes have used: processor time and memory.

use std::{collections::HashMap, fs, time::Duration};

/// What a process and all its descendants have used so far. Descendants that have ended and were waited for are included.
pub(crate) fn used(root: u32) -> Duration {
    let processes = processes();
    let mut total = 0;
    let mut family = vec![root];
    while let Some(pid) = family.pop() {
        let Some(process) = processes.get(&pid) else { continue };
        total += process.ticks;
        family.extend(processes.iter().filter(|(_, child)| child.parent == pid).map(|(pid, _)| *pid));
    }
    Duration::from_millis(total * 1000 / TICKS_PER_SECOND)
}

/// What the threads of a process that run now have used so far, exact to the nanosecond.
pub(crate) fn used_by_threads(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let used = threads.filter_map(|thread| {
        // The first field of `schedstat` (proc(5)) is the time on a processor in nanoseconds.
        let statistics = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        statistics.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}

/// Most physical memory that a process ever had, in MiB.
pub(crate) fn peak_memory(pid: u32) -> f64 {
    memory(pid, "VmHWM:")
}

/// Physical memory of a process now, in MiB.
pub(crate) fn resident_memory(pid: u32) -> f64 {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
    kibibytes.map_or(0.0, |kibibytes: f64| kibibytes / 1024.0)
}

struct Process {
    parent: u32,
    ticks: u64,
}

fn processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, Process::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
        })
        .collect()
}

impl Process {
    /// Reads `/proc/PID/stat` (proc_pid_stat(5)): the parent is field 4, utime, stime, cutime and cstime are fields 14 to 17. The name,
    /// field 2, stands in parentheses and may contain anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

/// `USER_HZ`, which is 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;
