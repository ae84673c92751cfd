//! `bench`: what a broker takes from several nodes, and how long it needs.

mod child;
mod load;
mod receiver;
mod report;

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use trunkline_backend::url::redact;

use self::{child::Nodes, report::Report};
use crate::{
    doctor::BrokerTarget,
    options::BenchOptions,
    output::{Failure, Output, Status, print},
};

pub(crate) use self::load::node;

pub(crate) async fn bench(options: BenchOptions, output: &Output) -> Result<Status, Failure> {
    for url in options.compare.iter().chain([&options.broker]) {
        BrokerTarget::parse(url)?;
    }
    let mut reports = vec![measure(&options.broker, &options, output).await?];
    if let Some(url) = &options.compare {
        reports.push(measure(url, &options, output).await?);
    }
    let status = reports.iter().map(Report::status).max().unwrap_or(Status::Unknown);
    let json = json!({ "status": status.word(), "nodes": options.nodes, "messages": options.messages, "bytes": options.size,
        "runs": reports.iter().map(Report::json).collect::<Vec<_>>() });
    let histogram = if output.is_json { String::new() } else { reports.iter().map(Report::histogram).collect() };
    output.result(report::text(&reports, &options), &json);
    print(histogram);
    Ok(status)
}

/// Runs both parts over one broker: as fast as the nodes can, then with pauses.
async fn measure(url: &str, options: &BenchOptions, output: &Output) -> Result<Report, Failure> {
    let bar = progress(output, "nodes", options.nodes.into());
    let mut nodes = Nodes::start(url, options.nodes, options.timeout, &bar).await?;
    bar.finish_and_clear();
    // Each message arrives at all other nodes.
    let arrivals = u64::from(options.nodes) * u64::from(options.nodes - 1);
    let throughput = load::Order { run: 1, messages: options.messages, bytes: options.size, pause: Duration::ZERO };
    let pause = Duration::from_secs_f64(1.0 / options.rate.max(0.1));
    let latency = load::Order { run: 2, messages: options.latency_messages, bytes: options.size, pause };
    let bar = progress(output, "throughput", throughput.messages * arrivals);
    let fast = nodes.run(&throughput, &bar).await?;
    bar.finish_and_clear();
    let bar = progress(output, "latency", latency.messages * arrivals);
    let paced = nodes.run(&latency, &bar).await?;
    bar.finish_and_clear();
    nodes.end().await;
    Ok(Report::new(redact(url), options.messages, &fast, &paced))
}

/// A bar on a terminal, and nothing elsewhere.
fn progress(output: &Output, what: &'static str, length: u64) -> ProgressBar {
    if output.is_json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:10} {wide_bar} {human_pos} of {human_len}");
    let mut bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = style {
        bar = bar.with_style(style);
    }
    // Drawn before the first step, too.
    bar.tick();
    bar
}
