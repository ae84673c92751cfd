//! The few commands that set up a replica set, so that tests of other brokers need not build a MongoDB driver.

use std::process::Stdio;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    certificates::Certificates,
    error::{Error, Result},
};

/// Opcode of `OP_MSG`, the only kind of message that servers understand since 5.1.
const OP_MSG: u32 = 2013;

/// A BSON value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(i32),
    Text(String),
    Document(Vec<u8>),
    Array(Vec<u8>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn document<'a>(fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Document(encode(fields.into_iter().map(|(name, value)| (name.to_owned(), value))))
    }

    pub(super) fn array(values: impl IntoIterator<Item = Self>) -> Self {
        Self::Array(encode(values.into_iter().enumerate().map(|(index, value)| (index.to_string(), value))))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Text(_) => 0x02,
            Self::Document(_) => 0x03,
            Self::Array(_) => 0x04,
            Self::Int(_) => 0x10,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(number) => out.extend(number.to_le_bytes()),
            Self::Text(text) => {
                out.extend(length(text.len() + 1));
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Document(bytes) | Self::Array(bytes) => out.extend(bytes),
        }
    }
}

fn encode(fields: impl IntoIterator<Item = (String, Value)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.push(value.kind());
        body.extend(name.as_bytes());
        body.push(0);
        value.write(&mut body);
    }
    let mut document = length(body.len() + 5).to_vec();
    document.extend(body);
    document.push(0);
    document
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// Whether the answer contains this field with the value true, at any depth.
pub(super) fn has_true(answer: &[u8], field: &str) -> bool {
    let mut wanted = vec![0x08];
    wanted.extend(field.as_bytes());
    wanted.extend([0, 1]);
    answer.windows(wanted.len()).any(|window| window == wanted)
}

/// A connection to the server, plain or through `openssl s_client`.
pub(super) struct Connection {
    from: Box<dyn AsyncRead + Send + Unpin>,
    to: Box<dyn AsyncWrite + Send + Unpin>,
    /// The openssl process, which ends with the connection.
    _client: Option<Child>,
}

impl Connection {
    pub(super) async fn open(port: u16, tls: Option<&Certificates>) -> Result<Self> {
        if let Some(tls) = tls {
            return Self::open_tls(port, tls);
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(Error::io("connect to mongod"))?;
        let (from, to) = stream.into_split();
        Ok(Self { from: Box::new(from), to: Box::new(to), _client: None })
    }

    fn open_tls(port: u16, tls: &Certificates) -> Result<Self> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-CAfile"]).arg(tls.authority());
        command.arg("-cert").arg(tls.client()).arg("-key").arg(tls.client_key());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut client = command.spawn().map_err(Error::io("start openssl"))?;
        let (Some(from), Some(to)) = (client.stdout.take(), client.stdin.take()) else {
            return Err(Error::Failed { command: "openssl".into(), output: "no pipes".into() });
        };
        Ok(Self { from: Box::new(from), to: Box::new(to), _client: Some(client) })
    }

    /// Runs a command in the database `admin`, and returns the answer, which may be an error.
    pub(super) async fn run(&mut self, command: &str, value: Value, fields: &[(&str, Value)]) -> Result<Vec<u8>> {
        let first = [(command, value)].into_iter();
        let rest = fields.iter().cloned().chain([("$db", Value::text("admin"))]);
        let Value::Document(body) = Value::document(first.chain(rest)) else { return Ok(Vec::new()) };
        self.exchange(&body).await.map_err(Error::io(format!("run {command} on mongod")))
    }

    async fn exchange(&mut self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut message = length(16 + 5 + body.len()).to_vec();
        for word in [1, 0, OP_MSG, 0] {
            message.extend(word.to_le_bytes());
        }
        // The kind of the only section: a document.
        message.push(0);
        message.extend(body);
        self.to.write_all(&message).await?;
        self.to.flush().await?;
        let size = self.from.read_u32_le().await?;
        let mut answer = vec![0; size.saturating_sub(4) as usize];
        self.from.read_exact(&mut answer).await?;
        Ok(answer)
    }
}
