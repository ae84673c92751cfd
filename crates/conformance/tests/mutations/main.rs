//! The suite notices what it claims to notice: transports that break one promise each fail the cases of that promise, and no others.

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
    /// What it does wrong.
    name: &'static str,
    setup: Setup,
    /// `group::case`. All others of the same groups have to pass; where something breaks nearly everything, or only now and then, the
    /// list ends in `...` and no others are looked at. An empty list means that every case has to pass.
    fails: Vec<&'static str>,
}

/// The embedded transport with history, as it is put under all defects.
pub(crate) fn sound() -> Setup {
    Setup::new(|cluster| async move { with_history(&cluster, HistoryLimits::default()) })
        .limited_history(|cluster| async move { with_history(&cluster, FORGETFUL) })
        .scaled_down_by(10)
}

fn with_history(cluster: &str, limits: HistoryLimits) -> trunkline_core::Result<Backend> {
    memory::backend(cluster, MemoryConfig { history: Some(limits) })
}

const FORGETFUL: HistoryLimits =
    HistoryLimits { messages: 1000, bytes: 1 << 20, session_ttl: Duration::from_millis(500), sessions: 1000 };

/// How long a case waits for what a broken transport does not deliver: briefly, and longer if it should have passed, so that a busy
/// machine does not decide.
const PATIENCE: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20)];

/// Cases that run at the same time: most of them wait.
const AT_ONCE: usize = 64;

impl Mutation {
    fn is_to_fail(&self, case: &Case) -> bool {
        let name = case.to_string();
        self.fails.contains(&name.as_str())
    }

    fn is_looked_at(&self, case: &Case) -> bool {
        let is_related = |name: &&str| name.split_once("::").is_some_and(|(group, _)| group == case.group);
        match self.fails.last() {
            None => true,
            Some(&"...") => self.is_to_fail(case),
            Some(_) => self.fails.iter().any(is_related),
        }
    }

    /// Names in the list that are no cases.
    fn unknown(&self) -> Vec<&'static str> {
        let is_known = |name: &str| name == "..." || CASES.iter().any(|case| case.to_string() == name);
        self.fails.iter().copied().filter(|name| !is_known(name)).collect()
    }
}

/// Runs a case, again and with more patience if it fails though it should pass.
async fn goes_as_it_should(mutation: Arc<Mutation>, case: &'static Case) -> Option<String> {
    let is_to_fail = mutation.is_to_fail(case);
    let mut last = None;
    for patience in PATIENCE {
        match (case.run(&mutation.setup.clone().patience(patience)).await, is_to_fail) {
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

/// Runs all cases over all of these transports, and says what went another way than it should.
fn check(mutations: Vec<Mutation>) {
    let started = Instant::now();
    let count = mutations.len();
    for mutation in &mutations {
        assert!(mutation.unknown().is_empty(), "{}: no such cases: {:?}", mutation.name, mutation.unknown());
    }
    let jobs = mutations.into_iter().map(Arc::new).flat_map(|mutation| {
        let looked_at = CASES.iter().filter(|case| mutation.is_looked_at(case));
        looked_at.map(|case| (Arc::clone(&mutation), case)).collect::<Vec<_>>()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let surprises: Vec<_> = runtime.block_on(async {
        let running = jobs.map(|(mutation, case)| tokio::spawn(goes_as_it_should(mutation, case)));
        stream::iter(running).buffer_unordered(AT_ONCE).filter_map(async |result| result.unwrap()).collect().await
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
    let lossy = sound().map(|backend| faults::lossy(backend, 42, 50)).patience(Duration::from_secs(2));
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
    whoever_misses_the_audience_of_a_broadcast_is_noticed: table::audience::all;
    whoever_changes_payloads_is_noticed: table::payloads::all;
    whoever_disregards_the_limit_is_noticed: table::limit::all;
    whoever_loses_or_reorders_is_noticed: table::order::all;
    whoever_garbles_answers_is_noticed: table::answers::all;
    whoever_forgets_operations_is_noticed: table::operations::all;
    whoever_miscounts_nodes_is_noticed: table::membership::all;
    whoever_mixes_namespaces_is_noticed: table::namespaces::all;
    whoever_forgets_what_was_missed_is_noticed: table::recovery::all;
    whoever_fails_at_what_is_many_or_big_or_the_same_again_is_noticed: table::quantity::all;
    whoever_takes_names_for_others_is_noticed: table::names::all;
    whoever_lets_one_disturb_another_is_noticed: table::neighbours::all;
    whoever_nearly_replays_what_was_missed_is_noticed: table::returning::all;
    whoever_does_not_tidy_up_is_noticed: table::lifecycle::all;
    whoever_lends_a_broken_server_is_noticed: table::servers::all;
}
