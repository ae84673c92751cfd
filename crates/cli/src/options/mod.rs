//! The command line: the commands and their help; `acting` has the options of those that act on a cluster or ask it, `looking` of
//! those that measure and watch.

mod acting;
mod looking;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::{
    acting::{
        DisconnectOptions, EmitOptions, EventOptions, ListenOptions, MoveOptions, RoomsOptions, SelectionOptions,
        SocketsOptions, WhoOptions,
    },
    looking::{
        BenchNodeOptions, BenchOptions, DoctorOptions, EntryType, Format, GatherOptions, ReportBy, TapOptions,
        TopOptions,
    },
};

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
    ServerEmit(EventOptions),
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

It changes nothing in the cluster. It joins as a node without sockets, asks all nodes for their sockets once per \
interval (ANSWER is the round trip: the time until a node has answered), hears all messages as `tap` does, and \
publishes a small message per interval in the namespace /trunkline-doctor (the echo). MISSING is what was not heard \
here; GAPS since their start and their QUEUE are what nodes of Trunkline tell. Exit code with --once: 1 if nodes or \
messages are missing, 2 if the broker takes nothing.")]
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_contradict_nothing() {
        crate::definitions().debug_assert();
    }
}
