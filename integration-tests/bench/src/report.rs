//! Results as Markdown tables of medians.

use std::fmt::Write;

use crate::{
    cluster::Cpu,
    load::{Call, Workload},
    results::{Family, Latency, Row},
    statistics::median,
};

/// A heading and a table for each group of runs that belong together, in the order in which they were measured.
pub(crate) fn tables(rows: &[Row]) -> Vec<String> {
    groups(rows).iter().map(|group| table(group)).collect()
}

fn groups(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| group[0].is_beside(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// The runs of each subject, in the order in which they were measured.
pub(crate) fn subjects<'a>(rows: &[&'a Row]) -> Vec<(&'a str, Vec<&'a Row>)> {
    let mut subjects: Vec<(&str, Vec<&Row>)> = Vec::new();
    for &row in rows {
        match subjects.iter_mut().find(|(name, _)| *name == row.subject) {
            Some((_, runs)) => runs.push(row),
            None => subjects.push((&row.subject, vec![row])),
        }
    }
    subjects
}

/// The median of a value that runs have.
pub(crate) fn middle(runs: &[&Row], value: impl Fn(&Row) -> Option<f64>) -> f64 {
    median(&runs.iter().filter_map(|row| value(row)).collect::<Vec<_>>())
}

fn table(rows: &[&Row]) -> String {
    let table = if rows[0].workload.is_latency() { latency(rows) } else { throughput(rows) };
    format!("### {}\n\n{table}", title(rows[0]))
}

fn title(row: &Row) -> String {
    let Row { broker, workload, bytes, own_clients, clients, .. } = row;
    let messages = grouped(row.messages as f64);
    let what = match workload {
        Workload::W1 | Workload::W2 => format!("{messages} × {bytes} bytes, one caller in a loop"),
        Workload::W3 => {
            format!("{messages} × {bytes} bytes to {clients} clients at each server, one caller in a loop")
        }
        Workload::W4 => format!("{bytes} bytes, {} a second: latency", grouped(row.rate as f64)),
        Workload::W5 => {
            let rate = grouped(row.rate as f64);
            format!("{bytes} bytes, {rate} a second, to a room whose only member is at one of four servers")
        }
        Workload::W6 => format!("{messages} fetches of {own_clients} + {clients} sockets, one caller in a loop"),
        Workload::W7 => {
            format!(
                "{messages} × {bytes} bytes acknowledged by {own_clients} + {clients} clients, one caller in a loop"
            )
        }
    };
    if row.link_us == 0.0 {
        format!("{broker:?}: {what}")
    } else {
        format!("{broker:?} behind a link of {} ms each way: {what}", row.link_us / 1000.0)
    }
}

/// Each as a share of the bare broker's if that was measured.
fn throughput(rows: &[&Row]) -> String {
    let unit = rows[0].workload.load(0, 0).call.unit();
    let per = if unit == Call::Emit.unit() { "msg" } else { unit.trim_end_matches('s') };
    let rate = |runs: &[&Row]| middle(runs, |row| row.per_second);
    let subjects = subjects(rows);
    let is_bare = |runs: &[&Row]| runs[0].family == Family::Bare;
    let highest = subjects.iter().filter(|(_, runs)| is_bare(runs)).map(|(_, runs)| rate(runs)).fold(0.0, f64::max);
    let share = |rate: f64| if highest > 0.0 { format!("{:.3}", rate / highest) } else { "–".into() };
    let mut table = format!(
        "| | {unit}/s (median) | least – most | of the ceiling | lost | out of order | repeated | refused \
         | sender µs/{per} | receiver µs/{per} | broker µs/{per} | bystander µs/{per} | sender MiB |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, runs) in subjects {
        let rates = runs.iter().filter_map(|row| row.per_second).collect::<Vec<_>>();
        let figures = format!("{} | {} | {}", grouped(rate(&runs)), range(&rates), share(rate(&runs)));
        if is_bare(&runs) {
            let _ = writeln!(table, "| *{name}* | {figures} | | | | | | | | | |");
            continue;
        }
        let most = |of: fn(&Row) -> u64| runs.iter().map(|row| of(row)).max().unwrap_or_default();
        let cpu = |part: fn(&Cpu<f64>) -> f64| middle(&runs, |row| row.cpu_us.as_ref().map(part));
        let bystander = cpu(|cpu| cpu.bystander);
        let bystander = if bystander > 0.0 { format!("{bystander:.2}") } else { "–".into() };
        let _ = writeln!(
            table,
            "| {name} | {figures} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {bystander} | {:.0} |",
            most(|row| row.lost),
            most(|row| row.out_of_order),
            most(|row| row.repeated),
            most(|row| row.refused),
            cpu(|cpu| cpu.sender),
            cpu(|cpu| cpu.receiver),
            cpu(|cpu| cpu.broker),
            middle(&runs, |row| row.sender_memory_mib),
        );
    }
    table
}

/// In microseconds from the emit call to the receiver's client; in the last columns to the sender's own client, and to both.
fn latency(rows: &[&Row]) -> String {
    let mut table = String::from(
        "| | p50 µs | p90 µs | p99 µs | lost | p50 µs, own client | p50 µs, both clients |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, runs) in subjects(rows) {
        let percentile = |of: fn(Latency) -> f64| middle(&runs, |row| row.latency_us.map(of));
        let [p50, p90, p99] = [|all: Latency| all.p50, |all: Latency| all.p90, |all: Latency| all.p99].map(percentile);
        let lost = runs.iter().map(|row| row.lost).max().unwrap_or_default();
        let figures = format!("| {p50:.0} | {p90:.0} | {p99:.0} | {lost} |");
        let _ = if runs[0].family == Family::Bare {
            writeln!(table, "| *{name}* {figures} | |")
        } else {
            let (own, both) = (middle(&runs, |row| row.own_p50_us), middle(&runs, |row| row.both_p50_us));
            writeln!(table, "| {name} {figures} {own:.0} | {both:.0} |")
        };
    }
    table
}

fn range(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{} – {}", grouped(least), grouped(most))
}

/// A whole number with commas between thousands.
pub(crate) fn grouped(number: f64) -> String {
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
