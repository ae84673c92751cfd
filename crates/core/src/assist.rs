//! Doing a task's work where it is handed in.
//!
//! A transport's writer is a task of its own, so that many messages leave in one batch. A lone message need not wait until that task gets
//! its turn: whoever queues it polls the writer once, on the spot, and the bytes are with the kernel before anything else happens. That
//! saves the detour over the scheduler, and the wake-up of another thread that may come with it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::runtime::{Handle, Id};

/// Makes `work`, which is to be spawned as a task, something that others can lend a hand with.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> trunkline_core::Result<()> {
/// use std::sync::Arc;
/// use trunkline_core::{assist::assisted, outbox::Outbox};
///
/// let outbox = Arc::new(Outbox::new(Default::default()));
/// let written = Arc::new(std::sync::Mutex::new(Vec::new()));
/// let (queue, file) = (Arc::clone(&outbox), Arc::clone(&written));
/// let (writer, assistant) = assisted(async move {
///     let mut batch = Vec::new();
///     while queue.take(&mut batch, usize::MAX).await.is_some() {
///         file.lock().unwrap().append(&mut batch);
///     }
/// });
/// tokio::spawn(writer);
/// tokio::task::yield_now().await; // It has begun.
///
/// assistant.hand_in(outbox.push(1, |_| "a message")).await?;
/// assert_eq!(*written.lock().unwrap(), ["a message"]);
/// # Ok(()) }
/// ```
pub fn assisted(work: impl Future<Output = ()> + Send + 'static) -> (Assisted, Assistant) {
    let desk = Arc::new(Desk {
        state: Mutex::new(State { work: Some(Box::pin(work)), runtime: None }),
        task: AtomicWaker::new(),
        is_helped: AtomicBool::new(false),
        is_woken: AtomicBool::new(false),
    });
    (Assisted(Arc::clone(&desk)), Assistant(desk))
}

/// The task. Dropped, its work is dropped with it.
#[derive(Debug)]
pub struct Assisted(Arc<Desk>);

/// Hands work in and lends a hand with it.
#[derive(Clone, Debug)]
pub struct Assistant(Arc<Desk>);

impl Assistant {
    /// Polls `handing_in`, then does what can be done of the task's work at once, here and now, instead of waking the task.
    ///
    /// Where that is not possible, because the task is at it just now, has not begun, has ended, or belongs to another runtime, it is as
    /// if `handing_in` were awaited by itself. *Cancel safety*: that of `handing_in`.
    pub async fn hand_in<T>(&self, handing_in: impl Future<Output = T>) -> T {
        let mut handing_in = pin!(handing_in);
        poll_fn(|context| {
            let turn = Turn::begin(&self.0);
            let handed_in = handing_in.as_mut().poll(context);
            if let Some(turn) = turn {
                turn.work();
            }
            handed_in
        })
        .await
    }
}

impl Future for Assisted {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let desk = &self.0;
        desk.task.register(context.waker());
        let mut state = desk.state();
        state.runtime = current_runtime();
        match state.work(desk) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Assisted {
    fn drop(&mut self) {
        let work = self.0.state().work.take();
        drop(work);
    }
}

/// Where the task and those who hand in meet.
struct Desk {
    state: Mutex<State>,
    task: AtomicWaker,
    /// Somebody else than the task is about to do the work: the task is not woken meanwhile.
    is_helped: AtomicBool,
    /// There may be something to do that was not looked at yet.
    is_woken: AtomicBool,
}

struct State {
    /// `None` when it has ended.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Where the task runs, once it has begun. What the work waits for belongs to that runtime.
    runtime: Option<Id>,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        // Work that panicked is gone.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Polls the work. True once it has ended.
    fn work(&mut self, desk: &Arc<Desk>) -> bool {
        desk.is_woken.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(desk));
        let Some(mut work) = self.work.take() else { return true };
        let has_ended = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if !has_ended {
            self.work = Some(work);
        }
        has_ended
    }
}

/// Wakes the task, or whoever works in its place.
impl Wake for Desk {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order, and the other way round at the end of a turn: one of the two sees the other.
        self.is_woken.store(true, SeqCst);
        if !self.is_helped.load(SeqCst) {
            self.task.wake();
        }
    }
}

/// Somebody else than the task has the work in hand.
struct Turn<'a> {
    desk: &'a Arc<Desk>,
    state: MutexGuard<'a, State>,
}

impl<'a> Turn<'a> {
    fn begin(desk: &'a Arc<Desk>) -> Option<Self> {
        let state = match desk.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let is_possible = state.work.is_some() && state.runtime.is_some() && state.runtime == current_runtime();
        is_possible.then(|| {
            desk.is_helped.store(true, SeqCst);
            Self { desk, state }
        })
    }

    fn work(mut self) {
        let has_ended = self.state.work(self.desk);
        // Only the task can end the task.
        if has_ended {
            self.desk.is_woken.store(true, SeqCst);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.desk.is_helped.store(false, SeqCst);
        if self.desk.is_woken.load(SeqCst) {
            self.desk.task.wake();
        }
    }
}

fn current_runtime() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use tokio::{
        runtime::{Builder, Runtime},
        sync::oneshot,
        task::yield_now,
        time::timeout,
    };

    use super::*;
    use crate::outbox::{Outbox, OutboxLimits};

    /// What a writer wrote, and how often its task was polled.
    #[derive(Default)]
    struct Paper {
        lines: Mutex<Vec<u64>>,
        turns: AtomicUsize,
    }

    impl Paper {
        fn lines(&self) -> Vec<u64> {
            self.lines.lock().unwrap().clone()
        }

        fn turns(&self) -> usize {
            self.turns.load(SeqCst)
        }
    }

