//! The real thing: two nodes of our own, of which one publishes and the other one compares.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use trunkline::{Local, NodeConfig, Payload, Target};

use super::finding::{Findings, Measured, Report};
use crate::{
    broker,
    observer::{Observer, Received, Sockets},
    output::Failure,
};

/// Namespace of the echo, which no server uses.
const NAMESPACE: &str = "/trunkline-doctor";

/// Messages that are sent, one after the other.
const MESSAGES: u32 = 100;

/// How long one may take until it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Lost ones after which it is clear.
const ENOUGH: u32 = 3;

/// From which p99 on the echo is worth a warning, and critical.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) warning: Duration,
    pub(crate) critical: Duration,
}

/// Publishes over `sender` and compares what arrives over a second connection.
pub(crate) async fn examine(url: &str, sender: &trunkline::Backend, limits: Limits, findings: &mut Findings) {
    match measure(url, sender).await {
        Ok(measured) => report(measured, limits, findings),
        Err(failure) => {
            let rights = failure.text.to_lowercase();
            if rights.contains("noperm") || rights.contains("permission") {
                let report = Report::critical("the user may not do what a node does").cause(failure.text.clone());
                findings.add("rights", report.advice("the cause names what it may not; see docs/doctor.md#rights"));
            }
            findings.add("echo", Report::critical("a node could not join or publish").cause(failure.text));
            findings.add("echo-time", Report::skipped("nothing came back"));
        }
    }
}

#[derive(Debug, Default)]
struct Echoes {
    times: Vec<Duration>,
    lost: u32,
    altered: u32,
    repeated: u32,
}

async fn measure(url: &str, sender: &trunkline::Backend) -> Result<Echoes, Failure> {
    let receiver = broker::connect(url).await?;
    let (arrived, mut arrivals) = mpsc::channel(1_000);
    let sockets: Arc<dyn Local> = Arc::new(Sockets::recording(arrived));
    let receiver = Observer::join_over(receiver, NAMESPACE, NodeConfig::default(), sockets).await?;
    let sender =
        Observer::join_over(sender.clone(), NAMESPACE, NodeConfig::default(), Arc::new(Sockets::default())).await?;
    let mut echoes = Echoes::default();
    for number in 0..MESSAGES {
        let payload = message(number)?;
        let began = Instant::now();
        sender.node.broadcast(Target::all(), payload.clone()).await?;
        match next(&mut arrivals, &payload, &mut echoes).await {
            Some(at) => echoes.times.push(at - began),
            None => echoes.lost += 1,
        }
        if echoes.lost >= ENOUGH {
            break;
        }
    }
    sender.node.close();
    let _ = timeout(TIMEOUT, sender.node.closed()).await;
    receiver.leave().await;
    Ok(echoes)
}

/// When the message arrives; `None` if it does not in time. What else arrives is counted.
async fn next(arrivals: &mut mpsc::Receiver<Received>, sent: &Payload, echoes: &mut Echoes) -> Option<Instant> {
    let wait = async {
        while let Some(arrival) = arrivals.recv().await {
            if arrival.payload.same_meaning(sent) {
                return Some(arrival.at);
            }
            // Another run of the doctor may be there at the same time.
            match arrival.payload.arguments::<(u32, u32, Bytes)>() {
                Ok((run, ..)) if run != std::process::id() => (),
                Ok(_) => echoes.repeated += 1,
                Err(_) => echoes.altered += 1,
            }
        }
        None
    };
    timeout(TIMEOUT, wait).await.ok().flatten()
}

/// A message with text, a number and binary, as applications send them.
fn message(number: u32) -> trunkline::Result<Payload> {
    Payload::event("trunkline-doctor", &(std::process::id(), number, Bytes::from(vec![number as u8; 256])))
}

fn report(mut echoes: Echoes, limits: Limits, findings: &mut Findings) {
    echoes.times.sort_unstable();
    let Echoes { times, lost, altered, repeated } = &echoes;
    let sent = times.len() + *lost as usize;
    let faults = lost + altered + repeated;
    let value = Measured::new(f64::from(faults), "").limits(1.0, 1.0);
    let text =
        format!("{} of {sent} messages came back; {lost} lost, {altered} altered, {repeated} repeated", times.len());
    findings.add("rights", Report::ok("it joined, subscribed and published"));
    findings.add(
        "echo",
        Report::measured(value, text)
            .cause("the connection was lost meanwhile, or something between here and the broker drops messages")
            .advice("again with more time: trunkline doctor --wait 60s; then look at the broker's log"),
    );
    let (Some(middle), Some(late)) = (quantile(times, 0.5), quantile(times, 0.99)) else {
        return findings.add("echo-time", Report::skipped("nothing came back"));
    };
    let value =
        Measured::new(late.as_secs_f64(), "s").limits(limits.warning.as_secs_f64(), limits.critical.as_secs_f64());
    let text = format!("half of them within {middle:.1?} (p50), all but one in a hundred within {late:.1?} (p99)");
    findings.add(
        "echo-time",
        Report::measured(value, text)
            .cause("the broker or this machine is busy, or the way between them is long")
            .advice("compare with the bare way (ping HOST), and look at the broker's load"),
    );
}

fn quantile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * part).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_many() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Some(Duration::from_millis(51)));
        assert_eq!(quantile(&times, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&times[..1], 0.99), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
