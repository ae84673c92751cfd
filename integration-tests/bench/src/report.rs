//! Medians, as Markdown.

use std::fmt::Write;

use crate::{client::Seen, cluster::Outcome};

/// All runs of one subject, or of the bare broker.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) outcomes: Vec<Outcome>,
}

/// A table of throughput, each as a share of the bare broker's if there is one.
pub(crate) fn throughput(rows: &[Row], ceilings: &[(&'static str, Vec<f64>)]) -> String {
    let highest = ceilings.iter().map(|(_, rates)| median(rates)).fold(0.0, f64::max);
    let share = |rate: f64| if highest > 0.0 { format!("{:.3}", rate / highest) } else { "–".into() };
    let mut table = String::from(
        "| | delivered/s (median) | least – most | of the ceiling | lost | out of order | repeated | refused | servers µs/msg | broker µs/msg |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for Row { name, outcomes } in rows {
        let rates = outcomes.iter().map(|outcome| outcome.rate).collect::<Vec<_>>();
        let most = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).max().unwrap_or_default();
        let middle = |of: fn(&Outcome) -> f64| median(&outcomes.iter().map(of).collect::<Vec<_>>());
        let _ = writeln!(
            table,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} |",
            grouped(median(&rates)),
            range(&rates),
            share(median(&rates)),
            most(|outcome| outcome.seen.lost()),
            most(|outcome| outcome.seen.out_of_order),
            most(|outcome| outcome.seen.repeated),
            most(|outcome| outcome.refused),
            middle(|outcome| outcome.servers_cpu),
            middle(|outcome| outcome.broker_cpu),
        );
    }
    for (name, rates) in ceilings {
        let rate = median(rates);
        let _ = writeln!(table, "| *{name}* | {} | {} | {} | | | | | | |", grouped(rate), range(rates), share(rate));
    }
    table
}

/// A table of latencies, in microseconds from the emit call to the client: the other server's; in the last columns the own server's, and
/// both together.
pub(crate) fn latency(rows: &[Row], ceilings: &[(&'static str, Vec<Seen>)]) -> String {
    let mut table = String::from(
        "| | p50 µs | p90 µs | p99 µs | lost | p50 µs, own client | p50 µs, both clients |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for Row { name, outcomes } in rows {
        let far = latencies(&outcomes.iter().map(|outcome| &outcome.seen).collect::<Vec<_>>());
        let near = middle(outcomes.iter().map(|outcome| outcome.near.latencies.clone()), 0.5);
        let both = middle(outcomes.iter().map(Outcome::latencies), 0.5);
        let _ = writeln!(table, "| {name} {far} {near:.0} | {both:.0} |");
    }
    for (name, seen) in ceilings {
        let _ = writeln!(table, "| *{name}* {} | |", latencies(&seen.iter().collect::<Vec<_>>()));
    }
    table
}

fn latencies(runs: &[&Seen]) -> String {
    let lost = runs.iter().map(|seen| seen.lost()).max().unwrap_or_default();
    let [half, most, nearly_all] =
        [0.5, 0.9, 0.99].map(|share| middle(runs.iter().map(|seen| seen.latencies.clone()), share));
    format!("| {half:.0} | {most:.0} | {nearly_all:.0} | {lost} |")
}

/// The median of the runs' percentiles.
fn middle(runs: impl Iterator<Item = Vec<u64>>, share: f64) -> f64 {
    median(&runs.map(|latencies| percentile(latencies, share)).collect::<Vec<_>>())
}

fn percentile(mut sorted: Vec<u64>, share: f64) -> f64 {
    sorted.sort_unstable();
    let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(index).map_or(f64::NAN, |nanoseconds| *nanoseconds as f64 / 1000.0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

fn range(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{} – {}", grouped(least), grouped(most))
}

/// A whole number with thousands apart.
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

    #[test]
    fn a_percentile_counts_the_deliveries_to_all_clients() {
        let far = Seen { latencies: vec![9_000, 8_000], ..Seen::default() };
        let near = Seen { latencies: vec![1_000, 3_000, 2_000], ..Seen::default() };
        let outcome = Outcome { seen: far, near, rate: 0.0, refused: 0, servers_cpu: 0.0, broker_cpu: 0.0 };
        assert_eq!(middle([outcome.latencies()].into_iter(), 0.5), 3.0);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
