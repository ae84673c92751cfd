//! The answers to requests, judged against the nodes that run.

use std::time::{Duration, Instant};

use crate::timing::seconds;

/// Sockets of each node that a request finds.
pub(crate) const SOCKETS: usize = 2;

/// How long after its start or its thaw a node may still be missing in answers: two heartbeat intervals.
const GRACE: Duration = Duration::from_secs(10);

/// For so long a node that is cut off counts as alive at the others.
const SILENCE: Duration = Duration::from_secs(10);

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The sockets of a room, of all nodes.
    FetchSockets,
    /// A server-side emit with answers of all other nodes.
    ServerSideEmit,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As a success, with so many sockets or answers.
    Ok(usize),
    /// As a failure, which is allowed as long as something is broken.
    Failed(String),
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) node: usize,
    pub(crate) question: Question,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) answer: Answer,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// An error, or an answer without nodes that do not run.
    Incomplete,
    /// A success without sockets or answers of nodes that ran all the time.
    Wrong,
}

/// Which nodes run.
#[derive(Clone, Debug)]
pub(crate) struct Running(Vec<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    Since(Instant),
    Stopped,
    /// It runs without the broker from the first moment until the second one.
    CutOff(Instant, Option<Instant>),
}

impl Running {
    /// Nodes that have been running for long.
    pub(crate) fn new(nodes: usize, since: Instant) -> Self {
        // Before the clock's beginning there is nothing; the grace then is over a little later.
        Self(vec![State::Since(since.checked_sub(GRACE).unwrap_or(since)); nodes])
    }

    pub(crate) fn stop(&mut self, node: usize) {
        self.0[node] = State::Stopped;
    }

    pub(crate) fn start(&mut self, node: usize, now: Instant) {
        self.0[node] = State::Since(now);
    }

    /// Notes that a node cannot reach the broker.
    pub(crate) fn cut_off(&mut self, node: usize, now: Instant) {
        self.0[node] = State::CutOff(now, None);
    }

    /// Notes that a node can reach the broker again. It may pause before it tries.
    pub(crate) fn reconnect(&mut self, node: usize, now: Instant) {
        if let State::CutOff(_, until) = &mut self.0[node] {
            *until = Some(now);
        }
    }

    /// Nodes whose sockets an answer to `node` must contain if it was asked at `began` and has just arrived.
    fn steady(&self, node: usize, began: Instant, now: Instant) -> usize {
        let is_steady = |other: usize, state: State| match state {
            State::Since(since) => other == node || since + GRACE <= began,
            State::Stopped => false,
            State::CutOff(since, until) => {
                other == node || now < since + SILENCE || until.is_some_and(|until| until + GRACE <= began)
            }
        };
        self.0.iter().enumerate().filter(|&(other, state)| is_steady(other, *state)).count()
    }
}

/// Judges an answer that arrives `now` by the nodes that run.
pub(crate) fn judge(
    node: usize,
    question: Question,
    [began, now]: [Instant; 2],
    answer: &Answer,
    running: &Running,
) -> Verdict {
    let Answer::Ok(count) = answer else { return Verdict::Incomplete };
    let expected = |nodes: usize| match question {
        Question::FetchSockets => nodes * SOCKETS,
        Question::ServerSideEmit => nodes.saturating_sub(1),
    };
    if *count < expected(running.steady(node, began, now)) {
        Verdict::Wrong
    } else if *count == expected(running.0.len()) {
        Verdict::Right
    } else {
        Verdict::Incomplete
    }
}

/// When the last request began that was not right, of those asked after `since`.
pub(crate) fn last_trouble(asked: &[Asked], since: Instant) -> Option<Instant> {
    asked.iter().filter(|asked| asked.began >= since && asked.verdict != Verdict::Right).map(|asked| asked.began).max()
}

/// Whether every node has asked both questions after `since`, and every answer to a question after `since` was right.
pub(crate) fn all_right(asked: &[Asked], nodes: usize, since: Instant) -> bool {
    let recent: Vec<_> = asked.iter().filter(|asked| asked.began >= since).collect();
    recent.iter().all(|asked| asked.verdict == Verdict::Right)
        && (0..nodes).all(|node| {
            [Question::FetchSockets, Question::ServerSideEmit]
                .iter()
                .all(|question| recent.iter().any(|asked| asked.node == node && asked.question == *question))
        })
}

impl Asked {
    /// One line for a report.
    pub(crate) fn shown(&self, fault: Instant) -> String {
        let Self { node, question, answer, began, ended, .. } = self;
        let (at, took) = (seconds(*began, fault), seconds(*ended, *began));
        format!("node {node} {question:?} at {at:.1} s, {took:.1} s: {answer:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    fn ask(running: &Running, question: Question, began: Instant, count: usize) -> Verdict {
        judge(0, question, [began; 2], &Answer::Ok(count), running)
    }

    #[test]
    fn a_success_without_a_running_node_is_wrong() {
        let now = Instant::now();
        let running = Running::new(3, now);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 10), 6), Verdict::Right);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 10), 4), Verdict::Wrong);
        assert_eq!(ask(&running, Question::ServerSideEmit, later(now, 10), 2), Verdict::Right);
        assert_eq!(ask(&running, Question::ServerSideEmit, later(now, 10), 0), Verdict::Wrong);
    }

    #[test]
    fn an_error_is_never_wrong() {
        let now = Instant::now();
        let answer = Answer::Failed("timed out".into());
        assert_eq!(judge(0, Question::FetchSockets, [now; 2], &answer, &Running::new(3, now)), Verdict::Incomplete);
    }

    #[test]
    fn a_stopped_node_may_be_missing_and_a_started_one_for_a_while() {
        let now = later(Instant::now(), 60);
        let mut running = Running::new(3, now);
        running.stop(2);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 11), 4), Verdict::Incomplete);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 11), 2), Verdict::Wrong);
        running.start(2, later(now, 12));
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 13), 4), Verdict::Incomplete);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 23), 4), Verdict::Wrong);
    }

    #[test]
    fn a_node_that_is_cut_off_may_be_missing_when_it_was_silent_for_long() {
        let now = later(Instant::now(), 60);
        let mut running = Running::new(3, now);
        running.cut_off(2, now);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 9), 4), Verdict::Wrong);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 10), 4), Verdict::Incomplete);
        running.reconnect(2, later(now, 8));
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 9), 4), Verdict::Wrong);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 12), 4), Verdict::Incomplete);
        assert_eq!(ask(&running, Question::FetchSockets, later(now, 18), 4), Verdict::Wrong);
    }

    #[test]
    fn all_is_right_when_every_node_was_answered_rightly() {
        let now = Instant::now();
        let asked = |node, question, verdict, at| Asked {
            node,
            question,
            began: later(now, at),
            ended: later(now, at),
            answer: Answer::Ok(0),
            verdict,
        };
        let mut all = vec![asked(0, Question::FetchSockets, Verdict::Wrong, 1)];
        all.extend([Question::FetchSockets, Question::ServerSideEmit].map(|q| asked(0, q, Verdict::Right, 3)));
        assert!(all_right(&all, 1, later(now, 2)));
        assert!(!all_right(&all, 1, now));
        assert!(!all_right(&all, 2, later(now, 2)));
        assert_eq!(last_trouble(&all, now), Some(later(now, 1)));
    }
}
