//! The fault proxy, in front of a server that sends back what it gets.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use trunkline_brokers::Proxy;

async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

async fn connect(proxy: &Proxy) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", proxy.port())).await
}

async fn exchange(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

#[tokio::test]
async fn data_and_shutdowns_are_forwarded() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    exchange(&mut stream, &vec![7; 1 << 20]).await.unwrap();
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last words");
    assert_eq!(proxy.bytes(), 2 * ((1 << 20) + 10));
}

#[tokio::test]
async fn existing_connections_are_cut_and_new_ones_refused() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    exchange(&mut stream, b"a").await.unwrap();
    proxy.cut();
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut stream = connect(&proxy).await.unwrap();
    exchange(&mut stream, b"b").await.unwrap();
    proxy.refuse();
    let refused = timeout(Duration::from_secs(10), async { while connect(&proxy).await.is_ok() {} }).await;
    refused.expect("refuses in the end");
    exchange(&mut stream, b"c").await.unwrap();
    proxy.resume();
    let accepted = timeout(Duration::from_secs(10), async { while connect(&proxy).await.is_err() {} }).await;
    accepted.expect("accepts in the end");
}

#[tokio::test]
async fn a_stalled_connection_continues_where_it_stopped() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    exchange(&mut stream, b"a").await.unwrap();
    proxy.stall();
    stream.write_all(b"b").await.unwrap();
    assert!(timeout(Duration::from_millis(100), stream.read_u8()).await.is_err());
    proxy.resume();
    assert_eq!(stream.read_u8().await.unwrap(), b'b');
}

#[tokio::test]
async fn a_delay_does_not_reduce_the_throughput() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    let began = Instant::now();
    for _ in 0..20 {
        stream.write_all(b"x").await.unwrap();
    }
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).await.unwrap();
    let took = began.elapsed();
    assert!((Duration::from_millis(100)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_muted_connection_forwards_requests_and_holds_answers_back() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = Proxy::start(server.local_addr().expect("an address").port()).await.unwrap();
    let mut client = connect(&proxy).await.unwrap();
    let (mut server, _) = server.accept().await.unwrap();
    proxy.mute();
    client.write_all(b"question").await.unwrap();
    let mut question = [0; 8];
    server.read_exact(&mut question).await.unwrap();
    assert_eq!(&question, b"question");
    server.write_all(b"answer").await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.read_u8()).await.is_err());
    proxy.resume();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_delay_below_a_millisecond_is_not_rounded_up() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let delay = Duration::from_micros(300);
    proxy.delay(delay);
    let mut round_trips = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        exchange(&mut stream, b"x").await.unwrap();
        round_trips.push(began.elapsed());
    }
    // The fastest: of the others, some have waited for a processor.
    let fastest = round_trips.into_iter().min().unwrap();
    assert!((2 * delay..Duration::from_millis(1)).contains(&fastest), "{fastest:?}");
}

/// A server that resets its connection when it has read one byte.
async fn resetting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            stream.set_zero_linger().expect("an open socket");
        }
    });
    port
}

#[tokio::test]
async fn a_reset_of_the_server_reaches_the_client() {
    let proxy = Proxy::start(resetting().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    stream.write_all(b"a").await.unwrap();
    let end = timeout(Duration::from_secs(10), stream.read_u8()).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn abandoned_connections_are_silent_and_new_ones_work() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut old = connect(&proxy).await.unwrap();
    exchange(&mut old, b"a").await.unwrap();
    proxy.abandon();
    let mut new = connect(&proxy).await.unwrap();
    exchange(&mut new, b"b").await.unwrap();
    old.write_all(b"c").await.unwrap();
    assert!(timeout(Duration::from_millis(200), old.read_u8()).await.is_err(), "neither an answer nor an end");
    proxy.cut();
    assert_eq!(old.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_message_is_cut_in_the_middle() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    exchange(&mut stream, b"small").await.unwrap();
    proxy.cut_within(1_000);
    exchange(&mut stream, b"small").await.unwrap();
    stream.write_all(&[7; 10_000]).await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(rest.len() < 10_000);
}

#[tokio::test]
async fn a_throttled_connection_takes_its_time() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    proxy.throttle(100_000);
    let began = Instant::now();
    exchange(&mut stream, &[7; 50_000]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_waits_in_a_slow_connection_is_through_at_once_when_it_is_fast_again() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    proxy.throttle(50_000);
    stream.write_all(&[7; 500_000]).await.unwrap();
    let mut echoed = vec![0; 500_000];
    stream.read_exact(&mut echoed[..60_000]).await.unwrap();
    proxy.resume();
    let began = Instant::now();
    stream.read_exact(&mut echoed[60_000..]).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}: not the 9 s of the slow one", began.elapsed());
}
