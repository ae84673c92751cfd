//! Broadcasts with acknowledgements.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use trunkline_core::{Ack, Payload, Target};

use super::{anything, gathered_without, timed_out};
use crate::kit::{
    Checked, ClientSpec, TestCluster, check, check_eq,
    values::{ids_as_answers, text, texts},
};

fn question() -> Checked<Payload> {
    Ok(Payload::event("question", &())?)
}

fn values(acks: &[Ack]) -> impl Iterator<Item = &Option<Payload>> {
    acks.iter().map(|ack| &ack.value)
}

pub(crate) async fn every_client_of_every_node_acknowledges(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?, b.socket(["y"]).await?, c.socket(["y"]).await?];
    let acks = a.broadcast_with_ack(Target::all(), question()?).await?.collect().await?;
    check_eq(texts(values(&acks)), ids_as_answers(&sockets), "acknowledgements")?;
    for Ack { socket, value } in &acks {
        let id = socket.as_ref().map(|socket| format!("{:?}", socket.as_str()));
        check_eq(id, value.as_ref().map(text), "id of the socket that acknowledged")?;
    }
    for socket in &sockets {
        check(socket.only_packet()?.wants_ack, "the client was not asked for an acknowledgement")?;
    }
    Ok(())
}

pub(crate) async fn hundreds_of_equal_acknowledgements_are_all_returned(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    for _ in 0..300 {
        b.connect(ClientSpec::new().answering(Payload::value("yes")?)).await?;
    }
    let acks = a.broadcast_with_ack(Target::all(), question()?).await?.collect().await?;
    check_eq(texts(values(&acks)), vec!["\"yes\""; 300], "acknowledgements")
}

pub(crate) async fn only_clients_of_the_target_are_asked(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let inside = [a.socket(["x"]).await?, b.socket(["x", "y"]).await?];
    let outside = [a.socket(["z"]).await?, b.socket(["x", "quiet"]).await?];
    let target = Target::rooms(["x", "y"]).except("quiet");
    let acks = a.broadcast_with_ack(target, question()?).await?.collect().await?;
    check_eq(texts(values(&acks)), ids_as_answers(&inside), "acknowledgements")?;
    a.settle().await?;
    outside.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn acknowledgements_keep_their_meaning(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let answer = Payload::value(&anything())?;
    a.connect(ClientSpec::new().answering(answer.clone())).await?;
    b.connect(ClientSpec::new().answering(answer.clone())).await?;
    let acks = a.broadcast_with_ack(Target::all(), question()?).await?.collect().await?;
    check_eq(acks.len(), 2, "number of acknowledgements")?;
    check(values(&acks).flatten().all(|value| value.same_meaning(&answer)), format!("got {:?}", texts(values(&acks))))
}

pub(crate) async fn acknowledgements_carry_binary(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let answer = Payload::value(&("blob", [Bytes::from_iter(0..=u8::MAX)], Bytes::new()))?;
    b.connect(ClientSpec::new().answering(answer.clone())).await?;
    let question = Payload::event("question", &(Bytes::from_static(b"\0\xff"),))?;
    let acks = a.broadcast_with_ack(Target::all(), question).await?.collect().await?;
    check_eq(acks.len(), 1, "number of acknowledgements")?;
    check(values(&acks).flatten().any(|value| value.same_meaning(&answer)), format!("got {:?}", texts(values(&acks))))
}

pub(crate) async fn large_broadcasts_and_acknowledgements_arrive_whole(t: TestCluster) -> Checked {
    let bytes = t.scaled_within_limit(500_000).await?;
    let [a, b] = t.nodes().await?;
    let answer = Payload::value(&"x".repeat(bytes))?;
    let socket = b.connect(ClientSpec::new().answering(answer.clone())).await?;
    let question = Payload::event("question", &"?".repeat(bytes))?;
    let acks = a.broadcast_with_ack(Target::all(), question.clone()).await?.collect().await?;
    check(socket.only_packet()?.payload.same_meaning(&question), "the question is not what was asked")?;
    check_eq(acks.len(), 1, "number of acknowledgements")?;
    check(values(&acks).flatten().any(|value| value.same_meaning(&answer)), "the answer is not what the client sent")
}

pub(crate) async fn an_acknowledgement_without_a_value_counts(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    a.connect(ClientSpec::new().answering_nothing()).await?;
    b.connect(ClientSpec::new().answering_nothing()).await?;
    let acks = a.broadcast_with_ack(Target::all(), question()?).await?.collect().await?;
    // Some official wires cannot tell `undefined` from `null`.
    let is_nothing = |value: &Option<Payload>| value.as_ref().is_none_or(|value| text(value) == "null");
    check(acks.len() == 2 && values(&acks).all(is_nothing), format!("got {:?}", texts(values(&acks))))
}

pub(crate) async fn without_clients_there_are_no_acknowledgements_and_no_wait(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    b.socket(["other"]).await?;
    let acks = a.broadcast_with_ack(Target::room("x"), question()?).await?.collect().await?;
    check_eq(texts(values(&acks)), [""; 0], "acknowledgements")
}

pub(crate) async fn acknowledgements_are_returned_as_they_arrive(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let slow = b.connect(ClientSpec::new().silent()).await?;
    let quick = c.socket(["x"]).await?;
    let mut acks = a.broadcast_with_ack(Target::all(), question()?).await?;
    let first = acks.next().await.transpose()?;
    check_eq(first.map(|ack| texts([&ack.value])), Some(ids_as_answers([&quick])), "the first acknowledgement")?;
    slow.wait_for(1).await?;
    slow.acknowledge(Some(&Payload::value("late")?));
    let second = acks.next().await.transpose()?;
    check_eq(second.map(|ack| texts([&ack.value])), Some(vec!["\"late\"".to_owned()]), "the second acknowledgement")?;
    check(acks.next().await.is_none(), "more acknowledgements than clients")
}

pub(crate) async fn a_client_that_does_not_acknowledge_costs_the_timeout_and_no_other_acknowledgement(
    t: TestCluster,
) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    b.connect(ClientSpec::new().silent()).await?;
    let (a, sockets) = (&a, &sockets);
    t.with_growing_time_outs(|limit| async move {
        let acks = a.broadcast_with_ack(Target::all().timeout(limit), question()?).await?;
        let incomplete = timed_out(acks.collect().await)?;
        check_eq(texts(values(&incomplete.received)), ids_as_answers(sockets), "acknowledgements that came")?;
        check_eq(incomplete.missing, [], "nodes that are missing, though each has answered")
    })
    .await
}

