//! A bare connection to the server: what is published, to the byte.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Listens to channels.
pub(crate) struct Tap {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Tap {
    pub(crate) async fn on(port: u16, channels: &[String]) -> Self {
        let (from, to) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        let mut tap = Self { from: BufReader::new(from), to };
        for channel in channels {
            write(&mut tap.to, b"SSUBSCRIBE", &[channel.as_bytes()]).await;
            assert_eq!(tap.line().await, "*3");
            assert_eq!(tap.text().await, b"ssubscribe");
            tap.text().await;
            tap.line().await;
        }
        tap
    }

    /// The channel and payload of the next message.
    pub(crate) async fn next(&mut self) -> (String, Vec<u8>) {
        assert_eq!(self.line().await, "*3");
        assert_eq!(self.text().await, b"smessage");
        (String::from_utf8(self.text().await).unwrap(), self.text().await)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn text(&mut self) -> Vec<u8> {
        let length: usize = self.line().await.strip_prefix('$').unwrap().parse().unwrap();
        let mut text = vec![0; length + 2];
        self.from.read_exact(&mut text).await.unwrap();
        text.truncate(length);
        text
    }
}

async fn write(to: &mut OwnedWriteHalf, verb: &[u8], arguments: &[&[u8]]) {
    let mut out = format!("*{}\r\n", arguments.len() + 1).into_bytes();
    for text in [verb].iter().chain(arguments) {
        out.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    }
    to.write_all(&out).await.unwrap();
}

/// Publishes as it is.
pub(crate) async fn publish(port: u16, channel: &str, payload: &[u8]) {
    let (from, mut to) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    write(&mut to, b"SPUBLISH", &[channel.as_bytes(), payload]).await;
    let mut answer = String::new();
    BufReader::new(from).read_line(&mut answer).await.unwrap();
    assert!(answer.starts_with(':'), "{answer}");
}
