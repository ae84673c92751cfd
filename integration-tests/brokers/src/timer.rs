//! A timer that is precise to some 50 µs on Linux. Tokio's timers are precise to the millisecond, which is longer than the delays of the
//! links that benchmarks measure with.

pub(crate) use precise::PreciseTimer;

#[cfg(target_os = "linux")]
mod precise {
    use std::io::{self, ErrorKind};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::{net::unix::pipe::Receiver, time::Instant};

    /// A timer of the kernel. Tokio has no type for it; a pipe is read and awaited in the same way.
    pub(crate) struct PreciseTimer(Receiver);

    impl PreciseTimer {
        pub(crate) fn new() -> io::Result<Self> {
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            Receiver::from_owned_fd_unchecked(timer).map(Self)
        }

        /// Returns at `due`. Cancel safe; each call replaces what the one before has set.
        pub(crate) async fn until(&self, due: Instant) -> io::Result<()> {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
            let once = Itimerspec { it_interval: Timespec::default(), it_value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            loop {
                self.0.readable().await?;
                match self.0.try_read(&mut [0; size_of::<u64>()]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    expired => return expired.map(drop),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod precise {
    use std::io;

    use tokio::time::{Instant, sleep_until};

    /// A timer of Tokio.
    pub(crate) struct PreciseTimer;

    impl PreciseTimer {
        #[allow(clippy::unnecessary_wraps)]
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Returns at `due`.
        pub(crate) async fn until(&self, due: Instant) -> io::Result<()> {
            sleep_until(due).await;
            Ok(())
        }
    }
}