pub(crate) async fn a_node_that_dies_is_not_waited_for(t: TestCluster) -> Checked {
    let a = t.build().fast_failure_detection().join().await?;
    let b = t.build().fast_failure_detection().own_process().join().await?;
    let dead = b.id().clone();
    a.await_peers(1, t.timeout()).await?;
    let here = a.socket(["x"]).await?;
    let there = b.connect(ClientSpec::new().silent()).await?;
    let acks = a.broadcast_with_ack(Target::all(), question()?).await?;
    there.wait_for(1).await?;
    b.kill().await?;
    let gathered = gathered_without(&dead, acks.collect().await)?;
    check_eq(texts(values(&gathered)), ids_as_answers([&here]), "acknowledgements")
}

pub(crate) async fn a_node_that_leaves_is_not_waited_for(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let there = b.connect(ClientSpec::new().silent()).await?;
    let acks = a.broadcast_with_ack(Target::all(), question()?).await?;
    there.wait_for(1).await?;
    b.leave().await?;
    check_eq(texts(values(&acks.collect().await?)), [""; 0], "acknowledgements")
}

pub(crate) async fn a_frozen_node_is_named_as_missing(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().own_process().join().await?;
    let c = t.node().await?;
    a.await_peers(2, t.timeout()).await?;
    let sockets = [a.socket(["x"]).await?, c.socket(["x"]).await?];
    b.socket(["x"]).await?;
    b.freeze().await?;
    let (a, b, sockets) = (&a, &b, &sockets);
    t.with_growing_time_outs(|limit| async move {
        let acks = a.broadcast_with_ack(Target::room("x").timeout(limit), question()?).await?;
        let incomplete = timed_out(acks.collect().await)?;
        check_eq(texts(values(&incomplete.received)), ids_as_answers(sockets), "acknowledgements that came")?;
        check_eq(incomplete.missing.as_slice(), [b.id().clone()], "nodes that are missing")
    })
    .await
}

pub(crate) async fn local_broadcasts_ask_only_clients_of_their_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    let acks = a.broadcast_with_ack(Target::room("x").local(), question()?).await?.collect().await?;
    check_eq(texts(values(&acks)), ids_as_answers([&here]), "acknowledgements")?;
    a.settle().await?;
    there.got(&[])
}

pub(crate) async fn a_zero_timeout_delivers_and_ends_at_once(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.connect(ClientSpec::new().silent()).await?, b.connect(ClientSpec::new().silent()).await?];
    let started = Instant::now();
    let acks = a.broadcast_with_ack(Target::all().timeout(Duration::ZERO), question()?).await?;
    check_eq(texts(values(&timed_out(acks.collect().await)?.received)), [""; 0], "acknowledgements")?;
    check(started.elapsed() < t.config().request_timeout, format!("it took {:?}", started.elapsed()))?;
    for socket in &sockets {
        socket.wait_for(1).await?;
    }
    Ok(())
}

pub(crate) async fn dropping_the_acknowledgements_frees_the_request(t: TestCluster) -> Checked {
    let mut config = t.config();
    config.engine.max_pending_requests = 1;
    let [a, b] = t.build().config(config).join_several().await?;
    let there = b.connect(ClientSpec::new().silent()).await?;
    for round in 1..=5 {
        let acks = a.broadcast_with_ack(Target::all(), question()?).await?;
        there.wait_for(round).await?;
        drop(acks);
    }
    check_eq(a.fetch_sockets(Target::all()).await?.len(), 1, "sockets fetched by the only request allowed")
}

pub(crate) async fn late_acknowledgements_are_ignored(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let there = b.connect(ClientSpec::new().silent()).await?;
    let hasty = a.broadcast_with_ack(Target::all().timeout(Duration::from_millis(10)), question()?).await?;
    timed_out(hasty.collect().await)?;
    there.wait_for(1).await?;
    let second = a.broadcast_with_ack(Target::all(), question()?).await?;
    there.wait_for(2).await?;
    there.acknowledge(Some(&Payload::value("now")?));
    check_eq(texts(values(&second.collect().await?)), ["\"now\""], "answers to the second request")
}

pub(crate) async fn concurrent_requests_get_their_own_acknowledgements(t: TestCluster) -> Checked {
    let nodes = t.nodes::<3>().await?;
    let mut sockets = Vec::new();
    for number in 0..9 {
        sockets.push(nodes[number % 3].socket([format!("room-{number}")]).await?);
    }
    let ask = |number: usize| {
        let (node, socket) = (&nodes[number % 3], &sockets[number / 3 % 9]);
        async move {
            let target = Target::room(format!("room-{}", number / 3 % 9));
            let acks = node.broadcast_with_ack(target, question()?).await?.collect().await?;
            check_eq(texts(values(&acks)), ids_as_answers([socket]), "acknowledgements of one of many requests")
        }
    };
    try_join_all((0..t.scaled(270, 27)).map(ask)).await.map(drop)
}
