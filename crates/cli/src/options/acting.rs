//! Options of the commands that act on a cluster or ask it, and what all commands share.

use std::time::Duration;

use clap::Args;
use trunkline::{Target, core::model::Room};

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

/// An event, and whether it is to be acknowledged.
#[derive(Debug, Args)]
pub(crate) struct EventOptions {
    /// Name of the event
    pub(crate) event: String,
    /// Arguments of the event: JSON, text, files, binary (see `trunkline emit --help`)
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    /// Wait for the acknowledgements, and print them
    #[arg(long)]
    pub(crate) ack: bool,
    #[command(flatten)]
    pub(crate) listen: ListenOptions,
    /// How long to wait for acknowledgements, or for the broker
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct EmitOptions {
    #[command(flatten)]
    pub(crate) event: EventOptions,
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
    /// It may be dropped for clients that are not ready to receive
    #[arg(long)]
    pub(crate) volatile: bool,
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
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("1e99h").is_err());
    }
}
