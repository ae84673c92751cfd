//! Running cases: one by one from tests, or all of them from a program.

use std::{fmt, future::Future, io::Write as _};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;
use trunkline_core::Capabilities;

use crate::{
    kit::{Checked, Failure, TestCluster},
    needs::{Abilities, Need},
    setup::Setup,
};

/// One promise, and how it is put to the test.
#[derive(Clone, Copy)]
pub struct Case {
    /// The group of promises it belongs to.
    pub group: &'static str,
    /// The promise, as a sentence.
    pub name: &'static str,
    /// What has to hold for the case to apply.
    pub needs: &'static [Need],
    pub(crate) run: fn(TestCluster) -> BoxFuture<'static, Checked>,
}

/// How a case went.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The promise was kept.
    Passed,
    /// The promise was broken.
    Failed(Failure),
    /// The promise was never made.
    Skipped(&'static str),
}

impl Case {
    /// Why the case does not apply; `None` if it does.
    #[must_use]
    pub fn unmet(&self, abilities: &Abilities) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.unmet(abilities))
    }

    /// Puts the promise to the test, in a cluster of its own.
    pub async fn run(&self, setup: &Setup) -> Outcome {
        let cluster = TestCluster::new(setup);
        // No case waits that long, on whatever machine.
        let overall = cluster.patience() * 9;
        let outcome = match timeout(overall, self.judge(&cluster)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(Failure::new(format!("the case did not end within {overall:?}"))),
        };
        cluster.close().await;
        match outcome {
            Outcome::Failed(failure) => Outcome::Failed(failure.noticed(cluster.troubles())),
            outcome => outcome,
        }
    }

    async fn judge(&self, cluster: &TestCluster) -> Outcome {
        let abilities = match cluster.abilities().await {
            Ok(abilities) => abilities,
            Err(failure) => return Outcome::Failed(failure),
        };
        if let Some(reason) = self.unmet(&abilities) {
            return Outcome::Skipped(reason);
        }
        let run = std::panic::AssertUnwindSafe((self.run)(cluster.clone()));
        match run.catch_unwind().await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(panic) => Outcome::Failed(Failure::new(format!("panicked: {}", panic_text(&*panic)))),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({self})")
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

/// Runs one case as a test does.
///
/// # Panics
/// If the case fails, or there is no such case.
#[doc(hidden)]
pub fn run_as_test(setup: &Setup, group: &str, name: &str) {
    let case = crate::CASES
        .iter()
        .find(|case| case.group == group && case.name == name)
        .unwrap_or_else(|| panic!("there is no case {group}::{name}"));
    match block_on(case.run(setup)) {
        Outcome::Passed => {}
        Outcome::Skipped(reason) => println!("does not apply: {reason}"),
        Outcome::Failed(failure) => panic!("{case}: {failure}"),
    }
}

/// # Panics
/// If the backend promises something else than `stated`.
#[doc(hidden)]
pub fn check_capabilities(setup: &Setup, stated: Capabilities) {
    assert_eq!(abilities(setup).capabilities, stated, "the capabilities are not as stated");
}

/// # Panics
/// If another number of cases does not apply.
#[doc(hidden)]
pub fn check_skipped(suite: &str, setup: &Setup, stated: usize) {
    let abilities = abilities(setup);
    let skipped: Vec<_> =
        crate::CASES.iter().filter_map(|case| case.unmet(&abilities).map(|reason| (case, reason))).collect();
    say(&format!("{suite}: {} cases apply, {} do not", crate::CASES.len() - skipped.len(), skipped.len()));
    for (case, reason) in &skipped {
        say(&format!("    does not apply: {case}: {reason}"));
    }
    assert_eq!(skipped.len(), stated, "another number of cases than stated does not apply; they are listed above");
}

/// Prints a line that the test runner does not hold back, though the test passes: nobody is to take what does not apply for passed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn abilities(setup: &Setup) -> Abilities {
    block_on(async {
        let cluster = TestCluster::new(setup);
        let abilities = cluster.abilities().await;
        cluster.close().await;
        abilities.unwrap_or_else(|failure| panic!("{failure}"))
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}

/// Runs the whole suite over a backend: one test per case, a test of its capabilities, and a test of how many cases do not apply.
///
/// ```
/// use trunkline_conformance::Setup;
/// use trunkline_core::{Capabilities, Membership, memory::{self, MemoryConfig}};
///
/// trunkline_conformance::suite! {
///     plain,
///     Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) }),
///     capabilities = Capabilities {
///         membership: Membership::Heartbeats,
///         total_order: true,
///         acknowledged_in_order: true,
///         numbered: true,
///         announced_leave: true,
///         named_answers: true,
///         all_rooms_request: true,
///         room_interest: true,
///         history: false,
///         max_message_bytes: None,
///     },
///     skipped = 23,
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! suite {
    ($name:ident, $setup:expr, capabilities = $capabilities:expr, skipped = $skipped:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            pub(super) fn setup() -> $crate::Setup {
                $setup
            }

            #[test]
            fn capabilities_are_as_stated() {
                $crate::__check_capabilities(&setup(), $capabilities);
            }

            #[test]
            fn as_many_cases_as_stated_do_not_apply() {
                $crate::__check_skipped(module_path!(), &setup(), $skipped);
            }

            $crate::__cases! { $crate::__tests }
        }
    };
}

/// Makes one test of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($($group:ident { $($case:ident $([$($need:ident),*])?)* })*) => {
        $(
            mod $group {
                $(
                    #[test]
                    fn $case() {
                        $crate::__run_as_test(&super::setup(), stringify!($group), stringify!($case));
                    }
                )*
            }
        )*
    };
}
