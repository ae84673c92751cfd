//! Time limits of what happens all the time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Limits one thing after another. The timer behind it is set again when it has run down, not for each of them: that would take a system
/// call every time.
#[derive(Debug, Default)]
pub(crate) struct Watch(Option<Pin<Box<Sleep>>>);

impl Watch {
    /// # Errors
    /// `TimedOut` after `limit`.
    pub(crate) async fn within<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut work = pin!(work);
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
            let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            while timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")));
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    async fn silence(watch: &mut Watch, seconds: u64) -> Duration {
        let began = Instant::now();
        let error = watch.within(Duration::from_secs(seconds), pending::<io::Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_thing_has_its_whole_time_and_not_more() {
        let mut watch = Watch::default();
        for seconds in [5, 1, 5] {
            // The timer is on its way when the next limit begins.
            let quick = async {
                sleep(Duration::from_secs(3)).await;
                Ok(seconds)
            };
            assert_eq!(watch.within(Duration::from_secs(4), quick).await.unwrap(), seconds);
            let waited = silence(&mut watch, seconds).await;
            assert!((seconds..=seconds + 1).contains(&waited.as_secs()), "{waited:?} of {seconds} s");
        }
    }
}
