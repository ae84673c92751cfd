//! Options of the commands that measure a cluster and watch it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::acting::{BrokerArguments, ListenOptions, duration};
use crate::output::Failure;

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// URL of the broker, as the servers have it
    #[arg(value_name = "URL", env = "TRUNKLINE_BROKER", hide_env_values = true)]
    pub(crate) broker: Option<String>,
    /// Namespace of the nodes
    #[arg(short, long, value_name = "NAMESPACE", default_value = "/")]
    pub(crate) namespace: String,
    /// Before a deployment: only what concerns the broker
    #[arg(long)]
    pub(crate) pre: bool,
    /// Look again for so long while something is critical
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// List the checks
    #[arg(long)]
    pub(crate) list: bool,
    /// Read what `gather` has written, instead of looking
    #[arg(long, value_name = "FILE")]
    pub(crate) archive: Option<PathBuf>,
    /// Report only this check; may be repeated
    #[arg(long, value_name = "CODE")]
    pub(crate) only: Vec<String>,
    /// Leave this check out; may be repeated
    #[arg(long, value_name = "CODE")]
    pub(crate) skip: Vec<String>,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// How long to wait for the answers of nodes
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// From which time on (p99) the echo is worth a warning
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = duration)]
    pub(crate) echo_warning: Duration,
    /// From which time on (p99) the echo is critical
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) echo_critical: Duration,
    /// From which difference on the broker's clock is worth a warning
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) clock_warning: Duration,
    /// From which difference on the broker's clock is critical
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) clock_critical: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    /// How long to count before the numbers are shown
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Print one sample, and end
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// How long to wait for the answers of nodes
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// URL of the broker, as the servers have it
    #[arg(value_name = "URL", env = "TRUNKLINE_BROKER", hide_env_values = true)]
    pub(crate) broker: String,
    /// Measure over this broker too, and print both
    #[arg(long, value_name = "URL")]
    pub(crate) compare: Option<String>,
    /// Number of nodes
    #[arg(long, value_name = "NUMBER", default_value = "2", value_parser = clap::value_parser!(u16).range(2..=100))]
    pub(crate) nodes: u16,
    /// Messages that each node sends as fast as it can
    #[arg(long, value_name = "NUMBER", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) messages: u64,
    /// Bytes of text in each message
    #[arg(long, value_name = "BYTES", default_value = "128")]
    pub(crate) size: usize,
    /// Messages that each node sends with pauses, for the latency
    #[arg(long, value_name = "NUMBER", default_value = "500", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) latency_messages: u64,
    /// How many of them a second
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    pub(crate) rate: f64,
    /// How long nothing may arrive until what is missing counts as lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BenchNodeOptions {
    #[arg(env = "TRUNKLINE_BROKER", hide_env_values = true)]
    pub(crate) broker: String,
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long)]
    pub(crate) index: usize,
    #[arg(long)]
    pub(crate) peers: usize,
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct TapOptions {
    /// URL of the broker, as the servers have it
    #[arg(value_name = "URL", env = "TRUNKLINE_BROKER", hide_env_values = true)]
    pub(crate) broker: String,
    /// Only this namespace; may be repeated
    #[arg(short, long, value_name = "NAMESPACE", default_value = "/")]
    pub(crate) namespace: Vec<String>,
    /// Only what is for this room or socket; may be repeated
    #[arg(short, long, value_name = "ROOM")]
    pub(crate) room: Vec<String>,
    /// Only this event; may be repeated
    #[arg(short, long, value_name = "EVENT")]
    pub(crate) event: Vec<String>,
    /// Only messages of this node; may be repeated
    #[arg(short, long, value_name = "ID")]
    pub(crate) sender: Vec<String>,
    /// Only this type of message; may be repeated
    #[arg(short = 't', long = "type", value_name = "TYPE", value_enum)]
    pub(crate) kind: Vec<EntryType>,
    /// Show the arguments of events and the values of answers
    #[arg(long)]
    pub(crate) payload: bool,
    /// End after so many messages
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Print a JSON object per line
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// Count the messages instead, and print the table at the end
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) report: Option<ReportBy>,
    /// Measure the way through the broker and back once a second
    #[arg(long)]
    pub(crate) latency: bool,
}

/// Type of what `tap` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EntryType {
    Broadcast,
    Join,
    Leave,
    Disconnect,
    FetchSockets,
    Rooms,
    ServerEmit,
    Answer,
    Heartbeat,
    Leaving,
    /// A mark, which takes a place in the history and reaches no client
    Mark,
    /// A node that has sent heartbeats, and nothing for ten seconds
    Silent,
    /// Messages that are missing
    Gap,
    /// With --latency
    Latency,
}

impl EntryType {
    pub(crate) fn name(self) -> &'static str {
        self.in_parentheses().trim_matches(['(', ')'])
    }

    /// Its name in a report on events, for messages without one.
    pub(crate) fn in_parentheses(self) -> &'static str {
        match self {
            Self::Broadcast => "(broadcast)",
            Self::Join => "(join)",
            Self::Leave => "(leave)",
            Self::Disconnect => "(disconnect)",
            Self::FetchSockets => "(fetch-sockets)",
            Self::Rooms => "(rooms)",
            Self::ServerEmit => "(server-emit)",
            Self::Answer => "(answer)",
            Self::Heartbeat => "(heartbeat)",
            Self::Leaving => "(leaving)",
            Self::Mark => "(mark)",
            Self::Silent => "(silent)",
            Self::Gap => "(gap)",
            Self::Latency => "(latency)",
        }
    }
}

/// What `tap --report` counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportBy {
    Rooms,
    Events,
    Senders,
}

impl ReportBy {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Rooms => "ROOM",
            Self::Events => "EVENT",
            Self::Senders => "SENDER",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GatherOptions {
    #[command(flatten)]
    pub(crate) doctor: DoctorOptions,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "trunkline.json")]
    pub(crate) output: PathBuf,
}

impl DoctorOptions {
    /// The broker's URL, which `doctor --list` and `doctor --archive` do without.
    pub(crate) fn url(&self) -> Result<String, Failure> {
        self.broker.clone().ok_or_else(|| Failure::usage("which broker? Name its URL, or set TRUNKLINE_BROKER"))
    }
}

/// How the doctor prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// One line, as monitoring plugins print it
    Nagios,
    /// For the text file collector of Prometheus' node exporter
    Prometheus,
}
