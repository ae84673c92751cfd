//! Arbitrary values, for property tests.

use bytes::Bytes;
use proptest::prelude::*;
use trunkline_core::payload::{Number, Payload, Rules, Sink, json, msgpack};

/// A value as both encodings can hold it.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
    Binary(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Tree {
    /// Writes the value; lengths are told in advance only if `sized`.
    pub(crate) fn write(&self, sink: &mut impl Sink, sized: bool) {
        let len = |len: usize| sized.then_some(len);
        match self {
            Self::Null => sink.null(),
            Self::Boolean(value) => sink.boolean(*value),
            Self::Number(number) => sink.number(*number),
            Self::Text(text) => sink.text(text),
            Self::Binary(data) => sink.binary(Bytes::copy_from_slice(data)),
            Self::List(items) => {
                sink.begin_array(len(items.len()));
                items.iter().for_each(|item| item.write(sink, sized));
                sink.end_array(len(items.len()));
            }
            Self::Map(entries) => {
                sink.begin_map(len(entries.len()));
                for (key, value) in entries {
                    sink.key(key);
                    value.write(sink, sized);
                }
                sink.end_map(len(entries.len()));
            }
        }
    }

    pub(crate) fn to_json(&self) -> Payload {
        let mut out = Vec::new();
        let mut writer = json::Writer::new(&mut out, json::Binary::Attached(Vec::new()));
        self.write(&mut writer, false);
        let attachments = writer.into_attachments();
        Payload::from_json_with(String::from_utf8(out).unwrap(), attachments).unwrap()
    }

    pub(crate) fn to_msgpack(&self, rules: Rules) -> Payload {
        let mut out = Vec::new();
        self.write(&mut msgpack::Writer::new(&mut out, rules), true);
        Payload::from_msgpack(out).unwrap()
    }
}

/// Any value.
pub(crate) fn tree() -> BoxedStrategy<Tree> {
    leaf()
        .prop_recursive(5, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Tree::List),
                prop::collection::vec((text(), inner), 0..20).prop_map(Tree::Map),
            ]
        })
        .boxed()
}

/// Any argument list.
pub(crate) fn arguments() -> BoxedStrategy<Tree> {
    prop::collection::vec(tree(), 0..5)
        .prop_map(|mut arguments| {
            arguments.insert(0, Tree::Text("event".into()));
            Tree::List(arguments)
        })
        .boxed()
}

fn leaf() -> impl Strategy<Value = Tree> {
    prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Boolean),
        number().prop_map(Tree::Number),
        text().prop_map(Tree::Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Tree::Binary),
    ]
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::Unsigned),
        any::<i64>().prop_map(Number::from),
        any::<f64>().prop_map(Number::Float),
        any::<i32>().prop_map(|value| Number::Float(value.into())),
        (0..64_u32, -2..3_i64).prop_map(|(bits, near)| Number::from((1_i64 << bits).wrapping_add(near))),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1e21), Just(9_007_199_254_740_992.0)]
            .prop_map(Number::Float),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z\"\\\\\n\u{1}é😀]{0,40}", "[ -~]{30,35}"]
}
