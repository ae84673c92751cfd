//! The room index with 100,000 sockets in 10 rooms each: 1,000,000 memberships, 10,000 rooms of 100 sockets.

#![allow(missing_docs, reason = "criterion's macro makes undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use trunkline_core::{Room, RoomIndex, Target};

const SOCKETS: usize = 100_000;
const ROOMS: usize = 10_000;
const ROOMS_PER_SOCKET: usize = 10;

fn room(number: usize) -> Room {
    Room::from(format!("room-{}", number % ROOMS))
}

/// The rooms of a socket: spread, so that those of one room share no other.
fn rooms_of(socket: usize) -> impl Iterator<Item = Room> {
    (0..ROOMS_PER_SOCKET).map(move |nth| room(socket + nth * (1 + socket / ROOMS) * 7))
}

fn full_index() -> RoomIndex<u32> {
    let mut index = RoomIndex::new();
    for socket in 0..SOCKETS {
        index.insert(socket as u32);
        for room in rooms_of(socket) {
            index.join(&(socket as u32), &room);
        }
    }
    index
}

fn memberships(c: &mut Criterion) {
    let mut index = full_index();
    let mut group = c.benchmark_group("room_index");
    let (socket, other) = (4711, room(42));
    group.bench_function("join and leave a room", |b| {
        b.iter(|| {
            index.join(&socket, black_box(&other));
            index.leave(&socket, black_box(&other))
        });
    });
    let rooms: Vec<_> = rooms_of(17).collect();
    group.bench_function("come, join ten rooms, go", |b| {
        b.iter(|| {
            let socket = SOCKETS as u32;
            index.insert(socket);
            for room in &rooms {
                index.join(&socket, room);
            }
            index.remove(&socket)
        });
    });
}

fn matching(c: &mut Criterion) {
    let index = full_index();
    let mut group = c.benchmark_group("room_index");
    for (name, target) in [
        ("a room of 100", Target::room(room(1))),
        ("an empty room", Target::room("nowhere")),
        ("a room except another", Target::room(room(1)).except(room(8))),
        ("three rooms", Target::rooms([room(1), room(2), room(3)])),
        ("all", Target::all()),
        ("all except a room", Target::all().except(room(1))),
    ] {
        group.bench_function(format!("match {name}"), |b| {
            b.iter(|| {
                let mut matched = 0_u64;
                index.for_each_match(black_box(&target), |socket| matched += u64::from(*socket));
                matched
            });
        });
    }
}

criterion_group!(benches, memberships, matching);
criterion_main!(benches);
