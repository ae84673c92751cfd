//! Results as Markdown tables of medians.

use std::fmt::Write;

use crate::{
    client::Received,
    cluster::Outcome,
    load::Workload,
    measurement::Measurement,
    statistics::{median, median_percentile},
};

/// A heading and a table.
pub(crate) fn table(measurement: &Measurement) -> String {
    let table = if measurement.workload.is_latency() { latency(measurement) } else { throughput(measurement) };
    format!("### {}\n\n{table}", title(measurement))
}

fn title(Measurement { broker, workload, load, link, .. }: &Measurement) -> String {
    let messages = grouped(load.messages as f64);
    let what = match workload {
        Workload::W1 | Workload::W2 => format!("{messages} × {} bytes, one caller in a loop", load.bytes),
        Workload::W3 => {
            format!(
                "{messages} × {} bytes to {} clients at each server, one caller in a loop",
                load.bytes, load.clients
            )
        }
        Workload::W4 => format!("{} bytes, {} a second: latency", load.bytes, grouped(load.rate as f64)),
    };
    if link.is_zero() {
        format!("{broker:?}: {what}")
    } else {
        format!("{broker:?} behind a link of {} ms each way: {what}", link.as_secs_f64() * 1000.0)
    }
}

/// Each as a share of the bare broker's if that was measured.
fn throughput(measurement: &Measurement) -> String {
    let highest = measurement.bare_rates.iter().map(|(_, rates)| median(rates)).fold(0.0, f64::max);
    let share = |rate: f64| if highest > 0.0 { format!("{:.3}", rate / highest) } else { "–".into() };
    let mut table = String::from(
        "| | delivered/s (median) | least – most | of the ceiling | lost | out of order | repeated | refused \
         | sender µs/msg | receiver µs/msg | broker µs/msg |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (subject, outcomes) in &measurement.subjects {
        let rates = outcomes.iter().map(|outcome| outcome.rate).collect::<Vec<_>>();
        let most = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).max().unwrap_or_default();
        let middle = |of: fn(&Outcome) -> f64| median(&outcomes.iter().map(of).collect::<Vec<_>>());
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} |",
            subject.name,
            grouped(median(&rates)),
            range(&rates),
            share(median(&rates)),
            most(|outcome| outcome.remote.lost()),
            most(|outcome| outcome.remote.out_of_order),
            most(|outcome| outcome.remote.repeated),
            most(|outcome| outcome.refused),
            middle(|outcome| outcome.cpu.sender),
            middle(|outcome| outcome.cpu.receiver),
            middle(|outcome| outcome.cpu.broker),
        );
    }
    for (name, rates) in &measurement.bare_rates {
        let rate = median(rates);
        let _ = writeln!(table, "| *{name}* | {} | {} | {} | | | | | | | |", grouped(rate), range(rates), share(rate));
    }
    table
}

/// In microseconds from the emit call to the receiver's client; in the last columns to the sender's own client, and to both.
fn latency(measurement: &Measurement) -> String {
    let mut table = String::from(
        "| | p50 µs | p90 µs | p99 µs | lost | p50 µs, own client | p50 µs, both clients |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (subject, outcomes) in &measurement.subjects {
        let remote = latencies(&outcomes.iter().map(|outcome| &outcome.remote).collect::<Vec<_>>());
        let local = median_percentile(outcomes.iter().map(|outcome| outcome.local.latencies.clone()), 0.5);
        let both = median_percentile(outcomes.iter().map(Outcome::latencies), 0.5);
        let _ = writeln!(table, "| {} {remote} {local:.0} | {both:.0} |", subject.name);
    }
    for (name, received) in &measurement.bare_latencies {
        let _ = writeln!(table, "| *{name}* {} | |", latencies(&received.iter().collect::<Vec<_>>()));
    }
    table
}

fn latencies(runs: &[&Received]) -> String {
    let lost = runs.iter().map(|received| received.lost()).max().unwrap_or_default();
    let [p50, p90, p99] =
        [0.5, 0.9, 0.99].map(|share| median_percentile(runs.iter().map(|run| run.latencies.clone()), share));
    format!("| {p50:.0} | {p90:.0} | {p99:.0} | {lost} |")
}

fn range(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{} – {}", grouped(least), grouped(most))
}

/// A whole number with commas between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [grouped(0.4), grouped(999.0), grouped(1000.0), grouped(1_234_567.0)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
