//! Well-formed messages that say what is not so.

use super::{Dialect, Forger, HEARSAY, Phase, shape};
use crate::tree::{self, Tree, map};

/// What a message says, without the form that a dialect gives it.
enum Saying {
    Broadcast { arguments: Tree, acknowledged: bool, rooms: Tree },
    Heartbeat { initial: bool },
    Leaving,
    FetchSockets,
    ServerSideEmit { arguments: Tree },
    Sockets(Tree),
    ServerSideAnswer(Tree),
    ClientCount(Tree),
    Ack(Tree),
}

impl Forger {
    /// A message of one of these sorts, with its name.
    pub(super) fn protocol(&mut self) -> (&'static str, Tree) {
        let sorts = if self.phase == Phase::Numbers { 13 } else { 9 };
        let (sort, saying, sender) = match self.rng.u8(..sorts) {
            0 | 1 => ("reserved events", self.reserved_event(), self.invented()),
            2 => ("leaves", Saying::Leaving, self.node()),
            3 => ("invented nodes", Saying::Heartbeat { initial: self.rng.bool() }, self.invented()),
            4 => ("heartbeats of nodes", Saying::Heartbeat { initial: self.rng.bool() }, self.node()),
            5 => ("requests of nobody", self.request(), self.invented()),
            6 => ("requests of nodes", self.request(), self.node()),
            7 => ("answers to nothing", self.answer(), self.invented()),
            8 => return ("odd heartbeats", self.odd_heartbeat()),
            9 => ("answers", self.answer(), self.node()),
            _ => ("numbers of nodes", self.numbered(), self.node()),
        };
        let numbers = matches!(sort, "numbers of nodes") || (sort == "invented nodes" && self.rng.bool());
        let tree = self.render(saying, sender, numbers, sort == "answers");
        (sort, tree)
    }

    /// High-water marks, buckets and numbers that are none, of an invented node or, where that is allowed, of one that runs.
    fn odd_heartbeat(&mut self) -> Tree {
        let sender = if self.phase == Phase::Numbers && self.rng.bool() { self.node() } else { self.invented() };
        let initial = self.rng.bool();
        let mut tree = self.render(Saying::Heartbeat { initial }, sender, true, false);
        let counters = match self.rng.u8(..8) {
            0 => shape::other_value(&mut self.rng),
            1 => Tree::Array(vec![pair((0, 1)); 70_000]),
            2 => Tree::Array((0..2000).rev().map(|channel| pair((channel, u64::from(channel)))).collect()),
            3 => Tree::Array(vec![Tree::Array(Vec::new())]),
            4 => Tree::Array(vec![Tree::Array(vec![0.into(), 1.into(), 2.into()])]),
            5 => Tree::Array(vec![Tree::Array(vec!["0".into(), "1".into()])]),
            6 => Tree::Array(vec![Tree::Array(vec![65_536.into(), shape::number(&mut self.rng)])]),
            _ => Tree::Array(vec![Tree::Array(vec![shape::number(&mut self.rng), shape::number(&mut self.rng)])]),
        };
        tree::set(&mut tree, "counters", counters);
        if self.rng.bool() {
            tree::set(&mut tree, "buckets", shape::number(&mut self.rng));
        }
        if self.rng.u8(..4) == 0 {
            tree::set(&mut tree, "stamp", pair((0, 1)));
        }
        tree
    }

    fn reserved_event(&mut self) -> Saying {
        let names = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
        let arguments = match self.rng.u8(..5) {
            0 => Tree::Array(Vec::new()),
            1 => Tree::Array(vec![shape::other_value(&mut self.rng)]),
            _ => Tree::Array(vec![(*self.rng.choice(&names).unwrap_or(&"connect")).into(), 1.into()]),
        };
        Saying::Broadcast { arguments, acknowledged: self.rng.u8(..4) == 0, rooms: Tree::Array(Vec::new()) }
    }

