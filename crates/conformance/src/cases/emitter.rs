//! The emitter: sending into the cluster from a process that is no node.

use bytes::Bytes;
use trunkline_core::{Emitter, ErrorKind, Payload, Target};

use crate::kit::{
    Checked, Failure, TestCluster, check_eq,
    values::{event_names, text},
};

pub(crate) async fn broadcasts_reach_the_sockets_of_their_target(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    let x = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let y = b.socket(["y", "x"]).await?;
    emitter.emit(Target::all(), "all").await?;
    emitter.emit(Target::room("x"), "room").await?;
    emitter.emit(Target::rooms(["x", "y"]), "rooms").await?;
    emitter.emit(Target::room("x").except("y"), "except").await?;
    emitter.emit(Target::room(y.room()), "id").await?;
    emitter.emit(Target::room("nowhere"), "empty").await?;
    emitter.settle().await?;
    x.iter().try_for_each(|socket| socket.got_in_any_order(&["all", "room", "rooms", "except"]))?;
    y.got_in_any_order(&["all", "room", "rooms", "id"])
}

pub(crate) async fn binary_and_flags_arrive_unchanged(t: TestCluster) -> Checked {
    let b = t.node().await?;
    let socket = b.socket(["x"]).await?;
    let emitter = t.emitter().await?;
    let sent = Payload::event("upload", &("cat", [Bytes::from_iter(0..=u8::MAX)], 1.5, ()))?;
    let mut target = Target::all().volatile();
    target.flags.compress = Some(true);
    (*emitter).emit(target.clone(), sent.clone()).await?;
    let packet = &socket.wait_for(1).await?[0];
    check_eq(text(&packet.payload), text(&sent), "payload")?;
    check_eq((packet.flags.volatile, packet.flags.compress), (Some(true), Some(true)), "volatile and compress")
}

pub(crate) async fn a_thousand_broadcasts_arrive_complete_and_in_order(t: TestCluster) -> Checked {
    let b = t.node().await?;
    let socket = b.socket(["x"]).await?;
    let emitter = t.emitter().await?;
    let names: Vec<_> = (0..t.scaled(1000, 100)).map(|number| number.to_string()).collect();
    let big = t.within_limit(20_000).await?;
    for (number, name) in names.iter().enumerate() {
        let text = "x".repeat(if number % 20 == 19 { big } else { 20 });
        (*emitter).emit(Target::room("x"), Payload::event(name, &text)?).await?;
    }
    socket.wait_for(names.len()).await?;
    check_eq(socket.names(), names, "events in the order of their arrival")
}

pub(crate) async fn equal_events_of_two_emitters_arrive_each_time(t: TestCluster) -> Checked {
    let b = t.node().await?;
    let socket = b.socket(["x"]).await?;
    let emitters = [t.emitter().await?, t.emitter().await?];
    for _ in 0..50 {
        for emitter in &emitters {
            emitter.emit(Target::room("x"), "same").await?;
        }
    }
    for emitter in &emitters {
        emitter.settle().await?;
    }
    socket.got(&["same"; 100])
}

pub(crate) async fn broadcasts_accepted_before_closing_arrive(t: TestCluster) -> Checked {
    let b = t.node().await?;
    let socket = b.socket(["x"]).await?;
    let backend = t.backend().await?;
    let emitter = Emitter::new(&backend);
    let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    for name in &names {
        emitter.emit(Target::room("x"), Payload::event(name, &())?).await?;
    }
    backend.transport.close().await;
    socket.wait_for(names.len()).await?;
    check_eq(socket.names(), names, "events in the order of their arrival")
}

/// A runtime of its own stands for a process: what its tasks have not done when it ends is lost.
pub(crate) async fn what_is_flushed_or_closed_arrives_although_the_process_ends(t: TestCluster) -> Checked {
    let b = t.node().await?;
    let socket = b.socket(["x"]).await?;
    for closes in [true, false] {
        let cluster = t.clone();
        let job = async move {
            let emitter = Emitter::new(&cluster.backend_of_another_process().await?);
            for name in ["1", "2", "3"] {
                emitter.emit(Target::room("x"), Payload::event(name, &())?).await?;
            }
            if closes {
                emitter.close().await?
            } else {
                emitter.flush().await?
            }
            Ok(())
        };
        let process = tokio::task::spawn_blocking(move || -> Checked {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failure::new(error.to_string()))?;
            let sent = runtime.block_on(job);
            runtime.shutdown_background();
            sent
        });
        process.await.map_err(|error| Failure::new(error.to_string()))??;
    }
    socket.wait_for(6).await?;
    check_eq(socket.names(), ["1", "2", "3", "1", "2", "3"], "events in the order of their arrival")
}

