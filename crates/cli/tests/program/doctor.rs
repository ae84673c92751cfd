//! `doctor`: a broker or a cluster is broken for each check, and the doctor names it.

use mongodb::bson::doc;
use serde_json::Value;
use tokio::process::Command;
use trunkline_brokers::{ClientCertificate, MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::kit::Failure;

use crate::support::{Ran, Wire, cluster, over_all, pgbouncer, run, with};

/// The check with this code, of a report as JSON.
#[track_caller]
pub(crate) fn check(ran: &Ran, code: &str) -> Value {
    let report = ran.json();
    let found = report["checks"].as_array().unwrap().iter().find(|check| check["code"] == code);
    found.unwrap_or_else(|| panic!("no check {code}: {ran:?}")).clone()
}

/// Runs the doctor and expects this outcome of this check, with everything that helps if it is a bad one.
pub(crate) async fn expect(url: &str, arguments: &[&str], code: &str, outcome: &str, exit_code: i32) -> Ran {
    let ran = run(url, &[&["doctor", "--json"], arguments].concat()).await;
    let found = check(&ran, code);
    assert_eq!(found["status"], outcome, "{code}: {ran:?}");
    if outcome != "ok" && outcome != "skipped" {
        assert!(found["cause"].is_string() && found["advice"].is_string(), "{found}");
    }
    assert!(found["link"].as_str().unwrap().ends_with(&format!("docs/doctor.md#{code}")), "{found}");
    ran.ends(exit_code)
}

/// What the machine's load decides is left out.
pub(crate) const PRE: [&str; 3] = ["--pre", "--skip", "echo-time"];

over_all!(all_is_well);

async fn all_is_well(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("healthy").await;
    let [_a, _b] = cluster(&url).nodes().await?;
    let arguments = [
        "--nodes",
        "2",
        "--listen",
        "20s",
        "--timeout",
        "20s",
        "--skip",
        "echo-time",
        "--skip",
        "prefix",
        "--skip",
        "heartbeats",
    ];
    let ran = expect(&url, &arguments, "nodes", "ok", 0).await;
    for check in ran.json()["checks"].as_array().unwrap() {
        assert!(["ok", "skipped"].contains(&check["status"].as_str().unwrap()), "{check}");
    }
    for code in ["authenticated", "rights", "connected", "version", "echo", "answers", "settings"] {
        assert_eq!(check(&ran, code)["status"], "ok", "{code}: {ran:?}");
    }
    Ok(())
}

// --- the connection ---

#[tokio::test]
async fn nothing_listens() {
    for url in [
        "redis://127.0.0.1:1",
        "postgres://127.0.0.1:1/x",
        "mongodb://127.0.0.1:1",
        "amqp://127.0.0.1:1",
        "nats://127.0.0.1:1",
    ] {
        let ran = expect(url, &PRE, "reachable", "critical", 2).await;
        let skipped = check(&ran, "echo");
        assert_eq!(
            (&skipped["status"], skipped["text"].as_str()),
            (&"skipped".into(), Some("because nothing can be reached (reachable)"))
        );
    }
}

#[tokio::test]
async fn one_of_several_addresses_is_away() {
    let server = Nats::start().await.unwrap();
    let url = format!("{},127.0.0.1:1", server.url().trim_end_matches('/'));
    expect(&url, &PRE, "reachable", "warning", 1).await;
}

#[tokio::test]
async fn an_untrusted_certificate() {
    let server = Redis::options().tls(ClientCertificate::Ignored).start().await.unwrap();
    let bare = server.url().split('?').next().unwrap();
    expect(bare, &PRE, "tls", "critical", 2).await;
    let authority = server.certificates().unwrap().authority();
    expect(&format!("{bare}?tls_ca={}", authority.display()), &PRE, "tls", "ok", 0).await;
}

/// What nodes accept, doctor accepts, in every check that connects by itself.
#[tokio::test]
async fn a_certificate_that_the_url_describes() {
    let redis = Redis::options().tls(ClientCertificate::Ignored).start().await.unwrap();
    let rabbitmq = RabbitMq::options().tls().start().await.unwrap();
    let nats = Nats::options().tls(ClientCertificate::Ignored).start().await.unwrap();
    for (url, certificates, code) in [
        (redis.url(), redis.certificates(), "redis-output-buffer"),
        (rabbitmq.url(), rabbitmq.certificates(), "rabbitmq-queue-limits"),
        (rabbitmq.url(), rabbitmq.certificates(), "history"),
        (nats.url(), nats.certificates(), "history"),
    ] {
        let certificates = certificates.unwrap();
        let bare = url.split('?').next().unwrap();
        let history = if code == "history" { "history=on&" } else { "" };
        let certificate = certificates.server();
        let printed = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(certificate)
            .output()
            .await
            .unwrap();
        let fingerprint = String::from_utf8(printed.stdout).unwrap();
        let fingerprint = fingerprint.split_once('=').unwrap().1.trim();
        let authority = format!("tls_ca={}", certificates.authority().display());
        for query in [format!("tls_fingerprint={fingerprint}"), format!("{authority}&tls_server_name=localhost")] {
            expect(&format!("{bare}?{history}{query}"), &PRE, code, "ok", 0).await;
        }
        expect(&format!("{bare}?{authority}&tls_server_name=wrong.example"), &PRE, "tls", "critical", 2).await;
    }
    let bare = redis.url().split('?').next().unwrap();
    let ran = expect(&format!("{bare}?tls_verify=off"), &PRE, "tls", "warning", 1).await;
    assert!(check(&ran, "tls")["advice"].to_string().contains("tls_fingerprint"), "{ran:?}");

    let postgres = Postgres::options().tls().start().await.unwrap();
    let bare = postgres.url().split('?').next().unwrap();
    let authority = postgres.certificates().unwrap().authority();
    for query in ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={}", authority.display())] {
        expect(&format!("{bare}?{query}"), &PRE, "version", "ok", 0).await;
    }
}