    fn numbered(&mut self) -> Saying {
        if self.rng.u8(..3) == 0 {
            return Saying::Heartbeat { initial: false };
        }
        let arguments = Tree::Array(vec![HEARSAY.into(), self.rng.u8(..).into()]);
        Saying::Broadcast { arguments, acknowledged: false, rooms: Tree::Array(Vec::new()) }
    }

    fn request(&mut self) -> Saying {
        let arguments = Tree::Array(vec!["question".into(), self.rng.u8(..).into()]);
        match self.rng.u8(..3) {
            0 => Saying::FetchSockets,
            1 => Saying::ServerSideEmit { arguments },
            _ => Saying::Broadcast { arguments, acknowledged: true, rooms: Tree::Array(Vec::new()) },
        }
    }

    fn answer(&mut self) -> Saying {
        let odd = shape::other_value(&mut self.rng);
        match self.rng.u8(..6) {
            0 => Saying::Sockets(odd),
            1 => Saying::Sockets(Tree::Array(vec![map(vec![("id", "forged".into()), ("rooms", odd)])])),
            2 => Saying::ServerSideAnswer(odd),
            3 => Saying::Ack(odd),
            4 => Saying::ClientCount(shape::number(&mut self.rng)),
            _ => Saying::ClientCount(odd),
        }
    }

    fn node(&mut self) -> String {
        self.rng.choice(&self.nodes).cloned().unwrap_or_default()
    }

    fn invented(&mut self) -> String {
        match self.rng.u8(..10) {
            0 => "emitter".into(),
            1..4 => format!("{:016x}", self.rng.u64(..)),
            _ => format!("invented-{}", self.rng.u16(..6000)),
        }
    }

    /// `under_way`: a request that a node waits for, if one was seen.
    fn request_id(&mut self, under_way: bool) -> Tree {
        let seen: Vec<_> = self.requests.iter().collect();
        match self.rng.choice(&seen) {
            Some(seen) if under_way => seen.as_str().into(),
            _ => format!("{:016x}", self.rng.u64(..)).into(),
        }
    }

    fn render(&mut self, saying: Saying, sender: String, numbers: bool, under_way: bool) -> Tree {
        let request = self.request_id(under_way);
        let (stamp, counters) = if numbers { (Some(self.seq_no()), Some(self.seq_no())) } else { (None, None) };
        match self.dialect {
            Dialect::Classic => classic(saying, sender, request, stamp, counters),
            dialect => envelope(saying, sender, request, stamp, counters, dialect == Dialect::MongoDb),
        }
    }

    /// A channel and a number.
    fn seq_no(&mut self) -> (u16, u64) {
        let channel = if self.rng.bool() { 0 } else { self.rng.u16(..300) };
        let number = match self.rng.u8(..6) {
            0 => u64::MAX,
            1 => u64::MAX - self.rng.u64(..10),
            2 => 0,
            3 => 1 << 32,
            4 => self.rng.u64(..),
            _ => self.rng.u64(..5000),
        };
        (channel, number)
    }
}

fn pair((channel, number): (u16, u64)) -> Tree {
    Tree::Array(vec![channel.into(), number.into()])
}

fn opts(rooms: Tree) -> Tree {
    map(vec![("rooms", rooms), ("except", Tree::Array(Vec::new())), ("flags", Tree::Map(Vec::new()))])
}

fn everywhere() -> Tree {
    opts(Tree::Array(Vec::new()))
}

fn packet(arguments: Tree) -> Tree {
    map(vec![("type", 2.into()), ("data", arguments)])
}

