//! What the page asks for, carried out in the whole cluster.

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;
use socketioxide::extract::TryData;
use trunkline_socketioxide::{Cluster, ClusterSocket, Payload, Result, Room, Target};

/// Lets a page change things.
pub(crate) fn register(socket: &ClusterSocket, cluster: &Cluster) {
    for name in ["emit", "join", "leave", "_disconnect"] {
        let cluster = cluster.clone();
        socket.on(name, async move |TryData(arguments): TryData<Arguments>| {
            let command = arguments.ok().and_then(|Arguments(arguments)| Command::of(name, arguments));
            let Some(command) = command else {
                tracing::warn!(command = name, "the admin page sent what cannot be understood");
                return;
            };
            tracing::info!(?command, "for the admin page");
            if let Err(error) = command.perform(&cluster).await {
                tracing::warn!(%error, command = name, "what the admin page asked for could not be done");
            }
        });
    }
}

#[derive(Debug)]
struct Command {
    namespace: String,
    target: Target,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Emit(Payload),
    Join(Room),
    Leave(Room),
    Disconnect { close: bool },
}

impl Command {
    fn of(name: &str, arguments: Vec<Value>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let namespace = arguments.next()?.as_str()?.to_owned();
        if name == "emit" {
            let target = target(arguments.next())?;
            let event: Vec<Value> = arguments.collect();
            event.first()?.as_str()?;
            let payload = Payload::from_json(Value::Array(event).to_string()).ok()?;
            return Some(Self { namespace, target, action: Action::Emit(payload) });
        }
        let argument = arguments.next()?;
        let room = || argument.as_str().filter(|room| !room.is_empty()).map(Room::from);
        let action = match name {
            "join" => Action::Join(room()?),
            "leave" => Action::Leave(room()?),
            "_disconnect" => Action::Disconnect { close: argument.as_bool()? },
            _ => return None,
        };
        Some(Self { namespace, target: target(arguments.next())?, action })
    }

    async fn perform(self, cluster: &Cluster) -> Result<()> {
        let Self { namespace, target, action } = self;
        if let Ok(handle) = cluster.of(&namespace) {
            let node = handle.cluster_node();
            return match action {
                Action::Emit(payload) => node.broadcast(target, payload).await,
                Action::Join(room) => node.sockets_join(target, vec![room]).await,
                Action::Leave(room) => node.sockets_leave(target, vec![room]).await,
                Action::Disconnect { close } => node.disconnect_sockets(target, close).await,
            };
        }
        // A namespace of other servers.
        let emitter = cluster.emitter().of(&namespace);
        match action {
            Action::Emit(payload) => emitter.emit(target, payload).await,
            Action::Join(room) => emitter.sockets_join(target, vec![room]).await,
            Action::Leave(room) => emitter.sockets_leave(target, vec![room]).await,
            Action::Disconnect { close } => emitter.disconnect_sockets(target, close).await,
        }
    }
}

/// The sockets with this id or in this room; without a filter all of them. `None` if it is no filter.
fn target(filter: Option<Value>) -> Option<Target> {
    match filter {
        None | Some(Value::Null) => Some(Target::all()),
        Some(Value::String(room)) if room.is_empty() => Some(Target::all()),
        Some(Value::String(room)) => Some(Target::room(room.as_str())),
        Some(_) => None,
    }
}

/// All arguments of an event. socketioxide takes a tuple for several arguments and everything else, also a vector, for a
/// single one: so this claims to be a tuple.
struct Arguments(Vec<Value>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_tuple(MAX_ARGUMENTS, AllArguments).map(Self)
    }
}

struct AllArguments;

impl<'de> Visitor<'de> for AllArguments {
    type Value = Vec<Value>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the arguments of an event")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> std::result::Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

/// A tuple has a length; parsers read as many as there are.
const MAX_ARGUMENTS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(name: &str, arguments: &Value) -> Option<Command> {
        Command::of(name, arguments.as_array().unwrap().clone())
    }

    #[test]
    fn a_command_is_for_all_sockets_or_for_those_of_a_filter() {
        let target = |name, arguments| command(name, &arguments).unwrap().target;
        assert_eq!(target("join", json!(["/", "a"])), Target::all());
        assert_eq!(target("leave", json!(["/", "a", null])), Target::all());
        assert_eq!(target("_disconnect", json!(["/", true, "b"])), Target::room("b"));
        assert_eq!(target("emit", json!(["/", "b", "event", 1])), Target::room("b"));
    }

    #[test]
    fn a_filter_that_is_none_selects_no_socket() {
        let malformed =
            [json!([]), json!([1, "a"]), json!(["/"]), json!(["/", "a", 7]), json!(["/", 7]), json!(["/", ""])];
        for arguments in malformed {
            for name in ["join", "leave", "_disconnect"] {
                assert!(command(name, &arguments).is_none(), "{name} {arguments}");
            }
        }
        for arguments in [json!(["/", null]), json!(["/", null, 7]), json!(["/", {}, "event"])] {
            assert!(command("emit", &arguments).is_none(), "{arguments}");
        }
    }
}