    struct Office {
        outbox: Arc<Outbox<u64>>,
        paper: Arc<Paper>,
        assistant: Assistant,
        task: tokio::task::JoinHandle<()>,
    }

    impl Office {
        /// Its writer has begun.
        async fn open() -> Self {
            let (outbox, paper) = (Arc::new(Outbox::new(OutboxLimits::default())), Arc::<Paper>::default());
            let (queue, sheet) = (Arc::clone(&outbox), Arc::clone(&paper));
            let (mut writer, assistant) = assisted(async move {
                let mut batch = Vec::new();
                while let Some(bytes) = queue.take(&mut batch, usize::MAX).await {
                    sheet.lines.lock().unwrap().append(&mut batch);
                    queue.release(bytes);
                }
            });
            let (counting, (begun, has_begun)) = (Arc::clone(&paper), oneshot::channel());
            let mut begun = Some(begun);
            let task = tokio::spawn(poll_fn(move |context| {
                counting.turns.fetch_add(1, SeqCst);
                let ended = Pin::new(&mut writer).poll(context);
                begun.take().map(|begun| begun.send(()));
                ended
            }));
            has_begun.await.unwrap();
            Self { outbox, paper, assistant, task }
        }

        async fn hand_in(&self, line: u64) {
            self.assistant.hand_in(self.outbox.push(1, |_| line)).await.unwrap();
        }
    }

    fn several_threads() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[tokio::test]
    async fn what_is_handed_in_is_done_on_the_spot_and_the_task_is_not_woken() {
        let office = Office::open().await;
        office.hand_in(1).await;
        office.hand_in(2).await;
        assert_eq!(office.paper.lines(), [1, 2]);
        yield_now().await;
        assert_eq!(office.paper.turns(), 1);
        office.outbox.push(1, |_| 3).await.unwrap();
        yield_now().await;
        assert_eq!((office.paper.lines(), office.paper.turns()), (vec![1, 2, 3], 2));
    }

    #[tokio::test]
    async fn work_that_ends_with_what_is_handed_in_ends_its_task() {
        let office = Office::open().await;
        office.assistant.hand_in(async { office.outbox.close() }).await;
        timeout(Duration::from_secs(10), office.task).await.expect("the task was not woken").unwrap();
        let refused = office.assistant.hand_in(office.outbox.push(1, |_| 1)).await;
        assert_eq!(refused.unwrap_err().kind(), crate::ErrorKind::Closed);
    }

    #[tokio::test]
    async fn work_that_wakes_itself_goes_on_in_its_task() {
        let (given, mut taken) = tokio::sync::mpsc::unbounded_channel::<u64>();
        let (done, is_done) = oneshot::channel();
        let (work, assistant) = assisted(async move {
            taken.recv().await;
            yield_now().await;
            let _ = done.send(());
        });
        tokio::spawn(work);
        yield_now().await;
        assistant.hand_in(async { given.send(1).unwrap() }).await;
        timeout(Duration::from_secs(10), is_done).await.expect("the task was not woken").unwrap();
    }

    #[tokio::test]
    async fn a_task_that_was_ended_drops_its_work() {
        let office = Office::open().await;
        office.task.abort();
        assert!(office.task.await.unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&office.outbox), 1);
        assert_eq!(Arc::strong_count(&office.paper), 1);
        office.assistant.hand_in(office.outbox.push(1, |_| 1)).await.unwrap();
        assert_eq!(office.outbox.status().1, 1);
    }

    #[test]
    fn work_of_another_runtime_stays_there() {
        let (home, abroad) = (several_threads(), several_threads());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let places = Arc::clone(&seen);
        let (work, assistant) = assisted(poll_fn(move |_| {
            places.lock().unwrap().push(Handle::current().id());
            Poll::Pending
        }));
        let (begun, has_begun) = std::sync::mpsc::channel();
        home.spawn(async move {
            let mut work = pin!(work);
            poll_fn(|context| {
                let polled = work.as_mut().poll(context);
                let _ = begun.send(());
                polled
            })
            .await;
        });
        has_begun.recv().unwrap();
        abroad.block_on(assistant.hand_in(async {}));
        // No runtime at all.
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(assistant.hand_in(async {})).poll(&mut context).is_ready());
        assert_eq!(*seen.lock().unwrap(), [home.handle().id()]);
        home.block_on(assistant.hand_in(async {}));
        assert_eq!(*seen.lock().unwrap(), [home.handle().id(); 2]);
    }

    #[test]
    fn nothing_is_lost_or_overtaken_when_many_hand_in() {
        const EACH: u64 = 20_000;
        let runtime = several_threads();
        runtime.block_on(async {
            let office = Arc::new(Office::open().await);
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let office = Arc::clone(&office);
                    tokio::spawn(async move {
                        for number in 0..EACH {
                            let line = sender * EACH + number;
                            match number % 3 {
                                0 => office.outbox.push(1, |_| line).await.unwrap(),
                                _ => office.hand_in(line).await,
                            }
                            if number % 64 == 0 {
                                yield_now().await;
                            }
                        }
                    })
                })
                .collect();
            for sender in senders {
                sender.await.unwrap();
            }
            let all = async {
                while office.paper.lines.lock().unwrap().len() < 4 * EACH as usize {
                    yield_now().await;
                }
            };
            timeout(Duration::from_secs(60), all).await.expect("a wake-up was lost");
            let lines = office.paper.lines();
            for sender in 0..4 {
                let own: Vec<_> = lines.iter().copied().filter(|line| line / EACH == sender).collect();
                assert_eq!(own, (sender * EACH..(sender + 1) * EACH).collect::<Vec<_>>());
            }
        });
    }
}
