//! Acknowledged broadcasts across nodes.

use std::{collections::HashSet, pin::pin, time::Duration};

use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use socketioxide::AckError;
use trunkline_core::Payload;

use crate::kit::{A, Client, Io, SHORT, event, pair, within};

/// Answers the next event of this name.
async fn answer(client: &mut Client, name: &str, arguments: Payload) {
    let packet = client.event_packet(name).await;
    client.acknowledge(&packet, arguments).await;
}

/// All answers, time-outs as `None`.
async fn gather<T: DeserializeOwned>(stream: socketioxide::ack::AckStream<T, A>) -> Vec<Option<T>> {
    let answers = stream.map(|(_, answer)| match answer {
        Ok(value) => Some(value),
        Err(AckError::Timeout) => None,
        Err(error) => panic!("{error}"),
    });
    within(answers.collect()).await
}

async fn ask<T: DeserializeOwned>(io: &Io, name: &str, timeout: Duration) -> socketioxide::ack::AckStream<T, A> {
    io.timeout(timeout).emit_with_ack::<_, T>(name, &()).await.unwrap()
}

#[tokio::test]
async fn every_client_of_every_node_answers() {
    let [a, b] = pair().await;
    let mut clients = [Client::of(&a, &[]).await, Client::of(&b, &[]).await, Client::of(&b, &[]).await];
    let answers = ask::<String>(&a.io, "who", Duration::from_secs(20)).await;
    for client in &mut clients {
        let id = client.id.clone();
        answer(client, "who", Payload::value(&[id]).unwrap()).await;
    }
    let answers: HashSet<_> = gather(answers).await.into_iter().flatten().collect();
    assert_eq!(answers, clients.iter().map(|client| client.id.clone()).collect());
}

#[tokio::test]
async fn answers_may_be_binary_empty_or_several() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    let picture = bytes::Bytes::from_static(&[0, 255]);
    let answers = ask::<bytes::Bytes>(&a.io, "picture", Duration::from_secs(20)).await;
    answer(&mut client, "picture", Payload::value(&[&picture]).unwrap()).await;
    assert_eq!(gather(answers).await, [Some(picture)]);

    let answers = ask::<i32>(&a.io, "numbers", Duration::from_secs(20)).await;
    answer(&mut client, "numbers", Payload::value(&[1, 2]).unwrap()).await;
    assert_eq!(gather(answers).await, [Some(1)], "the first one counts");

    let answers = ask::<Vec<i32>>(&a.io, "nothing", Duration::from_secs(20)).await;
    answer(&mut client, "nothing", Payload::from_json("[]").unwrap()).await;
    let mut answers = pin!(answers);
    let (_, nothing) = within(answers.next()).await.unwrap();
    assert!(matches!(nothing, Err(AckError::Decode(_))), "{nothing:?}");
    assert!(within(answers.next()).await.is_none());
}

#[tokio::test]
async fn an_acknowledged_broadcast_to_no_socket_ends_at_once() {
    let [a, _b] = pair().await;
    let answers = ask::<i32>(&a.io, "anyone", Duration::from_secs(3600)).await;
    assert_eq!(gather(answers).await, []);
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_a_time_out_and_the_others_are_kept() {
    let [a, b] = pair().await;
    let mut eager = Client::of(&b, &[]).await;
    let _silent = [Client::of(&a, &[]).await, Client::of(&b, &[]).await];
    let answers = ask::<i32>(&a.io, "who", SHORT).await;
    answer(&mut eager, "who", Payload::value(&[7]).unwrap()).await;
    assert_eq!(gather(answers).await, [Some(7), None, None]);
}

#[tokio::test]
async fn a_node_that_leaves_ends_the_wait_for_its_clients() {
    let [a, b] = pair().await;
    let mut near = Client::of(&a, &[]).await;
    let mut far = Client::of(&b, &[]).await;
    let answers = ask::<i32>(&a.io, "who", Duration::from_secs(3600)).await;
    far.event("who").await;
    b.io.close().await;
    answer(&mut near, "who", Payload::value(&[1]).unwrap()).await;
    assert_eq!(gather(answers).await.into_iter().flatten().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_remote_socket_answers_for_itself() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &["x"]).await;
    let socket = a.io.within("x").fetch_sockets().await.unwrap().remove(0);
    let answer_to_come = socket.emit_with_ack::<_, i32>("you", &()).await.unwrap();
    answer(&mut client, "you", Payload::value(&[3]).unwrap()).await;
    assert_eq!(within(answer_to_come).await.unwrap(), 3);
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_socket() {
    let [a, b] = pair().await;
    let mut near = Client::of(&a, &[]).await;
    let mut far = Client::of(&b, &[]).await;
    let answers = a.io.local().emit_with_ack::<_, i32>("you", &()).await.unwrap();
    answer(&mut near, "you", Payload::value(&[4]).unwrap()).await;
    let answers: Vec<_> = within(answers.collect()).await;
    let [(id, Ok(4))] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(id.as_str(), near.id);
    let answers = ask::<i32>(&a.io, "all", Duration::from_secs(20)).await;
    answer(&mut near, "all", Payload::value(&[1]).unwrap()).await;
    answer(&mut far, "all", Payload::value(&[2]).unwrap()).await;
    let mut answers: Vec<_> =
        within(answers.map(|(id, answer)| (answer.unwrap(), id.to_string())).collect::<Vec<_>>()).await;
    answers.sort();
    assert_eq!(answers, [(1, near.id.clone()), (2, far.id.clone())]);
}

#[tokio::test]
async fn acknowledged_and_plain_broadcasts_arrive_in_the_order_of_emitting() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    let mut asked = Vec::new();
    for round in 0..200 {
        a.io.emit("plain", &round).await.unwrap();
        asked.push(ask::<i32>(&a.io, "asked", Duration::from_secs(20)).await);
    }
    a.io.emit("end", &()).await.unwrap();
    let events = client.until("end").await;
    for (round, pair) in events.chunks(2).enumerate() {
        assert_eq!(pair[0], event("plain", round));
        assert_eq!(pair[1].event_name().unwrap(), "asked");
    }
    assert_eq!(events.len(), 400);
}

#[tokio::test]
async fn malformed_acknowledgements_are_decoding_errors_and_harm_nothing_else() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    let answers = ask::<i32>(&a.io, "who", Duration::from_secs(20)).await;
    let packet = client.event_packet("who").await;
    client.raw(&format!("43{}[1,{{\"_placeholder\":true,\"num\":3}}", packet.id.unwrap())).await;
    let answers: Vec<_> = within(answers.collect()).await;
    assert!(matches!(answers.as_slice(), [(_, Err(AckError::Decode(_)))]), "{answers:?}");
}
