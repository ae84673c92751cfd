//! One task for the writer of a transport and its pub/sub connections.
//!
//! The answer to a publication and the publication itself come back at the same time, over two connections. Were these read by two tasks,
//! the runtime would wake a second thread to share the work of a few microseconds with, on a processor that somebody else has use for.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::sync::mpsc;

use crate::task::{Task, Work};

/// Takes on work, which it does in its task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Crew {
    jobs: mpsc::UnboundedSender<Work>,
    task: Arc<Task>,
}

impl Crew {
    pub(crate) fn new() -> Self {
        let (jobs, coming) = mpsc::unbounded_channel();
        let turn = Turn { coming, jobs: Vec::new(), task: Arc::default() };
        Self { jobs, task: Arc::new(Task::spawn(turn)) }
    }

    /// Does the work beside the other until it ends.
    pub(crate) fn take_on(&self, work: impl Future<Output = ()> + Send + 'static) -> Task {
        let (task, work) = Task::new(work);
        // Fails only when the crew has been dismissed: the work ends with it.
        let _ = self.jobs.send(work);
        task
    }

    /// Ends all work. Returns when it has ended.
    pub(crate) async fn dismiss(&self) {
        self.task.stop().await;
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").finish_non_exhaustive()
    }
}

/// What the task does: a part of each job that was woken. (`FuturesUnordered` would wake the task once more each time.)
struct Turn {
    coming: mpsc::UnboundedReceiver<Work>,
    jobs: Vec<Job>,
    task: Arc<AtomicWaker>,
}

struct Job {
    work: Work,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the task for one job.
struct Bell {
    has_rung: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Release);
        self.task.wake();
    }
}

impl Job {
    fn new(work: Work, task: Arc<AtomicWaker>) -> Self {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task });
        Self { work, waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// True once it has ended.
    fn go_on(&mut self) -> bool {
        let has_rung = self.bell.has_rung.swap(false, AcqRel);
        has_rung && self.work.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let turn = &mut *self;
        turn.task.register(context.waker());
        while let Poll::Ready(Some(work)) = turn.coming.poll_recv(context) {
            turn.jobs.push(Job::new(work, Arc::clone(&turn.task)));
        }
        turn.jobs.retain_mut(|job| !job.go_on());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use tokio::{runtime::Handle, sync::oneshot, task::yield_now, time::timeout};

    use super::*;

    /// Counts how often a job is polled, and lends its waker.
    #[derive(Default)]
    struct Probe {
        polls: AtomicUsize,
        waker: AtomicWaker,
    }

    impl Probe {
        fn work(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
            let probe = Arc::clone(self);
            poll_fn(move |context| {
                probe.polls.fetch_add(1, SeqCst);
                probe.waker.register(context.waker());
                Poll::Pending
            })
        }

        fn polls(&self) -> usize {
            self.polls.load(SeqCst)
        }
    }

    async fn soon(ended: impl Future<Output = ()>) {
        timeout(Duration::from_secs(10), ended).await.expect("it does not end");
    }

    #[tokio::test]
    async fn jobs_share_a_task_and_only_the_one_that_was_woken_goes_on() {
        let (crew, [first, second]) = (Crew::new(), [Arc::<Probe>::default(), Arc::default()]);
        let _jobs = [crew.take_on(first.work()), crew.take_on(second.work())];
        yield_now().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
        assert_eq!((first.polls(), second.polls()), (1, 1));
        second.waker.wake();
        yield_now().await;
        assert_eq!((first.polls(), second.polls()), (1, 2));
        first.waker.wake();
        second.waker.wake();
        yield_now().await;
        assert_eq!((first.polls(), second.polls()), (2, 3));
    }

    #[tokio::test]
    async fn a_job_ends_by_itself_or_is_ended_and_the_others_stay() {
        let (crew, stays) = (Crew::new(), Arc::<Probe>::default());
        let _stays = crew.take_on(stays.work());
        let (go, may_go) = oneshot::channel::<()>();
        let ends = crew.take_on(async { may_go.await.unwrap() });
        yield_now().await;
        go.send(()).unwrap();
        soon(ends.ended()).await;

        let [stopped, dropped] = [Arc::<Probe>::default(), Arc::default()];
        let (stopping, dropping) = (crew.take_on(stopped.work()), crew.take_on(dropped.work()));
        yield_now().await;
        soon(stopping.stop()).await;
        assert_eq!(Arc::strong_count(&stopped), 1);
        drop(dropping);
        yield_now().await;
        assert_eq!(Arc::strong_count(&dropped), 1);

        assert_eq!(Arc::strong_count(&stays), 2);
        stays.waker.wake();
        yield_now().await;
        assert_eq!(stays.polls(), 2);
    }

    #[tokio::test]
    async fn a_job_that_wakes_itself_goes_on() {
        let crew = Crew::new();
        let job = crew.take_on(async {
            for _ in 0..1_000 {
                yield_now().await;
            }
        });
        soon(job.ended()).await;
    }

    #[tokio::test]
    async fn a_crew_that_was_dismissed_leaves_nothing_behind() {
        let (crew, [early, late]) = (Crew::new(), [Arc::<Probe>::default(), Arc::default()]);
        let job = crew.take_on(early.work());
        yield_now().await;
        soon(crew.dismiss()).await;
        assert_eq!(Arc::strong_count(&early), 1);
        soon(job.ended()).await;
        soon(crew.take_on(late.work()).ended()).await;
        assert_eq!((late.polls(), Arc::strong_count(&late)), (0, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost() {
        const EACH: usize = 20_000;
        let crew = Crew::new();
        let jobs: Vec<_> = (0..3)
            .map(|_| {
                let (sender, mut received) = mpsc::channel(1);
                tokio::spawn(async move {
                    for number in 0..EACH {
                        sender.send(number).await.unwrap();
                    }
                });
                crew.take_on(async move {
                    for number in 0..EACH {
                        assert_eq!(received.recv().await, Some(number));
                    }
                })
            })
            .collect();
        for job in &jobs {
            soon(job.ended()).await;
        }
    }
}
