//! Payloads: validated where they enter, converted between the encodings, made of values.

#![allow(missing_docs, reason = "criterion's macro makes undocumented functions")]
// Helpers unwrap: a panic here is a broken benchmark.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trunkline_core::payload::{Payload, Rules, json};

/// What [`objects`] are made of.
#[derive(Debug, serde::Deserialize)]
struct Entry {
    id: u32,
    name: String,
    on: bool,
}

/// An argument list with one text of `size` bytes.
fn text(size: usize) -> Payload {
    Payload::from_json(format!(r#"["message","{}"]"#, "x".repeat(size))).unwrap()
}

/// An argument list of small objects, about `size` bytes.
fn objects(size: usize) -> Payload {
    let items: Vec<_> = (0..size / 40).map(|n| format!(r#"{{"id":{n},"name":"someone","on":true}}"#)).collect();
    Payload::from_json(format!(r#"["list",{}]"#, items.join(","))).unwrap()
}

fn conversions(c: &mut Criterion) {
    let mut group = c.benchmark_group("payload");
    for (name, json) in [("text 128", text(128)), ("text 10240", text(10_240)), ("objects 10240", objects(10_240))] {
        let msgpack = json.to_msgpack(Rules::Notepack).unwrap();
        let packed = Payload::from_msgpack(msgpack.clone()).unwrap();
        let source = json.to_json().text;
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(format!("validate json {name}"), |b| {
            b.iter(|| Payload::from_json(black_box(source.clone())).unwrap());
        });
        group.bench_function(format!("validate msgpack {name}"), |b| {
            b.iter(|| Payload::from_msgpack(black_box(msgpack.clone())).unwrap());
        });
        group.bench_function(format!("to msgpack {name}"), |b| {
            b.iter(|| black_box(&json).to_msgpack(Rules::Notepack).unwrap());
        });
        group.bench_function(format!("to json {name}"), |b| b.iter(|| black_box(&packed).to_json()));
        group.bench_function(format!("msgpack to Rust values {name}"), |b| {
            b.iter(|| black_box(&packed).deserialize::<Vec<serde_json::Value>>().unwrap());
        });
    }
    let entries = Payload::from_msgpack(objects(10_240).to_msgpack(Rules::Notepack).unwrap()).unwrap();
    group.bench_function("msgpack to structs objects 10240", |b| {
        b.iter(|| {
            let entries = black_box(&entries).arguments::<Vec<Entry>>().unwrap();
            entries.iter().map(|entry| entry.id as usize + entry.name.len() + usize::from(entry.on)).sum::<usize>()
        });
    });
    group.finish();
    c.bench_function("payload/event from a tuple", |b| {
        b.iter(|| Payload::event("message", black_box(&("someone", "x".repeat(100), 1))).unwrap());
    });
}

/// What rmp-serde alone takes, without JavaScript's numbers, dates, keys and invalid UTF-8.
fn rmp_serde_alone(c: &mut Criterion) {
    let payload = objects(10_240);
    let packed = payload.to_msgpack(Rules::Notepack).unwrap();
    let entries = rmp_serde::to_vec(&payload.arguments::<Vec<serde_json::Value>>().unwrap()).unwrap();
    c.bench_function("payload/rmp-serde alone to Rust values, objects 10240", |b| {
        b.iter(|| rmp_serde::from_slice::<Vec<serde_json::Value>>(black_box(&packed)).unwrap());
    });
    c.bench_function("payload/rmp-serde alone to structs, objects 10240", |b| {
        b.iter(|| rmp_serde::from_slice::<Vec<Entry>>(black_box(&entries)).unwrap().len());
    });
}

/// Escaping of JSON text, here and by serde_json.
fn escaping(c: &mut Criterion) {
    for size in [16, 128, 10_240] {
        let text = "x".repeat(size);
        let mut out = Vec::with_capacity(size + 2);
        c.bench_function(&format!("payload/escape {size}"), |b| {
            b.iter(|| {
                out.clear();
                json::escape(&mut out, black_box(&text));
            });
        });
        c.bench_function(&format!("payload/escape {size} by serde_json"), |b| {
            b.iter(|| {
                out.clear();
                serde_json::to_writer(&mut out, black_box(&text)).unwrap();
            });
        });
    }
}

/// What conversion through a tree of values would cost.
fn tree(c: &mut Criterion) {
    let json = objects(10_240);
    let text = json.as_json_text().unwrap();
    c.bench_function("payload/a value tree there and back, objects 10240", |b| {
        b.iter(|| serde_json::to_string(&serde_json::from_str::<serde_json::Value>(black_box(text)).unwrap()).unwrap());
    });
}

criterion_group!(benches, conversions, rmp_serde_alone, escaping, tree);
criterion_main!(benches);
