//! Isolation of namespaces and clusters from each other.

use std::sync::atomic::{AtomicBool, Ordering};

use trunkline_core::{Payload, Target};

use crate::kit::{
    Checked, TestCluster, check_eq,
    values::{fetched_ids, ids, texts},
};

pub(crate) async fn a_broadcast_stays_in_its_namespace(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let [c, d] = t.build().namespace("/admin").join_several().await?;
    let main = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let admin = [c.socket(["x"]).await?, d.socket(["x"]).await?];
    for (node, name) in [(&a, "main"), (&c, "admin")] {
        node.emit(Target::room("x"), name).await?;
        node.emit(Target::all(), name).await?;
        node.settle().await?;
    }
    main.iter().try_for_each(|socket| socket.got(&["main", "main"]))?;
    admin.iter().try_for_each(|socket| socket.got(&["admin", "admin"]))
}

pub(crate) async fn namespaces_of_one_process_share_connections_and_nothing_else(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let c = t.build().namespace("/admin").sharing(&a).join().await?;
    let d = t.build().namespace("/admin").sharing(&b).join().await?;
    c.await_peers(1, t.timeout()).await?;
    let (main, admin) = (b.socket(["x"]).await?, d.socket(["x"]).await?);
    a.emit(Target::room("x"), "main").await?;
    c.emit(Target::room("x"), "admin").await?;
    a.settle().await?;
    c.settle().await?;
    main.got(&["main"])?;
    admin.got(&["admin"])?;
    check_eq(fetched_ids(&a.fetch_sockets(Target::all()).await?), ids([&main]), "sockets of the first namespace")?;
    check_eq(a.server_count().await?, 2, "nodes of the first namespace")
}

pub(crate) async fn leaving_one_namespace_does_not_affect_the_others(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let [c, d] = [t.build().namespace("/admin").sharing(&a), t.build().namespace("/admin").sharing(&b)];
    let (c, d) = (c.join().await?, d.join().await?);
    c.await_peers(1, t.timeout()).await?;
    let (socket, other) = (b.socket(["x"]).await?, d.socket(["x"]).await?);
    d.sockets_leave(Target::room(other.room()), vec!["x".into()]).await?;
    d.leave().await?;
    c.leave().await?;
    b.answer_server_side(Some(Payload::value("here")?));
    a.emit(Target::room("x"), "to-room").await?;
    a.emit(Target::all(), "to-all").await?;
    a.settle().await?;
    socket.got_in_any_order(&["to-room", "to-all"])?;
    let answers = a.server_side_emit_with_ack(Payload::event("question", &())?, None).await?;
    check_eq(texts(&answers), ["\"here\""], "answers")?;
    a.wait_for_peers(1).await
}

pub(crate) async fn joins_leaves_and_disconnects_stay_in_their_namespace(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().namespace("/admin").join().await?;
    let (main, admin) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    a.sockets_join(Target::all(), vec!["new".into()]).await?;
    a.sockets_leave(Target::all(), vec!["x".into()]).await?;
    a.disconnect_sockets(Target::all(), false).await?;
    main.wait_for_disconnect().await?;
    a.settle().await?;
    b.settle().await?;
    check_eq(admin.disconnected(), None, "whether the client of the other namespace was disconnected")?;
    b.emit(Target::room("new"), "new").await?;
    b.emit(Target::room("x"), "x").await?;
    b.settle().await?;
    admin.got(&["x"])?;
    let again = a.socket(["x"]).await?;
    b.disconnect_sockets(Target::all(), false).await?;
    admin.wait_for_disconnect().await?;
    b.settle().await?;
    a.settle().await?;
    check_eq(again.disconnected(), None, "whether the client of the first namespace was disconnected")
}

pub(crate) async fn requests_and_counts_stay_in_their_namespace(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let c = t.build().namespace("/admin").join().await?;
    let (main, admin) = (b.socket(["x"]).await?, c.socket(["x"]).await?);
    c.answer_server_side(Some(Payload::value("admin")?));
    b.answer_server_side(Some(Payload::value("main")?));
    check_eq(fetched_ids(&a.fetch_sockets(Target::all()).await?), ids([&main]), "sockets of the first namespace")?;
    check_eq(fetched_ids(&c.fetch_sockets(Target::all()).await?), ids([&admin]), "sockets of the second namespace")?;
    let answers = a.server_side_emit_with_ack(Payload::event("question", &())?, None).await?;
    check_eq(texts(&answers), ["\"main\""], "answers")?;
    a.broadcast_with_ack(Target::all(), Payload::event("asked", &())?).await?.collect().await?;
    c.server_side_emit(Payload::event("admin", &())?).await?;
    for node in [&a, &c] {
        node.settle().await?;
    }
    main.got(&["asked"])?;
    admin.got(&[])?;
    check_eq((b.server_side_events().len(), c.server_side_events().len()), (1, 0), "server-side events")?;
    check_eq((a.server_count().await?, c.server_count().await?), (2, 1), "nodes of each namespace")
}