#[tokio::test]
async fn a_wrong_password() {
    let redis = Redis::options().password("s3cret").start().await.unwrap();
    let postgres = Postgres::options().user("app", "s3cret").start().await.unwrap();
    let nats = Nats::options().user("app", "s3cret").start().await.unwrap();
    let mongodb = MongoDb::options().user("app", "s3cret").start().await.unwrap();
    for url in [redis.url(), postgres.url(), nats.url(), mongodb.url()] {
        let wrong = url.replace("s3cret", "an0ther");
        let ran = expect(&wrong, &PRE, "authenticated", "critical", 2).await;
        assert!(!format!("{ran:?}").contains("an0ther"), "{ran:?}");
        assert_eq!(check(&ran, "echo")["status"], "skipped");
        expect(url, &PRE, "authenticated", "ok", 0).await;
    }
}

#[tokio::test]
async fn redis_without_rights() {
    let server = Redis::start().await.unwrap();
    for (user, lacks) in [("a", "-publish"), ("b", "-psubscribe"), ("c", "resetchannels &other*")] {
        let mut command = vec!["ACL", "SETUSER", user, "on", ">pw", "+@all", "~*", "&*"];
        command.extend(lacks.split(' '));
        server.cli(&command).await.unwrap();
        let url = server.url().replace("redis://", &format!("redis://{user}:pw@"));
        expect(&url, &PRE, "rights", "critical", 2).await;
    }
}

#[tokio::test]
async fn what_to_do_about_missing_rights_is_a_command_that_works() {
    let server = Redis::start().await.unwrap();
    for (user, parameters) in [("a", "mode=pubsub"), ("b", "mode=sharded"), ("c", "mode=streams")] {
        server.cli(&["ACL", "SETUSER", user, "on", ">pw"]).await.unwrap();
        let url = with(&server.url().replace("redis://", &format!("redis://{user}:pw@")), parameters);
        let ran = expect(&url, &PRE, "rights", "critical", 2).await;
        let advice = check(&ran, "rights")["advice"].as_str().unwrap().to_owned();
        let command = advice.split_once("grant it: ").unwrap().1;
        let granted = Command::new("sh").args(["-c", command]).status().await.unwrap();
        assert!(granted.success(), "{command}");
        expect(&url, &PRE, "rights", "ok", 0).await;
    }
}

