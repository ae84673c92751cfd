//! Messages that no node would send.

mod bytes;
mod protocol;
mod shape;
mod spelling;

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;

use crate::{
    client::TRAFFIC,
    tree::{self, Tree},
};

/// How messages look on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{type, data, uid, nsp}`
    Envelope,
    /// As `Envelope`, but a leave is a heartbeat with `leaving`.
    MongoDb,
    /// Arrays and requests of `@socket.io/redis-adapter`.
    Classic,
}

/// What a forged message may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Anything but offsets, and numbers and answers under the name of a running node: the valid traffic must not suffer at all.
    Content,
    /// Those, too: what they make a node miss must be counted, and is made good afterwards.
    Numbers,
}

/// A message to send.
#[derive(Clone, Debug)]
pub(crate) enum Forged {
    /// To be encoded as the channel wants it.
    Tree(Tree),
    Bytes(Vec<u8>),
}

/// Source of hostile messages. The same seed and the same observations make the same messages.
#[derive(Debug)]
pub(crate) struct Forger {
    pub(crate) rng: Rng,
    dialect: Dialect,
    pub(crate) phase: Phase,
    golden: Vec<Tree>,
    observed: VecDeque<Tree>,
    /// Ids of the running nodes.
    nodes: Vec<String>,
    /// Ids of requests that were under way.
    requests: VecDeque<String>,
    /// How many messages of each sort were made.
    pub(crate) made: BTreeMap<&'static str, u64>,
}

/// Messages of running nodes that are kept as a model.
const OBSERVED: usize = 256;
/// Requests that are kept to be answered.
const REQUESTS: usize = 64;
/// A room without members, the target of all forged operations that would change what the valid traffic reaches.
const NOWHERE: &str = "nowhere";
/// What takes the place of the valid traffic's event name.
const HEARSAY: &str = "hearsay";

