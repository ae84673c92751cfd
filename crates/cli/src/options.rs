//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use trunkline::{Target, core::model::Room};

use crate::output::Failure;

/// Looks into a cluster of Socket.IO servers and acts on it, over the broker that connects them.
///
/// Works with every broker and wire format that Trunkline has, so the servers may be Node.js servers with an official
/// adapter. The broker's URL is that of the servers, with the same parameters; its scheme selects the backend.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, after_long_help = EXIT_CODES, after_help = HINT)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Options {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const HINT: &str = "\
Examples:
  export TRUNKLINE_BROKER='redis://:secret@redis-1'
  trunkline nodes
  trunkline emit news '{\"title\": \"Rain\"}' --room subscribers
  trunkline sockets --room lobby --json";

const EXIT_CODES: &str = "\
Exit codes: 0 ok; 1 warning, for example a partial answer; 2 critical, for example no connection to the broker; \
3 unknown: wrong arguments or URL.

Examples:
  export TRUNKLINE_BROKER='redis://:secret@redis-1'
  trunkline nodes
  trunkline emit news '{\"title\": \"Rain\"}' --room subscribers
  trunkline sockets --room lobby --json

A URL with a password is safer in TRUNKLINE_BROKER than among the arguments, which other users of the machine can see. \
Passwords are never printed.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Emit an event to the sockets of a namespace
    #[command(after_long_help = EMIT_EXAMPLES)]
    Emit(EmitOptions),
    /// Make sockets join rooms
    #[command(after_long_help = "\
Examples:
  trunkline join vip --socket Zx2vTqPGJSYsRjIbAAAB
  trunkline join news sport --room lobby --except muted
  trunkline join everyone --all")]
    Join(MoveOptions),
    /// Make sockets leave rooms
    #[command(after_long_help = "\
Examples:
  trunkline leave vip --room vip
  trunkline leave lobby --socket Zx2vTqPGJSYsRjIbAAAB")]
    Leave(MoveOptions),
    /// Disconnect sockets from their namespace
    #[command(after_long_help = "\
Examples:
  trunkline disconnect --socket Zx2vTqPGJSYsRjIbAAAB
  trunkline disconnect --room banned --close
  trunkline disconnect --all --namespace /beta")]
    Disconnect(DisconnectOptions),
    /// Send an event to the servers themselves (serverSideEmit)
    #[command(after_long_help = "\
Examples:
  trunkline server-emit reload
  trunkline server-emit stats --ack --timeout 2s

With --ack the program is a node of the cluster meanwhile; it has no sockets, and says when it leaves. Exit code 1 if \
not every server has answered.")]
    ServerEmit(ServerEmitOptions),
    /// List the nodes of a namespace, with their sockets
    #[command(after_long_help = "\
Examples:
  trunkline nodes
  trunkline nodes redis://redis-1 --namespace /admin --json

It changes nothing in the cluster. To be answered it is a node without sockets for that time, and says when it leaves; \
as any node at its start it creates what the backend stores messages in, where that is missing. Exit code 1 if not \
every node has answered.")]
    Nodes(WhoOptions),
    /// List the sockets of a namespace, with their nodes and rooms
    #[command(after_long_help = "\
Examples:
  trunkline sockets --room lobby --except muted
  trunkline sockets --node 5f0c2a6b9d3e4f17 --data

It changes nothing in the cluster; see `trunkline nodes --help`. Exit code 1 if not every node has answered.")]
    Sockets(SocketsOptions),
    /// List the rooms of a namespace, with the number of their members
    #[command(after_long_help = "\
Examples:
  trunkline rooms
  trunkline rooms --containing chat: --json

It changes nothing in the cluster; see `trunkline nodes --help`. Exit code 1 if not every node has answered.")]
    Rooms(RoomsOptions),
    /// Say what is wrong with the broker and the cluster, and what to do
    #[command(after_long_help = "\
Examples:
  trunkline doctor redis://redis-1
  trunkline doctor --pre --wait 60s          # before a deployment
  trunkline doctor --format nagios --skip echo-time
  trunkline doctor --only answers --only nodes --json
  trunkline doctor --archive incident.json   # what gather has written
  trunkline doctor --list

It changes nothing in the cluster. It joins as a node without sockets, and publishes small messages to itself in the \
namespace /trunkline-doctor; as any node at its start it creates what the backend stores messages in, where that is \
missing. Exit code: the worst of all checks. What every check means: docs/doctor.md.")]
    Doctor(DoctorOptions),
    /// Show the traffic of a cluster, decoded and live
    #[command(after_long_help = "\