fn envelope(
    saying: Saying,
    sender: String,
    request: Tree,
    stamp: Option<(u16, u64)>,
    counters: Option<(u16, u64)>,
    leaves_by_heartbeat: bool,
) -> Tree {
    let is_leave = matches!(saying, Saying::Leaving);
    let is_heartbeat = matches!(saying, Saying::Heartbeat { .. });
    let (kind, data) = match saying {
        Saying::Broadcast { arguments, acknowledged: false, rooms } => {
            (3, Some(vec![("packet", packet(arguments)), ("opts", opts(rooms))]))
        }
        Saying::Broadcast { arguments, rooms, .. } => {
            (3, Some(vec![("packet", packet(arguments)), ("requestId", request), ("opts", opts(rooms))]))
        }
        Saying::Heartbeat { initial } => (if initial { 1 } else { 2 }, None),
        Saying::Leaving => (if leaves_by_heartbeat { 2 } else { 13 }, None),
        Saying::FetchSockets => (7, Some(vec![("opts", everywhere()), ("requestId", request)])),
        Saying::ServerSideEmit { arguments } => (9, Some(vec![("requestId", request), ("packet", arguments)])),
        Saying::Sockets(sockets) => (8, Some(vec![("requestId", request), ("sockets", sockets)])),
        Saying::ServerSideAnswer(value) => (10, Some(vec![("requestId", request), ("packet", value)])),
        Saying::ClientCount(count) => (11, Some(vec![("requestId", request), ("clientCount", count)])),
        Saying::Ack(value) => (12, Some(vec![("requestId", request), ("packet", value)])),
    };
    let mut fields = vec![("type", Tree::from(kind))];
    fields.extend(data.map(|data| ("data", map(data))));
    fields.extend([("uid", sender.into()), ("nsp", "/".into())]);
    fields.extend((is_leave && leaves_by_heartbeat).then(|| ("leaving", true.into())));
    fields.extend(stamp.filter(|_| !is_heartbeat && !is_leave).map(|stamp| ("stamp", pair(stamp))));
    fields.extend(counters.filter(|_| is_heartbeat).map(|mark| ("counters", Tree::Array(vec![pair(mark)]))));
    map(fields)
}

fn classic(
    saying: Saying,
    sender: String,
    request: Tree,
    stamp: Option<(u16, u64)>,
    counters: Option<(u16, u64)>,
) -> Tree {
    let own = || ("uid", Tree::from(sender.clone()));
    let packet = |arguments| map(vec![("type", 2.into()), ("data", arguments), ("nsp", "/".into())]);
    match saying {
        Saying::Broadcast { arguments, acknowledged: false, rooms } => {
            let mut items = vec![sender.into(), packet(arguments), opts(rooms)];
            items.extend(stamp.map(|(channel, number)| {
                Tree::Binary([&channel.to_be_bytes()[..], &number.to_be_bytes()[..]].concat())
            }));
            Tree::Array(items)
        }
        Saying::Broadcast { arguments, rooms, .. } => map(vec![
            own(),
            ("requestId", request),
            ("type", 7.into()),
            ("packet", packet(arguments)),
            ("opts", opts(rooms)),
        ]),
        Saying::Heartbeat { initial } => {
            let mut fields = vec![own(), ("type", if initial { 101 } else { 102 }.into())];
            fields.extend(counters.map(|mark| ("counters", Tree::Array(vec![pair(mark)]))));
            map(fields)
        }
        Saying::Leaving => map(vec![own(), ("type", 113.into())]),
        Saying::FetchSockets => map(vec![own(), ("requestId", request), ("type", 5.into()), ("opts", everywhere())]),
        Saying::ServerSideEmit { arguments } => {
            map(vec![own(), ("requestId", request), ("type", 6.into()), ("data", arguments)])
        }
        Saying::Sockets(sockets) => map(vec![("requestId", request), ("sockets", sockets)]),
        Saying::ServerSideAnswer(value) => map(vec![("type", 6.into()), ("requestId", request), ("data", value)]),
        Saying::ClientCount(count) => map(vec![("type", 8.into()), ("requestId", request), ("clientCount", count)]),
        Saying::Ack(value) => map(vec![("type", 9.into()), ("requestId", request), ("packet", value)]),
    }
}