#[tokio::test]
async fn tls_to_a_port_without_it() {
    let (redis, nats) = (Redis::start().await.unwrap(), Nats::start().await.unwrap());
    let urls = [redis.url().replacen("redis:", "rediss:", 1), nats.url().replacen("nats:", "tls:", 1)];
    for url in urls {
        let ran = expect(&url, &PRE, "tls", "critical", 2).await;
        let (cause, advice) = (check(&ran, "tls")["cause"].to_string(), check(&ran, "tls")["advice"].to_string());
        assert!(
            cause.contains("does not speak TLS at this port") && advice.contains("ask for none in the URL"),
            "{ran:?}"
        );
    }
}

// --- Redis ---

#[tokio::test]
async fn redis_settings_that_lose_messages() {
    let server = Redis::start().await.unwrap();
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 60"]).await.unwrap();
    expect(server.url(), &PRE, "redis-output-buffer", "critical", 2).await;
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 20mb 8mb 60"]).await.unwrap();
    expect(server.url(), &PRE, "redis-output-buffer", "warning", 1).await;
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 64mb 16mb 60"]).await.unwrap();
    let ran = expect(server.url(), &PRE, "redis-output-buffer", "ok", 0).await;
    assert_eq!(check(&ran, "redis-output-buffer")["value"]["warning"], 33_554_432.0);

    let streams = with(server.url(), "mode=streams");
    server.cli(&["CONFIG", "SET", "maxmemory", "1gb"]).await.unwrap();
    for (policy, outcome, code) in
        [("allkeys-lru", "critical", 2), ("volatile-lru", "warning", 1), ("noeviction", "ok", 0)]
    {
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]).await.unwrap();
        expect(&streams, &PRE, "redis-eviction", outcome, code).await;
    }
    server.cli(&["CONFIG", "SET", "maxmemory", "100kb"]).await.unwrap();
    expect(server.url(), &PRE, "redis-memory", "critical", 2).await;
    let full = run(&streams, &["doctor", "--json", "--pre"]).await.ends(2);
    assert_eq!(check(&full, "redis-memory")["status"], "critical");
    assert!(check(&full, "echo")["cause"].to_string().contains("OOM"), "{full:?}");
    let ran = run(&streams, &["emit", "e", "--timeout", "1s"]).await.ends(2);
    assert!(ran.err.contains("OOM"), "{ran:?}");
}

