//! Server-side events, `serverSideEmit` of Socket.IO.

use bytes::Bytes;
use futures_util::future::try_join_all;
use trunkline_core::{Payload, Target};

use super::{anything, gathered_without, timed_out};
use crate::kit::{
    Checked, TestCluster, check, check_eq,
    values::{event_names, text, texts},
};

fn event(name: &str) -> Checked<Payload> {
    Ok(Payload::event(name, &())?)
}

pub(crate) async fn an_event_reaches_every_other_node_and_not_its_own(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    a.server_side_emit(Payload::event("hello", &("ä", 1, [2.5]))?).await?;
    for node in [&b, &c] {
        let events = node.wait_for_server_side_events(1).await?;
        check_eq(text(&events[0].payload), r#"["hello","ä",1,[2.5]]"#, "server-side event")?;
        check_eq(events[0].wants_answer, false, "whether an answer is asked for")?;
    }
    b.server_side_emit(event("back")?).await?;
    let events = a.wait_for_server_side_events(1).await?;
    check_eq(event_names(events.iter().map(|event| &event.payload)), ["back"], "server-side events at the sender")?;
    a.settle().await?;
    b.settle().await?;
    check_eq(b.server_side_events().len(), 1, "events at the second sender")?;
    check_eq(c.server_side_events().len(), 2, "events at the third node")?;
    socket.got(&[])
}

pub(crate) async fn an_event_names_its_sender(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    b.answer_server_side(None);
    a.server_side_emit(event("plain")?).await?;
    a.server_side_emit_with_ack(event("with-ack")?, None).await?;
    for event in b.wait_for_server_side_events(2).await? {
        check_eq(&event.from, a.id(), "sender")?;
    }
    Ok(())
}

pub(crate) async fn every_other_node_answers(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    a.answer_server_side(Some(Payload::value("own")?));
    b.answer_server_side(Some(Payload::value(&(1, "ä"))?));
    c.answer_server_side(Some(Payload::value(&2.5)?));
    let answers = a.server_side_emit_with_ack(event("question")?, None).await?;
    check_eq(texts(&answers), ["2.5", r#"[1,"ä"]"#], "answers")
}

pub(crate) async fn events_and_answers_keep_their_meaning(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (asked, said) = (Payload::event("question", &anything())?, Payload::value(&anything())?);
    b.answer_server_side(Some(said.clone()));
    let answers = a.server_side_emit_with_ack(asked.clone(), None).await?;
    let events = b.wait_for_server_side_events(1).await?;
    check(events[0].payload.same_meaning(&asked), format!("event: {}", text(&events[0].payload)))?;
    check_eq(answers.len(), 1, "number of answers")?;
    check(answers.iter().flatten().all(|answer| answer.same_meaning(&said)), format!("got {:?}", texts(&answers)))
}

pub(crate) async fn events_and_answers_carry_binary(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sent = Payload::event("upload", &("cat", [Bytes::from_iter(0..=u8::MAX)], Bytes::new()))?;
    let answer = Payload::value(&(Bytes::from_static(b"\0\xff"), "done"))?;
    b.answer_server_side(Some(answer.clone()));
    let answers = a.server_side_emit_with_ack(sent.clone(), None).await?;
    let events = b.wait_for_server_side_events(1).await?;
    check_eq(text(&events[0].payload), text(&sent), "event")?;
    check_eq(texts(&answers), [text(&answer)], "answers")
}

pub(crate) async fn large_events_and_answers_arrive_whole(t: TestCluster) -> Checked {
    let bytes = t.scaled_within_limit(500_000).await?;
    let [a, b] = t.nodes().await?;
    let (sent, answer) = (Payload::event("big", &"x".repeat(bytes))?, Payload::value(&"y".repeat(bytes))?);
    b.answer_server_side(Some(answer.clone()));
    let answers = a.server_side_emit_with_ack(sent.clone(), None).await?;
    let events = b.wait_for_server_side_events(1).await?;
    check(events[0].payload.same_meaning(&sent), "the event is not what was sent")?;
    check_eq(answers.len(), 1, "number of answers")?;
    check(answers.iter().flatten().any(|got| got.same_meaning(&answer)), "the answer is not what was given")
}

pub(crate) async fn equal_events_and_equal_answers_count_each_time(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    for node in [&b, &c] {
        node.answer_server_side(Some(Payload::value("same")?));
    }
    for _ in 0..20 {
        a.server_side_emit(event("same")?).await?;
    }
    for _ in 0..2 {
        let answers = a.server_side_emit_with_ack(event("question")?, None).await?;
        check_eq(texts(&answers), ["\"same\"", "\"same\""], "answers")?;
    }
    b.wait_for_server_side_events(22).await?;
    c.wait_for_server_side_events(22).await.map(drop)
}

pub(crate) async fn a_node_without_a_handler_costs_no_timeout(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    b.answer_server_side(Some(Payload::value("here")?));
    let answers = a.server_side_emit_with_ack(event("question")?, None).await?;
    check_eq(texts(&answers), ["\"here\"", "undefined"], "answers")?;
    check_eq(c.server_side_events().len(), 1, "events at the node without a handler")
}

pub(crate) async fn a_node_alone_gets_no_answers_and_does_not_wait(t: TestCluster) -> Checked {
    let a = t.node().await?;
    check_eq(a.server_side_emit_with_ack(event("question")?, None).await?.len(), 0, "answers")
}

pub(crate) async fn a_node_that_dies_is_not_waited_for(t: TestCluster) -> Checked {
    let a = t.build().fast_failure_detection().join().await?;
    let b = t.build().fast_failure_detection().own_process().join().await?;
    let dead = b.id().clone();
    let c = t.build().fast_failure_detection().join().await?;
    a.await_peers(2, t.timeout()).await?;
    b.ignore_server_side();
    c.answer_server_side(Some(Payload::value("alive")?));
    let asking = a.server_side_emit_with_ack(event("question")?, None);
    let (answers, killed) = tokio::join!(asking, async {
        b.wait_for_server_side_events(1).await?;
        b.kill().await
    });
    killed?;
    check_eq(texts(&gathered_without(&dead, answers)?), ["\"alive\""], "answers")
}

pub(crate) async fn a_node_that_does_not_answer_is_named_as_missing(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    b.ignore_server_side();
    c.answer_server_side(Some(Payload::value("here")?));
    let (a, b) = (&a, &b);
    t.with_growing_time_outs(|limit| async move {
        let incomplete = timed_out(a.server_side_emit_with_ack(event("question")?, Some(limit)).await)?;
        check_eq(incomplete.missing.as_slice(), [b.id().clone()], "nodes that are missing")?;
        check_eq(texts(&incomplete.received), ["\"here\""], "answers that came")
    })
    .await
}

pub(crate) async fn concurrent_requests_get_their_own_answers(t: TestCluster) -> Checked {
    let nodes = t.nodes::<3>().await?;
    for (number, node) in nodes.iter().enumerate() {
        node.answer_server_side(Some(Payload::value(&number)?));
    }
    let ask = |number: usize| {
        let node = &nodes[number % 3];
        let others: Vec<_> = (0..3).filter(|other| *other != number % 3).map(|other| other.to_string()).collect();
        async move {
            let answers = node.server_side_emit_with_ack(event("question")?, None).await?;
            check_eq(texts(&answers), others, "answers of the other nodes")
        }
    };
    try_join_all((0..t.scaled(150, 15)).map(ask)).await.map(drop)
}

pub(crate) async fn clients_do_not_see_server_side_events(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    b.answer_server_side(None);
    a.server_side_emit(event("plain")?).await?;
    a.server_side_emit_with_ack(event("with-ack")?, None).await?;
    a.emit(Target::all(), "news").await?;
    a.settle().await?;
    check(b.server_side_events().len() == 2, "a server-side event did not arrive")?;
    sockets.iter().try_for_each(|socket| socket.got(&["news"]))
}
