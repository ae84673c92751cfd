//! What concerns every command: help, exit codes, secrets.

use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};

use crate::support::{Readers, run};

#[tokio::test]
async fn every_command_has_help_with_examples() {
    for command in [
        "emit",
        "join",
        "leave",
        "disconnect",
        "server-emit",
        "nodes",
        "sockets",
        "rooms",
        "doctor",
        "tap",
        "completions",
        "man",
    ] {
        let help = run("", &[command, "--help"]).await.ends(0);
        assert!(help.out.contains("Examples:\n  trunkline "), "{command}: {}", help.out);
    }
    let help = run("", &["--help"]).await.ends(0);
    assert!(help.out.contains("Exit codes: 0 ok; 1 warning"), "{}", help.out);
    assert!(run("", &["--version"]).await.ends(0).out.starts_with("trunkline "));
}

#[tokio::test]
async fn wrong_usage_ends_with_3_and_no_connection_with_2() {
    run("", &[]).await.ends(3);
    run("", &["dance"]).await.ends(3);
    run("", &["nodes"]).await.ends(3);
    run("ftp://127.0.0.1", &["nodes"]).await.ends(3);
    run("redis://127.0.0.1:1?mode=none", &["nodes"]).await.ends(3);
    run("redis://127.0.0.1:1", &["nodes"]).await.ends(2);
    run("", &["emit", "e", "--broker", "redis://127.0.0.1:1"]).await.ends(2);
    run("redis://127.0.0.1:1", &["emit", "e", "json:{"]).await.ends(3);
    run("redis://127.0.0.1:1", &["emit", "connect"]).await.ends(2);
    // Who is meant must be said, before anything is connected to.
    for command in [&["join", "r"][..], &["leave", "r"], &["disconnect"]] {
        let refused = run("redis://127.0.0.1:1", command).await.ends(3);
        assert!(refused.err.contains("--room ROOM, --socket ID, or --all"), "{}", refused.err);
    }
    let refused = run("redis://127.0.0.1:1", &["nodes", "--json"]).await.ends(2).json();
    assert_eq!(refused["status"], "critical");
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let url = "redis://app:s3cret@127.0.0.1:1";
    for arguments in [&["nodes"][..], &["--help"], &["nodes", "--help"], &["emit", "--help"], &["nodes", "x", "y"]] {
        let ran = run(url, arguments).await;
        assert!(!format!("{ran:?}").contains("s3cret"), "{ran:?}");
    }
    for arguments in
        [&[url][..], &["nodes", url, url], &["nodes", "--wrong", url], &["dance", url], &["emit", "--broker", url]]
    {
        let ran = run("", arguments).await;
        assert!(ran.code != 0 && !format!("{ran:?}").contains("s3cret"), "{ran:?}");
    }
    let wrong = run("", &["nodes", "amqp://app:s3cret@127.0.0.1:1?wrong=1"]).await.ends(3);
    assert!(!format!("{wrong:?}").contains("s3cret"), "{wrong:?}");
}

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let completions = run("", &["completions", shell]).await.ends(0);
        assert!(completions.out.contains("server-emit"), "{shell}");
    }
    assert!(run("", &["man"]).await.ends(0).out.contains("trunkline\\-server\\-emit(1)"));
    let folder = std::env::temp_dir().join(format!("trunkline-man-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    run("", &["man", "--directory", folder.to_str().unwrap()]).await.ends(0);
    assert!(folder.join("trunkline-server-emit.1").exists());
    std::fs::remove_dir_all(&folder).unwrap();
    run("", &["man", "--directory", "/nowhere/at/all"]).await.ends(3);
}

#[tokio::test]
async fn there_are_no_colours_without_a_terminal() {
    for arguments in [&["nodes"][..], &["--help"], &["dance"]] {
        let ran = run("redis://127.0.0.1:1", arguments).await;
        assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{ran:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_ends_with_2_on_every_broker() {
    let redis = Redis::options().password("s3cret").start().await.unwrap();
    let postgres = Postgres::options().user("app", "s3cret").start().await.unwrap();
    let nats = Nats::options().user("app", "s3cret").start().await.unwrap();
    let mongodb = MongoDb::options().user("app", "s3cret").start().await.unwrap();
    let rabbitmq = RabbitMq::options().user("app", "s3cret").start().await.unwrap();
    for url in [redis.url(), postgres.url(), nats.url(), mongodb.url(), rabbitmq.url()] {
        assert!(url.contains("s3cret"), "{url}");
        for command in [&["nodes"][..], &["emit", "e"]] {
            let ran = run(&url.replace("s3cret", "an0ther"), command).await.ends(2);
            assert!(!format!("{ran:?}").contains("an0ther"), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn a_missing_right_ends_with_2_whenever_a_command_needs_it() {
    let readers = Readers::start().await;
    for url in readers.urls() {
        for command in [
            &["nodes"][..],
            &["emit", "e"],
            &["server-emit", "e", "--ack"],
            &["tap", "--for", "1s"],
            &["top", "--once"],
        ] {
            let ran = run(url, command).await;
            assert_eq!(ran.code, 2, "{url} {command:?}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_parameter_ends_with_3_on_every_broker() {
    for url in ["redis://a", "postgres://a/b", "mongodb://a", "amqp://a", "nats://a"] {
        for command in [&["nodes"][..], &["emit", "e"], &["doctor"], &["tap"], &["bench"]] {
            let ran = run(&format!("{url}?nonsense=1"), command).await;
            assert_eq!(ran.code, 3, "{url} {command:?}: {ran:?}");
        }
    }
}