impl Forger {
    pub(crate) fn new(seed: u64, dialect: Dialect, golden: Vec<Tree>, nodes: Vec<String>) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            dialect,
            phase: Phase::Content,
            golden,
            observed: VecDeque::new(),
            nodes,
            requests: VecDeque::new(),
            made: BTreeMap::new(),
        }
    }

    /// Notes a message of the running nodes, under another event name: a repetition of it must not look like a repeat.
    pub(crate) fn observe(&mut self, mut message: Tree) {
        tree::replace_text(&mut message, TRAFFIC, HEARSAY);
        for holder in [tree::get(&message, "data"), Some(&message)].into_iter().flatten() {
            if let Some(request) = tree::get(holder, "requestId").and_then(Tree::as_str) {
                self.requests.push_back(request.to_owned());
            }
        }
        self.observed.push_back(message);
        self.observed.drain(..self.observed.len().saturating_sub(OBSERVED));
        self.requests.drain(..self.requests.len().saturating_sub(REQUESTS));
    }

    /// The next hostile message.
    pub(crate) fn next(&mut self) -> Forged {
        loop {
            let (sort, forged) = self.forge();
            if self.is_allowed(&forged) {
                *self.made.entry(sort).or_default() += 1;
                return forged;
            }
        }
    }

    fn forge(&mut self) -> (&'static str, Forged) {
        match self.rng.u8(..100) {
            0..5 => ("garbage", Forged::Bytes(bytes::garbage(&mut self.rng))),
            5..15 => ("truncated", self.damaged(bytes::truncate)),
            15..25 => ("damaged bytes", self.damaged(bytes::damage)),
            25..30 => ("spelling", self.respelled()),
            30..35 => ("spliced", self.spliced()),
            35..55 => ("type confusion", self.reshaped(shape::confuse)),
            55..62 => ("keys", self.reshaped(shape::scramble_keys)),
            62..70 => ("numbers", self.reshaped(shape::odd_number)),
            70..73 => ("depth", self.reshaped(shape::deepen)),
            73..75 => ("size", self.reshaped(shape::inflate)),
            75..80 => ("sender", self.reshaped(shape::odd_sender)),
            _ => {
                let (sort, tree) = self.protocol();
                (sort, Forged::Tree(self.disarmed(tree)))
            }
        }
    }

    /// A message to change: captured from official peers, or from the running nodes.
    fn model(&mut self) -> Tree {
        let from_nodes = !self.observed.is_empty() && (self.golden.is_empty() || self.rng.bool());
        let tree = if from_nodes {
            self.observed[self.rng.usize(..self.observed.len())].clone()
        } else {
            self.golden[self.rng.usize(..self.golden.len())].clone()
        };
        self.disarmed(tree)
    }

    fn reshaped(&mut self, change: impl Fn(&mut Tree, &mut Rng)) -> Forged {
        let mut tree = self.model();
        for _ in 0..self.rng.usize(1..3) {
            change(&mut tree, &mut self.rng);
        }
        Forged::Tree(self.disarmed(tree))
    }

    fn damaged(&mut self, change: impl Fn(&mut Vec<u8>, &mut Rng)) -> Forged {
        let mut bytes = self.encoded_model();
        change(&mut bytes, &mut self.rng);
        Forged::Bytes(bytes)
    }

    fn spliced(&mut self) -> Forged {
        let (head, tail) = (self.encoded_model(), self.encoded_model());
        let (to, from) = (self.rng.usize(..=head.len()), self.rng.usize(..=tail.len()));
        Forged::Bytes([&head[..to], &tail[from..]].concat())
    }

    fn respelled(&mut self) -> Forged {
        let model = self.model();
        let is_packed = model.is_array() || self.rng.bool();
        let spell = if is_packed { spelling::msgpack } else { spelling::json };
        Forged::Bytes(spell(&model, &mut self.rng))
    }

    fn encoded_model(&mut self) -> Vec<u8> {
        let model = self.model();
        if model.is_array() || self.rng.u8(..10) < 3 { tree::to_msgpack(&model) } else { tree::to_json(&model).into() }
    }

    /// The same without what must not be forged in this phase, and aimed at nobody if it moves or disconnects sockets.
    fn disarmed(&self, mut tree: Tree) -> Tree {
        if self.phase == Phase::Content {
            // The number of a row in PostgreSQL's history.
            tree::remove(&mut tree, "offset");
        }
        if self.phase == Phase::Content && self.is_of_a_node(&tree) {
            for key in ["stamp", "counters"] {
                tree::remove(&mut tree, key);
            }
            if let Tree::Array(items) = &mut tree {
                items.truncate(3);
            }
        }
        if self.moves_sockets(&tree) {
            let opts = tree::map(vec![
                ("rooms", Tree::Array(vec![NOWHERE.into()])),
                ("except", Tree::Array(Vec::new())),
                ("flags", Tree::Map(Vec::new())),
            ]);
            match tree::get(&tree, "data") {
                Some(data) if self.dialect != Dialect::Classic => {
                    let mut data = if data.is_map() { data.clone() } else { Tree::Map(Vec::new()) };
                    tree::set(&mut data, "opts", opts);
                    tree::set(&mut tree, "data", data);
                }
                _ => tree::set(&mut tree, "opts", opts),
            }
        }
        tree
    }

    /// Bytes that are a whole message by chance are held to the same.
    fn is_allowed(&self, forged: &Forged) -> bool {
        let Forged::Bytes(bytes) = forged else { return true };
        let Some(tree) = tree::decode(bytes).or_else(|| tree::decode_text(bytes)) else { return true };
        self.disarmed(tree.clone()) == tree
    }

    fn is_of_a_node(&self, tree: &Tree) -> bool {
        let sender = match tree {
            Tree::Array(items) => items.first(),
            tree => tree::get(tree, "uid"),
        };
        sender.and_then(Tree::as_str).is_some_and(|sender| self.nodes.iter().any(|node| node == sender))
    }

    /// Whether it makes sockets leave rooms or the server.
    fn moves_sockets(&self, tree: &Tree) -> bool {
        let kinds: &[f64] = if self.dialect == Dialect::Classic { &[3.0, 4.0] } else { &[5.0, 6.0] };
        let is_move = |kind: &Tree| {
            let number = kind.as_f64().or_else(|| kind.as_str()?.parse().ok());
            number.is_some_and(|number| kinds.contains(&number))
        };
        tree.as_map()
            .is_some_and(|fields| fields.iter().any(|(key, value)| key.as_str() == Some("type") && is_move(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forger(dialect: Dialect) -> Forger {
        let mut forger = Forger::new(7, dialect, crate::golden::all(dialect).unwrap(), vec!["live".into()]);
        forger.observe(
            tree::decode(br#"{"type":9,"data":{"requestId":"r","packet":["traffic"]},"uid":"live","stamp":[0,1]}"#)
                .unwrap(),
        );
        forger
    }

    /// Deep trees are walked by recursion, for which the stack of a test is too small.
    fn on_a_large_stack(check: fn()) {
        std::thread::Builder::new().stack_size(256 << 20).spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn the_same_seed_makes_the_same_messages() {
        on_a_large_stack(check_seeds);
    }

    fn check_seeds() {
        let made = |_| {
            let mut forger = forger(Dialect::Envelope);
            (0..2000).map(|_| format!("{:?}", forger.next())).collect::<Vec<_>>()
        };
        assert_eq!(made(0), made(1));
    }

    #[test]
    fn content_is_forged_without_numbers_of_nodes_and_moves_nobody() {
        on_a_large_stack(check_content);
    }

    fn check_content() {
        for dialect in [Dialect::Envelope, Dialect::MongoDb, Dialect::Classic] {
            let mut forger = forger(dialect);
            for _ in 0..20_000 {
                let forged = forger.next();
                let tree = match forged {
                    Forged::Tree(tree) => tree,
                    Forged::Bytes(bytes) => match tree::decode(&bytes) {
                        Some(tree) => tree,
                        None => continue,
                    },
                };
                if forger.is_of_a_node(&tree) {
                    assert!(tree::get(&tree, "stamp").is_none() && tree::get(&tree, "counters").is_none(), "{tree}");
                }
                if forger.moves_sockets(&tree) {
                    assert!(tree.to_string().contains(NOWHERE), "{tree}");
                }
            }
            assert!(forger.made.len() > 15, "{:?}", forger.made);
        }
    }
}
