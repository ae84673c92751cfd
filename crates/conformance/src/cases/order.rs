//! What one sender sends arrives complete and in order.

use trunkline_core::{Adapter as _, Payload, Target};

use crate::kit::{Checked, Packet, TestCluster, check_eq};

/// An event with its number and so much text that it has about `bytes` bytes.
fn numbered(number: usize, bytes: usize) -> Checked<Payload> {
    Ok(Payload::event("n", &(number, "x".repeat(bytes.saturating_sub(16))))?)
}

fn numbers(packets: &[Packet]) -> Vec<usize> {
    packets.iter().map(|packet| packet.payload.arguments::<(usize, String)>().map_or(usize::MAX, |(n, _)| n)).collect()
}

pub(crate) async fn ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["room"]).await?;
    let count = t.scaled(10_000, 1000);
    for number in 0..count {
        let bytes = match number {
            _ if number % 500 == 499 => 1_000_000,
            _ if number % 20 == 19 => 20_000,
            _ => 100,
        };
        a.broadcast(Target::room("room"), numbered(number, bytes)?).await?;
    }
    let packets = socket.wait_for(count).await?;
    check_eq(numbers(&packets), (0..count).collect::<Vec<_>>(), "numbers in the order of arrival")
}