Examples:
  trunkline tap
  trunkline tap --room lobby --event news --payload
  trunkline tap --type gap --type leaving --jsonl
  trunkline tap --report rooms --for 10s
  trunkline tap --namespace / --namespace /admin --count 100 --latency

It only listens: it sends no heartbeats, so that no node knows it. Where the broker counts subscribers (Redis pub/sub and \
sharded pub/sub) it is counted as a node, and answers requests with nothing, because they would wait for it otherwise. \
Answers of nodes go to the node that asked, and are seen only where the wire sends them to all. Where each room has a \
channel of its own (Redis, sharded and dynamic), a room is heard half a second after its first socket at the latest, and \
one that is named by --room from the beginning. --latency publishes a small message a second in the namespace \
/trunkline-doctor. Exit code 1 if messages were missing.")]
    Tap(TapOptions),
    /// Show nodes, rates, gaps, queues and round trips, now and again
    #[command(after_long_help = "\
Examples:
  trunkline top
  trunkline top --namespace /admin --interval 5s
  trunkline top --once --json

It changes nothing in the cluster. It joins as a node without sockets, asks all nodes for their sockets once per interval \
(the round trip is the time until a node has answered), hears all messages as `tap` does, and publishes a small message per \
interval in the namespace /trunkline-doctor (the echo). The queue is that of this program: nodes do not tell theirs. \
Exit code with --once: 1 if nodes or messages are missing.")]
    Top(TopOptions),
    /// Measure throughput, loss, order and latency between nodes over a broker
    #[command(after_long_help = "\
Examples:
  trunkline bench --nodes 3
  trunkline bench --nodes 5 --messages 50000 --size 1000
  trunkline bench redis://redis-1 --compare nats://nats-1

It starts nodes in processes of their own on this machine, in a namespace of their own. Each sends --messages as fast as it \
can, then some more with pauses, from which the latency is taken. This is load for the broker, and where the broker keeps \
messages (Redis streams, MongoDB, a history) it takes their places there: give it a prefix, stream or collection of its \
own in the URL. Exit code 1 if messages came twice or in another order, 2 if messages were lost.")]
    Bench(BenchOptions),
    /// A node of the bench, which the program starts itself
    #[command(hide = true)]
    BenchNode(BenchNodeOptions),
    /// Write health, metrics, versions and settings of all nodes, and what the doctor finds, into one file
    #[command(after_long_help = "\
Examples:
  trunkline gather --output incident.json
  trunkline doctor --archive incident.json

The file has no passwords, no payloads and no addresses of clients. Nodes of Trunkline tell about themselves when they are \
asked by the server-side event `trunkline:status`; Node.js servers do not know it, and are listed as missing. Exit code 1 \
if not every node has answered.")]
    Gather(GatherOptions),
    /// Print completions for a shell
    #[command(after_long_help = "\
Examples:
  trunkline completions bash > /usr/share/bash-completion/completions/trunkline
  trunkline completions zsh > \"${fpath[1]}/_trunkline\"")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them
    #[command(after_long_help = "\
