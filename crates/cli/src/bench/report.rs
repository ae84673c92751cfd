//! [`Report`]: what the nodes of a bench have found together.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::Found;
use crate::{
    options::BenchOptions,
    output::{Status, counted, table},
};

/// What the nodes have found over one broker.
#[derive(Debug)]
pub(crate) struct Report {
    /// URL without secrets.
    broker: String,
    /// Messages that all nodes have sent in a second, as fast as they could.
    sent_per_second: f64,
    /// Messages that have arrived at all nodes in a second.
    received_per_second: f64,
    received: u64,
    lost: u64,
    out_of_order: u64,
    repeated: u64,
    /// Microseconds on the way, of messages with pauses between them.
    latencies: Histogram<u64>,
}

/// Parts of all messages whose latency is told.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

impl Report {
    /// Sums up what was found as fast as the nodes could (`fast`), and with pauses (`paced`).
    pub(crate) fn new(broker: String, messages: u64, fast: &[Found], paced: &[Found]) -> Self {
        let longest = |time: fn(&Found) -> Duration| fast.iter().map(time).max().unwrap_or_default().as_secs_f64();
        let received: u64 = fast.iter().map(|found| found.received).sum();
        let total = |count: fn(&Found) -> u64| fast.iter().chain(paced).map(count).sum();
        let mut latencies = latencies();
        for (value, count) in paced.iter().flat_map(|found| &found.latencies) {
            let _ = latencies.record_n(*value, *count);
        }
        Self {
            broker,
            sent_per_second: (messages * fast.len() as u64) as f64 / longest(|found| found.sending).max(1e-6),
            received_per_second: received as f64 / longest(|found| found.receiving).max(1e-6),
            received: total(|found| found.received),
            lost: total(|found| found.lost),
            out_of_order: total(|found| found.out_of_order),
            repeated: total(|found| found.repeated),
            latencies,
        }
    }

    /// Critical if messages were lost, a warning if they came twice or in another order.
    pub(crate) fn status(&self) -> Status {
        match (self.lost, self.out_of_order + self.repeated) {
            (0, 0) => Status::Ok,
            (0, _) => Status::Warning,
            _ => Status::Critical,
        }
    }

    fn latency(&self, part: f64) -> f64 {
        self.latencies.value_at_quantile(part) as f64 / 1000.0
    }

    pub(crate) fn json(&self) -> Value {
        let latency = QUANTILES.map(|(name, part)| (name.to_owned(), json!(self.latency(part) / 1000.0)));
        json!({ "broker": self.broker, "status": self.status().word(), "sent_per_second": self.sent_per_second,
            "received_per_second": self.received_per_second, "received": self.received, "lost": self.lost,
            "out_of_order": self.out_of_order, "repeated": self.repeated,
            "latency_seconds": latency.into_iter().collect::<serde_json::Map<_, _>>() })
    }

    /// How many messages took how long, as bars.
    pub(crate) fn histogram(&self) -> String {
        let Some(most) = self.buckets().iter().map(|(_, count)| *count).max().filter(|most| *most > 0) else {
            return String::new();
        };
        let mut text = format!("\nlatency over {}\n", self.broker);
        for (micros, count) in self.buckets() {
            let width = (count as f64 * 40.0 / most as f64).ceil() as usize;
            text.push_str(&format!(
                "  to {:>9}  {:<40}  {count}\n",
                milliseconds(micros as f64 / 1000.0),
                "█".repeat(width)
            ));
        }
        text
    }

    /// Buckets of doubling width, from that of the first message to that of the last one.
    fn buckets(&self) -> Vec<(u64, u64)> {
        let (mut low, mut buckets) = (0, Vec::new());
        for power in 0..40 {
            let high = 1_u64 << power;
            let count = self.latencies.count_between(low, high - 1);
            if count > 0 || (!buckets.is_empty() && high / 2 <= self.latencies.max()) {
                buckets.push((high, count));
            }
            low = high;
        }
        buckets
    }
}

/// An empty histogram of three digits that grows.
pub(crate) fn latencies() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "allowed are one to five digits")]
    Histogram::new(3).expect("three digits")
}

fn milliseconds(time: f64) -> String {
    format!("{time:.3} ms")
}

/// A column per broker, and their ratio if there are two.
pub(crate) fn text(reports: &[Report], options: &BenchOptions) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: &dyn Fn(&Report) -> f64, shown: &dyn Fn(f64) -> String| {
        let values: Vec<_> = reports.iter().map(value).collect();
        let mut cells = vec![name.to_owned()];
        cells.extend(values.iter().map(|value| shown(*value)));
        if let [first, second] = values[..] {
            cells.push(if first == 0.0 { "-".to_owned() } else { format!("x {:.2}", second / first) });
        }
        rows.push(cells);
    };
    let whole = |value: f64| format!("{value:.0}");
    row("sent/s", &|report| report.sent_per_second, &whole);
    row("received/s", &|report| report.received_per_second, &whole);
    row("lost", &|report| report.lost as f64, &whole);
    row("out of order", &|report| report.out_of_order as f64, &whole);
    row("repeated", &|report| report.repeated as f64, &whole);
    for (name, part) in QUANTILES {
        row(&format!("latency {name}"), &|report| report.latency(part), &milliseconds);
    }
    let mut header = vec![""];
    header.extend(reports.iter().map(|report| report.broker.as_str()));
    header.extend((reports.len() == 2).then_some("RATIO"));
    let about = format!(
        "{}, each {} messages of {} B; latency at {} a second of each",
        counted(usize::from(options.nodes), "node"),
        options.messages,
        options.size,
        options.rate
    );
    format!("{about}\n{}", table(&header, &rows))
}
