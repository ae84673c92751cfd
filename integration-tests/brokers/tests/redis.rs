//! Private Redis servers.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;
use trunkline_brokers::{ClientCertificate, Redis};

#[tokio::test]
async fn it_comes_back_on_the_same_port_without_its_data() {
    let redis = Redis::start().await.unwrap();
    let url = redis.url().to_owned();
    redis.cli(&["SET", "key", "value"]).await.unwrap();
    assert_eq!(redis.cli(&["GET", "key"]).await.unwrap(), "value");
    redis.kill().await.unwrap();
    assert!(redis.cli(&["PING"]).await.is_err());
    redis.restart().await.unwrap();
    assert_eq!(redis.url(), url);
    assert_eq!(redis.cli(&["GET", "key"]).await.unwrap(), "");
}

#[tokio::test]
async fn append_only_survives_a_crash() {
    let redis = Redis::options().append_only().start().await.unwrap();
    redis.cli(&["SET", "key", "value"]).await.unwrap();
    redis.kill().await.unwrap();
    redis.restart().await.unwrap();
    assert_eq!(redis.cli(&["GET", "key"]).await.unwrap(), "value");
}

#[tokio::test]
async fn a_frozen_server_answers_after_the_thaw() {
    let redis = Redis::start().await.unwrap();
    redis.freeze().unwrap();
    let mut ping = Box::pin(redis.cli(&["PING"]));
    assert!(timeout(Duration::from_millis(100), &mut ping).await.is_err());
    redis.thaw().unwrap();
    assert_eq!(ping.await.unwrap(), "PONG");
    redis.freeze().unwrap();
    redis.stop().await.unwrap();
    assert_eq!(redis.pid(), None);
}

#[tokio::test]
async fn it_can_have_passwords_users_tls_and_a_socket() {
    let redis = Redis::options().password("s3cret").user("app", "apppw").unix_socket().start().await.unwrap();
    assert!(redis.url().ends_with("redis.sock?user=app&pass=apppw"), "{}", redis.url());
    assert_eq!(redis.cli(&["ACL", "USERS"]).await.unwrap(), "app\ndefault");
    assert!(redis.socket().is_some_and(|socket| socket.exists()));

    for client in [ClientCertificate::Ignored, ClientCertificate::Required] {
        let redis = Redis::options().tls(client).start().await.unwrap();
        assert_eq!(redis.url(), format!("rediss://localhost:{}", redis.port()));
        assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
        assert!(redis.certificates().is_some_and(|tls| tls.client_key().is_file()));
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_log() {
    let error = Redis::options().arguments(&["--no-such-option", "1"]).start().await.unwrap_err();
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_folder() {
    let redis = Redis::start().await.unwrap();
    let (port, folder) = (redis.port(), redis.folder().to_owned());
    drop(redis);
    assert!(!folder.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// The child of the next test: this program again, with a broker, until it is killed.
#[tokio::test]
async fn hold_a_broker_for_a_test_that_kills_this_process() {
    if std::env::var_os("TRUNKLINE_HOLD_A_BROKER").is_none() {
        return;
    }
    let redis = Redis::start().await.unwrap();
    println!("holding {}", redis.port());
    std::future::pending::<()>().await;
}

#[test]
fn a_killed_test_process_leaves_no_broker_behind() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_a_broker_for_a_test_that_kills_this_process", "--nocapture"])
        .env("TRUNKLINE_HOLD_A_BROKER", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap());
    let line = printed.lines().map(Result::unwrap).find(|line| line.contains("holding ")).unwrap();
    let port = line.rsplit(' ').next().unwrap().parse::<u16>().unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let mut broker = connect().unwrap();
    broker.write_all(b"PING\r\n").unwrap();

    child.kill().unwrap();
    child.wait().unwrap();
    // A connection ends when the broker does; one that it still took while it was dying does, too.
    let mut open = Ok(broker);
    while let Ok(mut broker) = open {
        broker.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ended = broker.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(!matches!(ended, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "the broker lives");
        open = connect();
    }
}
