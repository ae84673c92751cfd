//! One conformance case, and running it in a cluster of its own.

use std::fmt;

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;

use crate::{
    kit::{Abilities, Checked, Failure, Setup, TestCluster},
    need::Need,
};

/// A conformance case: one promise and the test of it.
#[derive(Clone, Copy)]
pub struct Case {
    /// Group of cases, the first part of the test's name.
    pub group: &'static str,
    /// The promise as a sentence, the last part of the test's name.
    pub name: &'static str,
    /// Conditions on backend and server; the case is skipped unless all of them hold.
    pub needs: &'static [Need],
    pub(crate) run: fn(TestCluster) -> BoxFuture<'static, Checked>,
}

/// Result of running a [`Case`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The promise was kept.
    Passed,
    /// The promise was broken.
    Failed(Failure),
    /// The backend or server does not make this promise; the reason.
    Skipped(&'static str),
}

/// A case that takes so many times the setup's timeout hangs: none waits that long, on whatever machine.
const TIMEOUTS_PER_CASE: u32 = 9;

impl Case {
    /// Returns why the case does not apply, `None` if it does.
    #[must_use]
    pub fn unmet(&self, abilities: &Abilities) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.unmet(abilities))
    }

    /// Runs the case in a new cluster with a random name, and closes that cluster's transports.
    pub async fn run(&self, setup: &Setup) -> Outcome {
        let cluster = TestCluster::new(setup);
        let limit = cluster.timeout() * TIMEOUTS_PER_CASE;
        let outcome = match timeout(limit, self.run_in(&cluster)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(Failure::new(format!("the case did not end within {limit:?}"))),
        };
        cluster.close().await;
        match outcome {
            Outcome::Failed(failure) => Outcome::Failed(failure.with_anomalies(cluster.anomalies())),
            outcome => outcome,
        }
    }

    async fn run_in(&self, cluster: &TestCluster) -> Outcome {
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
