//! All subjects over one broker under one load, in turns.

use std::time::Duration;

use crate::{
    Failure,
    broker::MeasuredBroker,
    ceiling,
    cluster::Cluster,
    load::{Load, Workload},
    results::Row,
    subject::{BrokerKind, Programs, Subject},
};

/// What becomes one table.
#[derive(Debug)]
pub(crate) struct Measurement {
    broker: BrokerKind,
    workload: Workload,
    load: Load,
    /// How much later everything arrives between servers and broker, in each direction.
    link: Duration,
    subjects: Vec<Subject>,
    /// Ways in which the bare broker carries as much as it can.
    bare_rates: Vec<&'static str>,
    /// Ways in which the bare broker carries one message at a time.
    bare_latencies: Vec<&'static str>,
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

    /// The bare brokers that are measured.
    fn bare(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.has(name, false)).collect()
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
            Workload::W4 => (&[][..], ceiling::latency_names(broker)),
            // A bare broker has no clients to which a message would be copied, and none that answer.
            Workload::W3 | Workload::W5 | Workload::W6 | Workload::W7 => (&[][..], &[][..]),
        };
        let subjects = broker.subjects().into_iter().filter(|subject| selection.has(subject.name, subject.is_ours()));
        Self {
            broker,
            workload,
            load,
            link,
            subjects: subjects.collect(),
            bare_rates: selection.bare(rates),
            bare_latencies: selection.bare(latencies),
        }
    }

    /// Measures each subject once more.
    pub(crate) async fn turn(
        &self,
        broker: &MeasuredBroker,
        programs: &Programs,
        mut record: impl FnMut(Row) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Self { broker: kind, workload, load, link, .. } = *self;
        let announce = |name: &str| eprintln!("{kind:?}, {workload:?}: {name}");
        for subject in &self.subjects {
            announce(subject.name);
            let measured =
                async { Cluster::start(subject, broker, programs, load).await?.measure(load, broker.pid()).await };
            match measured.await {
                Ok(outcome) => record(Row::of_servers(kind, workload, load, link, subject, &outcome))?,
                Err(error) if subject.is_ours() => return Err(error),
                // Some end, or lose their clients, under such a load.
                Err(error) => eprintln!("{} is left out: {error}", subject.name),
            }
        }
        for name in &self.bare_rates {
            announce(name);
            let rate = ceiling::rate(name, broker.url(), load).await?;
            record(Row::of_bare_broker(kind, workload, load, link, name, Some(rate), None))?;
        }
        for name in &self.bare_latencies {
            announce(name);
            let received = ceiling::latency(name, broker.url(), load).await?;
            record(Row::of_bare_broker(kind, workload, load, link, name, None, Some(&received)))?;
        }
        Ok(())
    }
}
