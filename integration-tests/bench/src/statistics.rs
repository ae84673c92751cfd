//! Medians and percentiles.

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Of nanoseconds, in microseconds.
pub(crate) fn percentile(mut nanoseconds: Vec<u64>, share: f64) -> f64 {
    nanoseconds.sort_unstable();
    let index = (nanoseconds.len().saturating_sub(1) as f64 * share).round() as usize;
    nanoseconds.get(index).map_or(f64::NAN, |nanoseconds| *nanoseconds as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Received, cluster::Outcome};

    #[test]
    fn a_percentile_counts_the_deliveries_to_all_clients() {
        let remote = Received { latencies: vec![9_000, 8_000], ..Received::default() };
        let local = Received { latencies: vec![1_000, 3_000, 2_000], ..Received::default() };
        let outcome = Outcome { remote, local, ..Outcome::default() };
        assert_eq!(percentile(outcome.latencies(), 0.5), 3.0);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
