//! Encoding, decoding and peeking at messages, by size of the payload.

#![allow(missing_docs, reason = "criterion's macro makes undocumented functions")]
// Helpers unwrap: a panic here is a broken benchmark.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trunkline_core::{
    codec::{self, Format},
    model::{Message, Namespace, NodeId, SeqChannel, SeqNo, Target},
    payload::{Payload, Rules},
};

const MSGPACK: Format = Format::MsgPack(Rules::Notepack);

/// An argument list with one text of `size` bytes.
fn text(size: usize) -> Payload {
    Payload::from_json(format!(r#"["message","{}"]"#, "x".repeat(size))).unwrap()
}

/// An argument list of small objects, about `size` bytes.
fn objects(size: usize) -> Payload {
    let items: Vec<_> = (0..size / 40).map(|n| format!(r#"{{"id":{n},"name":"someone","on":true}}"#)).collect();
    Payload::from_json(format!(r#"["list",{}]"#, items.join(","))).unwrap()
}

fn packed(payload: &Payload) -> Payload {
    Payload::from_msgpack(payload.to_msgpack(Rules::Notepack).unwrap()).unwrap()
}

fn broadcast(payload: Payload) -> Message {
    Message::Broadcast { request: None, target: Target::room("room-1"), payload }
}

fn encode(format: Format, message: &Message, from: &NodeId, namespace: &Namespace) -> Vec<u8> {
    let seq_no = SeqNo { channel: SeqChannel::ALL, number: 123_456 };
    codec::encode(format, from, namespace, message).unwrap().finish(Some(seq_no), &[])
}

fn messages(c: &mut Criterion) {
    let (from, namespace) = (NodeId::new("0123456789abcdef").unwrap(), Namespace::new("/"));
    let payloads = [("text 128", text(128)), ("text 10240", text(10_240)), ("objects 10240", objects(10_240))];
    for (name, payload) in payloads {
        for (format, message) in [(Format::Json, broadcast(payload.clone())), (MSGPACK, broadcast(packed(&payload)))] {
            let bytes = Bytes::from(encode(format, &message, &from, &namespace));
            let id = |what: &str| BenchmarkId::new(what.to_owned(), format!("{name} {format:?}"));
            let mut group = c.benchmark_group("codec");
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(id("encode"), |b| b.iter(|| encode(format, black_box(&message), &from, &namespace)));
            group.bench_function(id("decode"), |b| b.iter(|| codec::decode(black_box(&bytes)).unwrap()));
            group.bench_function(id("peek"), |b| b.iter(|| codec::peek(black_box(&bytes)).unwrap()));
        }
    }
}

criterion_group!(benches, messages);
criterion_main!(benches);