pub(crate) async fn sockets_join_and_leave(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    let moved = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let (stayed, left_out) = (b.socket(["y"]).await?, b.socket(["x", "safe"]).await?);
    let x = || Target::room("x").except("safe");
    emitter.sockets_join(x(), vec!["new".into(), "newer".into(), "newest".into()]).await?;
    emitter.sockets_leave(x(), vec!["newer".into(), "x".into()]).await?;
    emitter.settle().await?;
    a.fetch_sockets(Target::all()).await?;
    for room in ["x", "new", "newer", "newest"] {
        a.emit(Target::room(room), room).await?;
    }
    a.settle().await?;
    moved.iter().try_for_each(|socket| socket.got_in_any_order(&["new", "newest"]))?;
    left_out.got(&["x"])?;
    stayed.got(&[])
}

pub(crate) async fn sockets_are_disconnected(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    let gone = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let stayed = b.socket(["x", "safe"]).await?;
    emitter.disconnect_sockets(Target::room("x").except("safe"), false).await?;
    for socket in &gone {
        check_eq(socket.wait_for_disconnect().await?, false, "whether the connection was closed")?;
    }
    emitter.settle().await?;
    check_eq(stayed.disconnected(), None, "whether a client left out was disconnected")
}

pub(crate) async fn connections_are_closed_on_request(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    for socket in [a.socket(["x"]).await?, b.socket(["x"]).await?] {
        emitter.disconnect_sockets(Target::room(socket.room()), true).await?;
        check_eq(socket.wait_for_disconnect().await?, true, "whether the connection was closed")?;
    }
    Ok(())
}

pub(crate) async fn server_side_events_reach_every_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    emitter.server_side_emit(Payload::event("hello", &(1, Bytes::from_static(b"\0\xff")))?).await?;
    for node in [&a, &b] {
        let events = node.wait_for_server_side_events(1).await?;
        check_eq(event_names(events.iter().map(|event| &event.payload)), ["hello"], "server-side events")?;
        check_eq(events[0].wants_answer, false, "whether an answer is asked for")?;
    }
    Ok(())
}

pub(crate) async fn each_namespace_receives_its_own_broadcasts(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().namespace("/admin").join().await?;
    let (main, admin) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    let emitter = t.emitter().await?;
    emitter.emit(Target::all(), "main").await?;
    emitter.of("/admin").emit(Target::all(), "admin").await?;
    emitter.of("/empty").emit(Target::all(), "empty").await?;
    emitter.of("/admin").server_side_emit(Payload::event("hello", &())?).await?;
    emitter.of("/admin").disconnect_sockets(Target::room("x"), false).await?;
    admin.wait_for_disconnect().await?;
    emitter.settle().await?;
    emitter.of("/admin").settle().await?;
    main.got(&["main"])?;
    admin.got(&["admin"])?;
    check_eq((a.server_side_events().len(), b.server_side_events().len()), (0, 1), "server-side events")?;
    check_eq(main.disconnected(), None, "whether the client of the other namespace was disconnected")
}

pub(crate) async fn an_emitter_is_not_counted_and_not_waited_for(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    emitter.emit(Target::all(), "news").await?;
    emitter.settle().await?;
    check_eq(a.server_count().await?, 2, "nodes")?;
    check_eq(a.peers(), [b.id().clone()], "names of the other nodes")?;
    check_eq(a.fetch_sockets(Target::all()).await?.len(), 0, "sockets fetched, without waiting for the emitter")
}

pub(crate) async fn an_emitter_has_no_local_sockets(t: TestCluster) -> Checked {
    let emitter = t.emitter().await?;
    let kinds = [
        (*emitter).emit(Target::all().local(), Payload::event("news", &())?).await,
        emitter.sockets_join(Target::all().local(), vec!["x".into()]).await,
        emitter.sockets_leave(Target::all().local(), vec!["x".into()]).await,
        emitter.disconnect_sockets(Target::all().local(), false).await,
    ]
    .map(|result| result.err().map(|error| error.kind()));
    check_eq(kinds, [Some(ErrorKind::Unsupported); 4], "kinds of the errors")
}

pub(crate) async fn without_nodes_broadcasts_succeed(t: TestCluster) -> Checked {
    let emitter = t.emitter().await?;
    emitter.emit(Target::all(), "to-no-socket").await?;
    let a = t.node().await?;
    let socket = a.socket(["x"]).await?;
    emitter.emit(Target::all(), "to-one-socket").await?;
    emitter.settle().await?;
    check_eq(socket.names().last().map(String::as_str), Some("to-one-socket"), "the last event at the client")
}
