//! The real thing: two nodes of our own, of which one publishes and the other one compares.

use std::time::Duration;

use super::{
    finding::{Findings, Measured, Report},
    rights,
    target::BrokerTarget,
};
use crate::{
    broker,
    echo::{Echo, quantile},
    output::Failure,
};

/// Messages that are sent, one after the other.
const MESSAGES: u32 = 100;

/// Lost ones after which it is clear.
const ENOUGH: u32 = 3;

/// From which p99 on the echo is worth a warning, and critical.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) warning: Duration,
    pub(crate) critical: Duration,
}

/// Publishes over `sender` and compares what arrives over a second connection.
pub(crate) async fn examine(
    target: &BrokerTarget,
    sender: &trunkline::Backend,
    limits: Limits,
    findings: &mut Findings,
) {
    match measure(&target.url, sender).await {
        Ok(measured) => report(measured, broker::obstacle(sender), limits, findings),
        Err(failure) => {
            let refusal = failure.text.to_lowercase();
            if ["noperm", "permission", "does not let this user"].iter().any(|words| refusal.contains(words)) {
                rights::refused(target, &failure.text, findings).await;
            }
            let report = Report::critical("a node could not join or publish").cause(failure.text);
            findings
                .add("echo", report.advice("see `rights` and the checks of the broker above, then the broker's log"));
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
    let mut echo = Echo::open(url, sender).await?;
    let mut echoes = Echoes::default();
    for _ in 0..MESSAGES {
        match echo.time().await? {
            Some(time) => echoes.times.push(time),
            None => echoes.lost += 1,
        }
        if echoes.lost >= ENOUGH {
            break;
        }
    }
    (echoes.altered, echoes.repeated) = (echo.altered, echo.repeated);
    echo.close().await;
    Ok(echoes)
}

fn report(mut echoes: Echoes, obstacle: Option<String>, limits: Limits, findings: &mut Findings) {
    echoes.times.sort_unstable();
    let Echoes { times, lost, altered, repeated } = &echoes;
    let sent = times.len() + *lost as usize;
    let faults = lost + altered + repeated;
    let value = Measured::new(f64::from(faults), "").limits(1.0, 1.0);
    let text =
        format!("{} of {sent} messages came back; {lost} lost, {altered} altered, {repeated} repeated", times.len());
    let did = if times.is_empty() { "it joined and subscribed" } else { "it joined, subscribed and published" };
    findings.add("rights", Report::ok(did));
    findings.add(
        "echo",
        Report::measured(value, text)
            .cause(obstacle.unwrap_or_else(|| {
                "the connection was lost meanwhile, or something between here and the broker drops messages".to_owned()
            }))
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
