//! The [`suite!`](crate::suite!) macro and the functions that its tests call.

use std::io::Write as _;

use trunkline_core::Capabilities;

use crate::{
    case::{Case, Outcome},
    cases::CASES,
    kit::{Abilities, Setup, TestCluster},
};

/// Runs one case as a test does.
///
/// # Panics
/// If the case fails, or there is no such case.
#[doc(hidden)]
pub fn run_as_test(setup: &Setup, group: &str, name: &str) {
    let case = find(group, name).unwrap_or_else(|| panic!("there is no case {group}::{name}"));
    match block_on(case.run(setup)) {
        Outcome::Passed => {}
        Outcome::Skipped(reason) => println!("does not apply: {reason}"),
        Outcome::Failed(failure) => panic!("{case}: {failure}"),
    }
}

fn find(group: &str, name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.group == group && case.name == name)
}

/// Compares the capabilities that the backend declares with the stated ones.
///
/// # Panics
/// If they differ.
#[doc(hidden)]
pub fn check_capabilities(setup: &Setup, stated: Capabilities) {
    assert_eq!(abilities(setup).capabilities, stated, "the capabilities are not as stated");
}

/// Counts the cases that do not apply, prints them with the reasons, and compares the count with the stated one.
///
/// # Panics
/// If the counts differ.
#[doc(hidden)]
pub fn check_skipped(suite: &str, setup: &Setup, stated: usize) {
    let abilities = abilities(setup);
    let skipped: Vec<_> = CASES.iter().filter_map(|case| case.unmet(&abilities).map(|reason| (case, reason))).collect();
    print_past_capture(&format!("{suite}: {} cases apply, {} do not", CASES.len() - skipped.len(), skipped.len()));
    for (case, reason) in &skipped {
        print_past_capture(&format!("    does not apply: {case}: {reason}"));
    }
    assert_eq!(skipped.len(), stated, "another number of cases than stated does not apply; they are listed above");
}

/// Prints a line that the test runner does not capture, so that skipped cases show even if all tests pass.
fn print_past_capture(line: &str) {
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

/// Expands to the conformance tests of a backend: one per case, one of its capabilities, one of the number of skipped
/// cases.
///
/// ```
/// use trunkline_conformance::Setup;
/// use trunkline_core::{Capabilities, Membership, memory::{self, MemoryConfig}};
///
/// trunkline_conformance::suite! {
///     plain,
///     Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) }),
///     capabilities = Capabilities::new(Membership::Heartbeats)
///         .with_total_order(true)
///         .with_acknowledged_in_order(true)
///         .with_numbered(true)
///         .with_announced_leave(true)
///         .with_named_answers(true)
///         .with_all_rooms_request(true)
///         .with_room_interest(true),
///     skipped = 31,
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

/// Expands to one test per case.
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
