//! `emit`, `join`, `leave`, `disconnect`, `server-emit`.

use serde_json::json;
use trunkline::Payload;
use trunkline_conformance::kit::{ClientSpec, Failure, check_eq};

use crate::support::{Wire, cluster, over_all, run, run_in};

over_all!(everything_reaches_the_sockets_and_is_confirmed_before_the_end);

async fn everything_reaches_the_sockets_and_is_confirmed_before_the_end(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("operations").await;
    let [a, b] = cluster(&url).nodes().await?;
    let lobby = a.socket(["lobby"]).await?;
    let other = b.socket(["lobby", "muted"]).await?;

    let emit = ["emit", "news", r#"{"a":[2.50],"b":1}"#, "words", "hex:00ff", "--room", "lobby", "--except", "muted"];
    run(&url, &emit).await.ends(0);
    let packet = lobby.wait_for(1).await?.remove(0);
    let expected = Payload::event("news", &(json!({"b": 1, "a": [2.5]}), "words", Binary(&[0, 255]))).unwrap();
    check_eq(packet.payload.same_meaning(&expected), true, "the arguments are those of the command line")?;

    // What one program has done when it ends comes before what the next one does.
    run(&url, &["join", "vip", "--socket", lobby.id().as_str()]).await.ends(0);
    run(&url, &["emit", "joined", "--room", "vip"]).await.ends(0);
    lobby.wait_for(2).await?;
    run(&url, &["leave", "vip", "--room", "vip"]).await.ends(0);
    run(&url, &["emit", "nobody", "--room", "vip"]).await.ends(0);
    run(&url, &["emit", "all"]).await.ends(0);
    lobby.wait_for(3).await?;
    other.wait_for(1).await?;
    lobby.got(&["news", "joined", "all"])?;
    other.got(&["all"])?;

    run(&url, &["server-emit", "reload", "7"]).await.ends(0);
    a.wait_for_server_side_events(1).await?;
    b.wait_for_server_side_events(1).await?;

    run(&url, &["disconnect", "--room", "muted", "--close"]).await.ends(0);
    check_eq(other.wait_for_disconnect().await?, true, "its connection is closed")?;
    check_eq(lobby.disconnected(), None, "the other one stays")
}

/// Bytes that serialize as binary.
struct Binary<'a>(&'a [u8]);

impl serde::Serialize for Binary<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

over_all!(acknowledgements_and_answers_are_printed);

async fn acknowledgements_and_answers_are_printed(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("acks").await;
    let [a, b] = cluster(&url).nodes().await?;
    a.connect(ClientSpec::new().room("r").answering(Payload::value("yes").unwrap())).await?;
    b.connect(ClientSpec::new().room("r").answering(Payload::value("no").unwrap())).await?;
    let ran = run(
        &url,
        &["emit", "question", "--room", "r", "--ack", "--json", "--nodes", "2", "--listen", "20s", "--timeout", "20s"],
    )
    .await
    .ends(0);
    let mut answers: Vec<_> = ran.json()["acknowledgements"].as_array().unwrap().clone();
    answers.sort_by_key(ToString::to_string);
    check_eq(answers, vec![json!("no"), json!("yes")], "acknowledgements")?;

    a.answer_server_side(Some(Payload::value(&1).unwrap()));
    b.answer_server_side(Some(Payload::value(&2).unwrap()));
    let ran =
        run(&url, &["server-emit", "count", "--ack", "--json", "--nodes", "2", "--listen", "20s", "--timeout", "20s"])
            .await
            .ends(0);
    let mut answers: Vec<_> = ran.json()["answers"].as_array().unwrap().clone();
    answers.sort_by_key(ToString::to_string);
    check_eq(answers, vec![json!(1), json!(2)], "answers")?;

    // Who does not answer is counted, and the exit code says so.
    let silent = a.connect(ClientSpec::new().room("silent").silent()).await?;
    let ran = run(
        &url,
        &["emit", "question", "--room", "silent", "--ack", "--nodes", "2", "--listen", "20s", "--timeout", "500ms"],
    )
    .await
    .ends(1);
    check_eq(ran.out.contains("0 clients acknowledged, not all"), true, &ran.out)?;
    drop(silent);
    b.ignore_server_side();
    let ran = run(&url, &["server-emit", "count", "--ack", "--nodes", "2", "--listen", "20s", "--timeout", "500ms"])
        .await
        .ends(1);
    check_eq(ran.out.contains("1 server answered; PARTIAL: 1 node did not answer"), true, &ran.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_arguments_as_json_text_or_binary() -> Result<(), Failure> {
    let url = Wire::RedisPubSub.url("files").await;
    let [node] = cluster(&url).nodes().await?;
    let socket = node.socket(["r"]).await?;
    let folder = std::env::temp_dir().join(format!("trunkline-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("value.json"), "{\"a\": 1}\n").unwrap();
    std::fs::write(folder.join("words.txt"), "1\n").unwrap();
    std::fs::write(folder.join("image.png"), [137, 80, 0]).unwrap();
    let emit = ["emit", "e", "@value.json", "text@words.txt", "binary@image.png", "--namespace", "/"];
    run_in(&folder, &url, &emit).await.ends(0);
    let packet = socket.wait_for(1).await?.remove(0);
    let expected = Payload::event("e", &(json!({"a": 1}), "1\n", Binary(&[137, 80, 0]))).unwrap();
    check_eq(packet.payload.same_meaning(&expected), true, "the content of the files")?;
    let refused = run_in(&folder, &url, &["emit", "e", "text@image.png"]).await.ends(3);
    check_eq(refused.err.contains("binary@image.png sends it"), true, &refused.err)?;
    run_in(&folder, &url, &["emit", "e", "@missing"]).await.ends(3);
    std::fs::remove_dir_all(&folder).unwrap();
    Ok(())
}