pub(crate) async fn a_namespace_that_appears_later_works_like_any_other(t: TestCluster) -> Checked {
    let names = ["/dyn", "/dyn-1", "/dyn-10", "/dyn-1/0", "/dy"];
    let [a, b] = t.nodes().await?;
    let mut there = Vec::new();
    for name in names {
        let [c, d] = [t.build().namespace(name).sharing(&a), t.build().namespace(name).sharing(&b)];
        let (c, d) = (c.join().await?, d.join().await?);
        c.await_peers(1, t.timeout()).await?;
        let socket = d.socket(["x"]).await?;
        there.push((c, d, socket));
    }
    for ((node, _, _), name) in there.iter().zip(names) {
        node.emit(Target::room("x"), name).await?;
        node.emit(Target::all(), name).await?;
    }
    for (node, _, _) in &there {
        node.settle().await?;
    }
    there.iter().zip(names).try_for_each(|((_, _, socket), name)| socket.got(&[name, name]))
}

pub(crate) async fn namespace_names_that_look_alike_are_different_namespaces(t: TestCluster) -> Checked {
    let long = format!("/{}", "n".repeat(100));
    let names = [
        "/",
        "/a",
        "/A",
        "/a/",
        "/a/b",
        "/a#b",
        "/a#",
        "/a.b",
        "/a*",
        "/*",
        "/a?",
        "/[a]",
        "/a b",
        "/a,b",
        "/a:b",
        "/%2F",
        "/ä",
        "/日本",
        "/🚀",
        "/\"a\"",
        "/{a}",
        "/>",
        "/$a",
        "/-1",
        "/notifications",
        &long,
    ];
    let mut nodes = Vec::new();
    let mut sockets = Vec::new();
    // In another process: on some backends all nodes of a process have the same id.
    let first = t.build().namespace("/first").join().await?;
    for name in names {
        let node = t.build().namespace(name).sharing(&first).join().await?;
        sockets.push(node.socket(["x"]).await?);
        nodes.push(node);
    }
    let elsewhere = t.build().namespace("/first").join().await?;
    let emitter = t.emitter().await?;
    for (name, socket) in names.into_iter().zip(&sockets) {
        let node = t.build().namespace(name).sharing(&elsewhere).join().await?;
        node.await_peers(1, t.timeout()).await?;
        node.emit(Target::all(), name).await?;
        node.emit(Target::room("x"), name).await?;
        node.settle().await?;
        check_eq(fetched_ids(&node.fetch_sockets(Target::all()).await?), ids([socket]), "sockets of a namespace")?;
        emitter.of(name).emit(Target::all(), name).await?;
        emitter.of(name).settle().await?;
    }
    sockets.iter().zip(names).try_for_each(|(socket, name)| socket.got(&[name, name, name]))
}

pub(crate) async fn opening_and_closing_a_namespace_does_not_affect_the_others(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let has_ended = AtomicBool::new(false);
    let come_and_go = async {
        for _ in 0..t.scaled(10, 5) {
            for node in [&a, &b] {
                t.build().namespace("/again").sharing(node).join().await?.leave().await?;
            }
            t.node().await?.leave().await?;
        }
        Checked::Ok(())
    };
    let coming_and_going = async {
        let result = come_and_go.await;
        has_ended.store(true, Ordering::Relaxed);
        result
    };
    let sending = async {
        let mut sent = Vec::new();
        while !has_ended.load(Ordering::Relaxed) {
            for _ in 0..20 {
                sent.push(sent.len().to_string());
                a.emit(Target::room("x"), &sent[sent.len() - 1]).await?;
            }
            socket.wait_for(sent.len()).await?;
        }
        check_eq(socket.names(), sent, "events at the client")
    };
    let (came, arrived) = tokio::join!(coming_and_going, sending);
    came.and(arrived)
}

pub(crate) async fn clusters_of_different_names_do_not_receive_each_others_broadcasts(t: TestCluster) -> Checked {
    let other = t.sibling();
    let [a, b] = t.nodes().await?;
    let [c, d] = other.nodes().await?;
    let (here, there) = (b.socket(["x"]).await?, d.socket(["x"]).await?);
    for (node, name) in [(&a, "here"), (&c, "there")] {
        node.emit(Target::all(), name).await?;
        node.emit(Target::room("x"), name).await?;
        node.settle().await?;
    }
    here.got_in_any_order(&["here", "here"])?;
    there.got_in_any_order(&["there", "there"])
}

pub(crate) async fn clusters_of_different_names_do_not_answer_each_other(t: TestCluster) -> Checked {
    let other = t.sibling();
    let [a, b] = t.nodes().await?;
    let [c, d] = other.nodes().await?;
    let (here, there) = (b.socket(["x"]).await?, d.socket(["x"]).await?);
    for (node, socket) in [(&a, &here), (&c, &there)] {
        check_eq(fetched_ids(&node.fetch_sockets(Target::all()).await?), ids([socket]), "fetched sockets")?;
        check_eq(node.server_count().await?, 2, "nodes")?;
        node.server_side_emit(Payload::event("hello", &())?).await?;
        node.disconnect_sockets(Target::room("empty"), false).await?;
        node.settle().await?;
    }
    check_eq((b.server_side_events().len(), d.server_side_events().len()), (1, 1), "server-side events")?;
    a.disconnect_sockets(Target::all(), false).await?;
    here.wait_for_disconnect().await?;
    a.settle().await?;
    c.settle().await?;
    check_eq(there.disconnected(), None, "whether a client of the other cluster was disconnected")
}
