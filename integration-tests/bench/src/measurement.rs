//! All subjects over one broker under one load, in turns.

use std::time::Duration;

use crate::{
    Failure,
    broker::MeasuredBroker,
    ceiling,
    client::Received,
    cluster::{Cluster, Outcome},
    load::{Load, Workload},
    subject::{BrokerKind, Programs, Subject},
};

/// What becomes one table.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) broker: BrokerKind,
    pub(crate) workload: Workload,
    pub(crate) load: Load,
    /// How much later everything arrives between servers and broker, in each direction.
    pub(crate) link: Duration,
    pub(crate) subjects: Vec<(Subject, Vec<Outcome>)>,
    /// Messages per second that the bare broker carried, for loads without a rate.
    pub(crate) bare_rates: Vec<(&'static str, Vec<f64>)>,
    /// What the bare broker carried one at a time, for loads with a rate.
    pub(crate) bare_latencies: Vec<(&'static str, Vec<Received>)>,
}

/// Which subjects are measured.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// In lower case; part of the name.
    pub(crate) name: String,
    pub(crate) only_ours: bool,
}

impl Selection {
    fn has(&self, name: &str, is_ours: bool) -> bool {
        (is_ours || !self.only_ours) && name.to_lowercase().contains(&self.name)
    }

    /// The bare brokers that are measured, without results yet.
    fn bare<T>(&self, names: &[&'static str]) -> Vec<(&'static str, Vec<T>)> {
        names.iter().filter(|name| self.has(name, false)).map(|name| (*name, Vec::new())).collect()
    }
}

impl Measurement {
    pub(crate) fn new(
        broker: BrokerKind,
        workload: Workload,
        load: Load,
        link: Duration,
        selection: &Selection,
    ) -> Self {
        let (rates, latencies) = match workload {
            Workload::W1 | Workload::W2 => (ceiling::names(broker), &[][..]),
            // A bare broker has no clients to which a message would be copied.
            Workload::W3 => (&[][..], &[][..]),
            Workload::W4 => (&[][..], ceiling::latency_names(broker)),
        };
        let subjects = broker.subjects().into_iter().filter(|subject| selection.has(subject.name, subject.is_ours()));
        Self {
            broker,
            workload,
            load,
            link,
            subjects: subjects.map(|subject| (subject, Vec::new())).collect(),
            bare_rates: selection.bare(rates),
            bare_latencies: selection.bare(latencies),
        }
    }

    /// Measures each subject once more.
    pub(crate) async fn turn(&mut self, broker: &MeasuredBroker, programs: &Programs) -> Result<(), Failure> {
        let (kind, workload, load) = (self.broker, self.workload, self.load);
        let announce = |name: &str| eprintln!("{kind:?}, {workload:?}: {name}");
        for (subject, outcomes) in &mut self.subjects {
            announce(subject.name);
            let cluster = Cluster::start(subject, broker, programs, load.clients).await?;
            outcomes.push(cluster.measure(load, broker.pid()).await?);
        }
        for (name, rates) in &mut self.bare_rates {
            announce(name);
            rates.push(ceiling::rate(name, broker.url(), load).await?);
        }
        for (name, received) in &mut self.bare_latencies {
            announce(name);
            received.push(ceiling::latency(name, broker.url(), load).await?);
        }
        Ok(())
    }

    /// Whether Trunkline delivered everything.
    pub(crate) fn is_complete(&self) -> bool {
        let ours = self.subjects.iter().filter(|(subject, _)| subject.is_ours());
        ours.flat_map(|(_, outcomes)| outcomes).all(Outcome::is_complete)
    }
}