#[tokio::test]
async fn a_replica_behind_the_address() {
    let (master, replica) = (Redis::start().await.unwrap(), Redis::start().await.unwrap());
    replica.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await.unwrap();
    for mode in ["mode=pubsub", "mode=streams"] {
        expect(&with(replica.url(), mode), &PRE, "primary", "critical", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_another_prefix() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let [_node] = cluster(&with(server.url(), "prefix=chat")).nodes().await?;
    let listen = ["--listen", "500ms", "--skip", "echo-time"];
    let ran = expect(server.url(), &listen, "prefix", "warning", 1).await;
    assert!(check(&ran, "prefix")["text"].as_str().unwrap().contains("chat"));
    assert_eq!(check(&ran, "nodes")["status"], "warning");
    expect(server.url(), &["--nodes", "1", "--listen", "500ms"], "nodes", "critical", 2).await;
    Ok(())
}

// --- the other brokers ---

#[tokio::test]
async fn a_pooler_that_swallows_listen() {
    let server = Postgres::start().await.unwrap();
    let pooler = pgbouncer(&server, "transaction").await;
    expect(&pooler.url, &PRE, "postgres-listen", "critical", 2).await;
    let pooler = pgbouncer(&server, "session").await;
    expect(&pooler.url, &PRE, "postgres-listen", "ok", 0).await;
}

#[tokio::test]
async fn idle_sessions_that_end() {
    let server = Postgres::options().arguments(&["-c", "idle_session_timeout=3s"]).start().await.unwrap();
    expect(server.url(), &PRE, "postgres-idle-timeout", "critical", 2).await;
}

#[tokio::test]
async fn mongodb_without_a_replica_set() {
    let server = MongoDb::options().standalone().start().await.unwrap();
    let ran = expect(server.url(), &PRE, "mongodb-replica-set", "critical", 2).await;
    assert!(check(&ran, "mongodb-replica-set")["advice"].as_str().unwrap().contains("rs.initiate()"));
    assert_eq!(check(&ran, "version")["status"], "ok");
}

#[tokio::test]
async fn a_mongodb_primary_that_was_demoted() {
    let server = MongoDb::start().await.unwrap();
    let admin = mongodb::Client::with_uri_str(server.url()).await.unwrap().database("admin");
    // It ends connections, this one maybe included.
    let _ = admin.run_command(doc! { "replSetStepDown": 600, "force": true }).await;
    expect(server.url(), &PRE, "primary", "critical", 2).await;
    let bare = server.url().split('?').next().unwrap();
    expect(&format!("{bare}?directConnection=true"), &PRE, "primary", "critical", 2).await;
}

#[tokio::test]
async fn rabbitmq_with_an_alarm_and_with_a_wrong_password() {
    let server = RabbitMq::start().await.unwrap();
    server.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await.unwrap();
    let ran = expect(server.url(), &PRE, "rabbitmq-alarms", "critical", 2).await;
    assert!(check(&ran, "echo")["cause"].to_string().contains("low on memory"), "{ran:?}");
    // What asks or acts says why it cannot.
    for command in [&["nodes"][..], &["sockets"], &["rooms"], &["top", "--once"], &["emit", "e", "--timeout", "1s"]] {
        let ran = run(server.url(), command).await.ends(2);
        assert!(format!("{}{}", ran.out, ran.err).contains("low on memory"), "{command:?}: {ran:?}");
    }
    server.ctl(&["set_vm_memory_high_watermark", "0.9"]).await.unwrap();
    server.ctl(&["add_user", "reader", "s3cret"]).await.unwrap();
    let at = server.url().split_once("://").unwrap().1;
    let host = at.rsplit_once('@').map_or(at, |(_, host)| host);
    expect(&format!("amqp://reader:wr0ng@{host}"), &PRE, "authenticated", "critical", 2).await;
}

#[tokio::test]
async fn nats_without_jetstream_and_with_small_messages() {
    let server = Nats::options().configuration("max_payload: 60000").start().await.unwrap();
    expect(server.url(), &PRE, "nats-max-payload", "critical", 2).await;
    // JetStream is given to accounts.
    let accounts = "accounts: { A: { users: [{ user: a, password: pw }] } }\nno_auth_user: a";
    let server = Nats::options().configuration(accounts).start().await.unwrap();
    expect(server.url(), &PRE, "nats-jetstream", "ok", 0).await;
    expect(&with(server.url(), "history=on"), &PRE, "nats-jetstream", "critical", 2).await;
}

// --- the cluster ---

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_is_counted_and_silent() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let cluster = cluster(server.url());
    let [a] = cluster.nodes().await?;
    let frozen = cluster.build().own_process().join().await?;
    a.wait_for_peers(1).await?;
    frozen.freeze().await?;
    let arguments = ["--listen", "1s", "--timeout", "1s", "--skip", "echo-time"];
    let ran = expect(server.url(), &arguments, "answers", "critical", 2).await;
    frozen.thaw();
    assert_eq!(check(&ran, "silent-nodes")["status"], "critical", "{ran:?}");
    assert_eq!(check(&ran, "nodes")["value"]["value"], 2.0, "{ran:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_buckets() -> Result<(), Failure> {
    let url = Wire::Nats.url("buckets").await;
    let [_node] = cluster(&with(&url, "buckets=16")).nodes().await?;
    let arguments = ["--nodes", "1", "--listen", "20s", "--timeout", "20s", "--skip", "echo-time"];
    let ran = expect(&url, &arguments, "settings", "critical", 2).await;
    assert!(check(&ran, "settings")["cause"].as_str().unwrap().contains("16"), "{ran:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_history_of_the_url() -> Result<(), Failure> {
    let url = Wire::Postgres.url("other_history").await;
    let [a] = cluster(&url).nodes().await?;
    let with_history = with(&url, "history=on&history_table=other_history_events&session_table=other_history_sessions");
    let ran =
        expect(&with_history, &["--listen", "5s", "--timeout", "2s", "--nodes", "1"], "settings", "critical", 2).await;
    let cause = check(&ran, "settings")["cause"].to_string();
    assert!(cause.contains(&format!("{} has history: false instead of history: true", a.id())), "{cause}");
    Ok(())
}

#[tokio::test]
async fn an_echo_that_is_late() {
    let server = Redis::start().await.unwrap();
    let slow = ["--pre", "--echo-warning", "1ms", "--echo-critical", "1ms"];
    let proxy = trunkline_brokers::Proxy::start(server.port()).await.unwrap();
    proxy.delay(std::time::Duration::from_millis(5));
    let ran = expect(&proxy.url(server.url()), &slow, "echo-time", "critical", 2).await;
    assert!(check(&ran, "echo-time")["text"].as_str().unwrap().contains("(p99)"));
}

// --- formats and selection ---

#[tokio::test]
async fn every_format_says_the_same() {
    let server = Redis::start().await.unwrap();
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 60"]).await.unwrap();
    let formatted = async |format| run(server.url(), &["doctor", "--pre", "--format", format]).await.ends(2).out;
    let text = formatted("text").await;
    assert!(text.contains("\n  critical redis-output-buffer: "), "{text}");
    let command = format!("do    redis-cli -h 127.0.0.1 -p {} CONFIG SET client-output-buffer-limit", server.port());
    assert!(text.contains(&command), "{text}");
    assert!(text.contains("\n  skipped  nodes, answers, heartbeats, "), "{text}");
    assert!(text.contains("\ncritical: 1 critical (redis-output-buffer), 0 warnings, "), "{text}");
    assert!(text.contains("docs/doctor.md#redis-output-buffer") && text.contains("\nbroker\n"), "{text}");
    let line = formatted("nagios").await;
    assert!(line.starts_with("TRUNKLINE CRITICAL - redis-output-buffer: a node for which 1.0 MiB wait"), "{line}");
    assert!(line.contains(" redis-output-buffer=1048576B;33554432:;16777216: ") && line.lines().count() == 1, "{line}");
    let metrics = formatted("prometheus").await;
    assert!(metrics.contains("\ntrunkline_doctor_status 2\n"), "{metrics}");
    assert!(
        metrics.contains("trunkline_doctor_check{code=\"redis-output-buffer\",category=\"broker\"} 2\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("trunkline_doctor_value{code=\"redis-output-buffer\",unit=\"bytes\"} 1048576\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn checks_are_listed_and_selected() {
    let list = run("", &["doctor", "--list"]).await.ends(0).out;
    assert!(list.contains("redis-eviction") && list.lines().count() > 20, "{list}");
    run("", &["doctor"]).await.ends(3);
    run("redis://127.0.0.1:1", &["doctor", "--only", "nonsense"]).await.ends(3);
    let server = Redis::start().await.unwrap();
    let ran = run(server.url(), &["doctor", "--json", "--pre", "--only", "version"]).await.ends(0);
    assert_eq!(ran.json()["checks"].as_array().unwrap().len(), 1, "{ran:?}");
    // Nothing was checked.
    run(server.url(), &["doctor", "--pre", "--only", "nodes"]).await.ends(3);
    // Why it could not be checked stays.
    let ran = run("redis://127.0.0.1:1", &["doctor", "--json", "--only", "version"]).await.ends(2);
    assert_eq!(check(&ran, "reachable")["status"], "critical");
}

#[tokio::test]
async fn it_waits_until_the_broker_is_there() {
    let server = Redis::start().await.unwrap();
    server.kill().await.unwrap();
    let url = server.url().to_owned();
    let waiting =
        tokio::spawn(async move { run(&url, &["doctor", "--pre", "--wait", "60s", "--skip", "echo-time"]).await });
    server.restart().await.unwrap();
    waiting.await.unwrap().ends(0);
    server.kill().await.unwrap();
    run(server.url(), &["doctor", "--pre", "--wait", "2s"]).await.ends(2);
}