Examples:
  trunkline man | man -l -
  trunkline man --directory /usr/local/share/man/man1")]
    Man {
        /// Write a page per subcommand into this directory
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

const EMIT_EXAMPLES: &str = "\
Arguments of the event:
  VALUE         JSON; what is no JSON is text
  text:TEXT     text, also if it looks like JSON or like one of these
  json:VALUE    JSON, refused if it is none
  @FILE         JSON from a file; - is the standard input
  text@FILE     text from a file
  binary@FILE   binary from a file
  hex:DIGITS    binary, as hexadecimal digits

Examples:
  trunkline emit hello
  trunkline emit news '{\"title\": \"Rain\"}' --room subscribers
  trunkline emit image cat.png binary@cat.png --socket Zx2vTqPGJSYsRjIbAAAB
  trunkline emit question 42 --room lobby --ack --timeout 2s

Without --ack it takes no part in the cluster, and returns when the broker has the event. With --ack the program is a \
node of the cluster meanwhile; exit code 1 if not every client has acknowledged.";

/// The broker of a command whose own arguments come first.
#[derive(Debug, Args)]
pub(crate) struct BrokerOptions {
    /// URL of the broker, as the servers have it
    #[arg(short, long, value_name = "URL", env = "TRUNKLINE_BROKER", hide_env_values = true)]
    pub(crate) broker: String,
    /// Namespace of the sockets and nodes
    #[arg(short, long, value_name = "NAMESPACE", default_value = "/")]
    pub(crate) namespace: String,
}

/// The broker of a command that reads.
#[derive(Clone, Debug, Args)]
pub(crate) struct BrokerArguments {
    /// URL of the broker, as the servers have it
    #[arg(value_name = "URL", env = "TRUNKLINE_BROKER", hide_env_values = true)]
    pub(crate) broker: String,
    /// Namespace of the sockets and nodes
    #[arg(short, long, value_name = "NAMESPACE", default_value = "/")]
    pub(crate) namespace: String,
}

/// Which sockets an operation is for.
#[derive(Debug, Args)]
pub(crate) struct SelectionOptions {
    /// Only sockets in this room; repeated: in any of these rooms
    #[arg(short, long, value_name = "ROOM")]
    pub(crate) room: Vec<String>,
    /// Only the socket with this id; may be repeated
    #[arg(short, long, value_name = "ID")]
    pub(crate) socket: Vec<String>,
    /// But not sockets in this room; may be repeated
    #[arg(short, long, value_name = "ROOM")]
    pub(crate) except: Vec<String>,
}

impl SelectionOptions {
    pub(crate) fn is_everyone(&self) -> bool {
        self.room.is_empty() && self.socket.is_empty()
    }

    pub(crate) fn target(&self) -> Target {
        let rooms = self.room.iter().chain(&self.socket).map(|room| Room::new(room.as_str()));
        let all = Target::rooms(rooms);
        self.except.iter().fold(all, |target, room| target.except(Room::new(room.as_str())))
    }
}

/// How long nodes are listened for before they are asked.
#[derive(Debug, Args)]
pub(crate) struct ListenOptions {
    /// How long to listen for nodes before they are asked
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) listen: Duration,
    /// Number of servers that should be there: ask as soon as so many are known
    #[arg(long, value_name = "NUMBER")]
    pub(crate) nodes: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct EmitOptions {
    /// Name of the event
    pub(crate) event: String,
    /// Arguments of the event: JSON, text, files, binary (see --help)
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
    /// It may be dropped for clients that are not ready to receive
    #[arg(long)]
    pub(crate) volatile: bool,
    /// Wait for the acknowledgements of the clients, and print them
    #[arg(long)]
    pub(crate) ack: bool,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// How long to wait for acknowledgements, or for the broker
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// The sockets that a command moves or disconnects, and where.
#[derive(Debug, Args)]
pub(crate) struct WhomOptions {
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
    /// All sockets of the namespace
    #[arg(long, conflicts_with_all = ["room", "socket"])]
    pub(crate) all: bool,
    /// How long to wait for the broker
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct MoveOptions {
    /// Rooms to join or leave
    #[arg(value_name = "ROOM", required = true)]
    pub(crate) rooms: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: WhomOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectOptions {
    #[command(flatten)]
    pub(crate) whom: WhomOptions,
    /// Close the connections too, so that the clients' other namespaces end
    #[arg(long)]
    pub(crate) close: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServerEmitOptions {
    /// Name of the event
    pub(crate) event: String,
    /// Arguments of the event, as those of `emit` (see `trunkline emit --help`)
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    /// Wait for the answers of the servers, and print them
    #[arg(long)]
    pub(crate) ack: bool,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// How long to wait for answers, or for the broker
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct WhoOptions {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// How long to wait for answers
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SocketsOptions {
    #[command(flatten)]
    pub(crate) who: WhoOptions,
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
    /// Only sockets of this node
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<String>,
    /// Show the data that the application has attached to the sockets
    #[arg(long)]
    pub(crate) data: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RoomsOptions {
    #[command(flatten)]
    pub(crate) who: WhoOptions,
    /// Only rooms whose name contains this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) containing: Option<String>,
    /// Only rooms with a socket of this node
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<String>,
    /// The rooms of single sockets too, which are named by their ids
    #[arg(long)]
    pub(crate) own: bool,
}

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

/// Parses a time such as `500ms`, `5s` or `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| allowed(text))?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(allowed(text)),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| allowed(text))
}

fn allowed(text: &str) -> String {
    format!("{text:?} is no time; allowed are 500ms, 5s, 2m, 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_contradict_nothing() {
        crate::definitions().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("1e99h").is_err());
    }
}
