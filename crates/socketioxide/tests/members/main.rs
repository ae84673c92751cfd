//! The cost of finding the members of a room here: whether it has any, which is asked for every message to one room, and
//! which sockets they are.

// In helpers of tests, too, a panic is the failure message.
#![allow(clippy::unwrap_used)]

mod stub;

use std::sync::atomic::Ordering;

use socketioxide_core::adapter::CoreAdapter;
use trunkline_core::{Local, Room, Target};

/// Bytes allocated by one look at a room, after the first one: memory is what an answer by collecting would take.
async fn bytes_of_a_look(members: usize) -> u64 {
    let (adapter, _) = stub::adapter(&format!("look-{members}"), members, "x").await;
    let room = Room::from("x");
    assert!(adapter.has_room(&room));
    let allocated = allocation_counter::measure(|| assert!(adapter.has_room(&room)));
    allocated.bytes_total
}

#[tokio::test]
async fn finding_out_whether_a_room_has_members_costs_the_same_for_100_and_for_10_000() {
    let few = bytes_of_a_look(100).await;
    let many = bytes_of_a_look(10_000).await;
    assert_eq!(few, many);
    assert!(many < 1000, "{many} bytes");
}

/// Members of a small room.
const FEW: usize = 10;

/// Bytes allocated, and sockets looked at, to describe the members of a small room among so many sockets.
async fn cost_of_a_fetch(sockets: usize) -> (u64, u64) {
    let (adapter, stub) = stub::adapter(&format!("fetch-{sockets}"), sockets, "x").await;
    stub.sids[..FEW].iter().for_each(|sid| adapter.get_local().add_all(*sid, "few"));
    let target = Target::room("few");
    let fetch = || assert_eq!(Local::sockets(&*adapter, &target).len(), FEW);
    // Until the handshakes are known.
    fetch();
    stub.visited.store(0, Ordering::Relaxed);
    let allocated = allocation_counter::measure(fetch);
    (allocated.bytes_total, stub.visited.load(Ordering::Relaxed))
}

#[tokio::test]
async fn fetching_a_small_room_costs_the_same_among_100_and_100_000_sockets() {
    let few = cost_of_a_fetch(100).await;
    let many = cost_of_a_fetch(100_000).await;
    assert_eq!(few, many);
    assert_eq!(many.1, FEW as u64, "sockets looked at");
}

#[tokio::test]
async fn describing_a_socket_allocates_the_names_and_the_list_of_its_rooms() {
    let (adapter, _) = stub::adapter("describing", 1000, "x").await;
    let fetch = || assert_eq!(Local::sockets(&*adapter, &Target::all()).len(), 1000);
    fetch();
    let allocated = allocation_counter::measure(fetch).count_total;
    println!("{allocated} allocations for 1,000 sockets");
    assert!(allocated <= 2 * 1000 + 40, "{allocated} allocations for 1,000 sockets");
}

#[tokio::test]
async fn a_room_has_members_until_the_last_one_has_left() {
    let (adapter, sockets) = stub::adapter("until-the-last", 200, "x").await;
    let room = Room::from("x");
    for sid in sockets.sids.iter() {
        assert!(adapter.has_room(&room));
        adapter.get_local().del(*sid, "x");
    }
    assert!(!adapter.has_room(&room));
    adapter.get_local().add_all(sockets.sids[0], "x");
    assert!(adapter.has_room(&room));
    adapter.get_local().del_all(sockets.sids[0]);
    assert!(!adapter.has_room(&room));
}

#[tokio::test]
async fn a_member_of_many_rooms_is_no_reason_to_think_a_room_empty() {
    let (adapter, sockets) = stub::adapter("many-rooms", 100, "x").await;
    let rooms: Vec<_> = (0..1000).map(|number| format!("room {number}")).collect();
    sockets.sids.iter().for_each(|sid| adapter.get_local().add_all(*sid, rooms.clone()));
    for room in ["x", "room 0", "room 999"].map(Room::from) {
        assert!(adapter.has_room(&room) && adapter.has_room(&room));
    }
    sockets.sids.iter().for_each(|sid| adapter.get_local().del_all(*sid));
    assert!(!adapter.has_room(&Room::from("x")));
}
