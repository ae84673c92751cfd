//! Tests of the suite itself: transports that break one promise each must fail the cases of that promise, and no
//! others.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod broken;
#[path = "../common/limited.rs"]
mod limited;
mod table;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use trunkline_conformance::{CASES, Case, Outcome, Setup, faults};
use trunkline_core::{
    Backend,
    memory::{self, HistoryLimits, MemoryConfig},
};

/// A broken transport, the promise it breaks, and the cases that have to fail for it.
pub(crate) struct Mutation {
    /// What the transport does wrong.
    name: &'static str,
    setup: Setup,
    /// Cases that must fail, as `group::case`. All others of the same groups must pass. Where a defect breaks nearly
    /// everything, or only now and then, the list ends in `...` and no others are run. With an empty list every case
    /// must pass.
    fails: Vec<&'static str>,
}

/// The memory transport with history, to which the defects are added.
pub(crate) fn sound() -> Setup {
    Setup::new(|cluster| async move { with_history(&cluster, HistoryLimits::default()) })
        .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) })
        .scaled_down_by(10)
}

fn with_history(cluster: &str, limits: HistoryLimits) -> trunkline_core::Result<Backend> {
    memory::backend(cluster, MemoryConfig { history: Some(limits) })
}

const LIMITED_HISTORY: HistoryLimits =
    HistoryLimits { messages: 1000, bytes: 1 << 20, session_ttl: Duration::from_millis(500), sessions: 1000 };

/// Timeouts of a case: a short one at first, and longer ones if it should have passed, so that a busy machine does not
/// fail it.
const TIMEOUTS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20)];

/// Number of cases that run at the same time; most of them wait.
const CONCURRENCY: usize = 64;

impl Mutation {
    fn is_to_fail(&self, case: &Case) -> bool {
        let name = case.to_string();
        self.fails.contains(&name.as_str())
    }

    fn is_selected(&self, case: &Case) -> bool {
        let is_related = |name: &&str| name.split_once("::").is_some_and(|(group, _)| group == case.group);
        match self.fails.last() {
            None => true,
            Some(&"...") => self.is_to_fail(case),
            Some(_) => self.fails.iter().any(is_related),
        }
    }

    /// Names in `fails` that are no cases.
    fn unknown(&self) -> Vec<&'static str> {
        let is_known = |name: &str| name == "..." || CASES.iter().any(|case| case.to_string() == name);
        self.fails.iter().copied().filter(|name| !is_known(name)).collect()
    }
}

/// Runs a case, and again with a longer timeout if it fails though it should pass. Returns what went otherwise than
/// expected.
async fn surprise(mutation: Arc<Mutation>, case: &'static Case) -> Option<String> {
    let is_to_fail = mutation.is_to_fail(case);
    let mut last = None;
    for timeout in TIMEOUTS {
        match (case.run(&mutation.setup.clone().timeout(timeout)).await, is_to_fail) {
            (Outcome::Skipped(_) | Outcome::Passed, false) | (Outcome::Failed(_), true) => return None,
            (Outcome::Skipped(why), true) => return Some(format!("{}: {case} is skipped: {why}", mutation.name)),
            (Outcome::Passed, true) => return Some(format!("{}: {case} does not notice", mutation.name)),
            (Outcome::Failed(failure), false) => {
                last = Some(format!("{}: {case} fails as well: {failure}", mutation.name));
            }
        }
    }
    last
}

/// Runs the selected cases of each mutation, and fails with all surprises.
fn check(mutations: Vec<Mutation>) {
    let started = Instant::now();
    let count = mutations.len();
    for mutation in &mutations {
        assert!(mutation.unknown().is_empty(), "{}: no such cases: {:?}", mutation.name, mutation.unknown());
    }
    let jobs = mutations.into_iter().map(Arc::new).flat_map(|mutation| {
        let selected = CASES.iter().filter(|case| mutation.is_selected(case));
        selected.map(|case| (Arc::clone(&mutation), case)).collect::<Vec<_>>()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let surprises: Vec<_> = runtime.block_on(async {
        let running = jobs.map(|(mutation, case)| tokio::spawn(surprise(mutation, case)));
        stream::iter(running).buffer_unordered(CONCURRENCY).filter_map(async |result| result.unwrap()).collect().await
    });
    println!("{count} transports in {:?}", started.elapsed());
    assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n"));
}

#[test]
fn a_sound_transport_fails_nothing() {
    check(vec![Mutation { name: "sound", setup: sound(), fails: Vec::new() }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_tells_what_its_nodes_counted() {
    let lossy = sound().map(|backend| faults::lossy(backend, 42, 50)).timeout(Duration::from_secs(2));
    let case = CASES.iter().find(|case| case.name.starts_with("the_same_event_a_thousand_times")).unwrap();
    let Outcome::Failed(failure) = case.run(&lossy).await else { panic!("half of the messages are lost") };
    let text = failure.to_string();
    assert!(text.contains("counted") && text.contains("missed"), "{text}");
}

macro_rules! tables {
    ($($test:ident: $table:path;)*) => {
        $(
            #[test]
            fn $test() {
                check($table());
            }
        )*
    };
}

tables! {
    delivering_to_the_wrong_sockets_is_noticed: table::targets::all;
    changing_payloads_is_noticed: table::payloads::all;
    ignoring_the_size_limit_is_noticed: table::limit::all;
    losing_or_reordering_messages_is_noticed: table::order::all;
    losing_or_changing_answers_is_noticed: table::answers::all;
    losing_or_changing_operations_is_noticed: table::operations::all;
    miscounting_nodes_is_noticed: table::membership::all;
    mixing_up_namespaces_or_clusters_is_noticed: table::namespaces::all;
    losing_history_or_sessions_is_noticed: table::recovery::all;
    failing_at_many_large_or_equal_messages_is_noticed: table::quantity::all;
    mixing_up_names_is_noticed: table::names::all;
    letting_namespaces_or_emitters_affect_each_other_is_noticed: table::isolation::all;
    restoring_a_session_nearly_right_is_noticed: table::replay::all;
    leaving_tasks_running_is_noticed: table::lifecycle::all;
    a_broken_local_is_noticed: table::servers::all;
}
