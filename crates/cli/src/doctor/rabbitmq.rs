//! Checks of a RabbitMQ server that need a client: what its queues keep, how long the history lasts, missing rights.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt as _, future::join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{io::copy_bidirectional, net::TcpListener, time::timeout};
use trunkline_backend::batched::token;
use trunkline_rabbitmq::Config;

use super::{
    finding::{Findings, Measured, Report},
    measures::{self, Kept},
    reach::{self, limited},
    target::{BrokerTarget, Encryption},
};

const CODES: [&str; 2] = ["rabbitmq-queue-limits", "history"];

/// Messages that are put into a queue of our own, to see how many it keeps.
const MESSAGES: u32 = 2_000;

/// Bytes of each of them.
const BYTES: usize = 512;

pub(crate) async fn examine(target: &BrokerTarget, findings: &mut Findings) {
    let client = match Client::connect(target).await {
        Ok(client) => client,
        Err(reason) => {
            for code in CODES {
                findings.add(code, Report::skipped(format!("the server could not be asked: {reason}")));
            }
            return;
        }
    };
    findings.add("rabbitmq-queue-limits", reported(client.queue_limits()).await);
    if client.config.history.is_some() {
        findings.add("history", reported(client.history()).await);
    }
    client.close().await;
}

/// What a node does, and the user may not, in the words of the broker.
pub(crate) async fn missing_rights(target: &BrokerTarget) -> Vec<String> {
    let Ok(client) = Client::connect(target).await else { return Vec::new() };
    let missing = client.missing_rights().await;
    client.close().await;
    missing
}

async fn reported(check: impl Future<Output = lapin::Result<Report>>) -> Report {
    let checked = limited(async { check.await.map_err(std::io::Error::other) }).await;
    checked.unwrap_or_else(|error| Report::skipped(format!("the server could not be asked: {error}")))
}

/// A connection of our own: what is asked here no node needs.
struct Client {
    config: Config,
    connection: Connection,
}

impl Client {
    async fn connect(target: &BrokerTarget) -> Result<Self, String> {
        let config = Config::from_url(&target.url).map_err(|error| error.to_string())?;
        let mut problem = "no address answers".to_owned();
        for address in &target.addresses {
            let properties = ConnectionProperties::default().with_connection_name("trunkline doctor".into());
            let connecting = async {
                let address = match target.encryption {
                    Encryption::Direct { .. } => tunnel(target, address).await?,
                    _ => address.clone(),
                };
                let connected = Connection::connect_uri(uri(&config, &address), properties).await;
                connected.map_err(std::io::Error::other)
            };
            match limited(connecting).await {
                Ok(connection) => return Ok(Self { config, connection }),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(problem)
    }

    fn exchange(&self) -> ShortString {
        format!("trunkline.{}", token(&self.config.prefix)).into()
    }

    fn stream(&self) -> ShortString {
        format!("trunkline.{}.log", token(&self.config.prefix)).into()
    }

    /// A queue and a routing key that no node has.
    fn queue(&self) -> ShortString {
        format!("trunkline.{}.doctor.{}", token(&self.config.prefix), std::process::id()).into()
    }

    async fn close(self) {
        let _ = limited(async { self.connection.close(200, "bye".into()).await.map_err(std::io::Error::other) }).await;
    }

    /// Fills a queue that is named and declared as that of a node, and counts what stays in it: policies show in that only.
    async fn queue_limits(&self) -> lapin::Result<Report> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let queue = self.queue();
        let mut limits = FieldTable::default();
        limits.insert("x-max-length".into(), AMQPValue::LongLongInt(self.config.queue_batches.into()));
        limits.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        channel.queue_declare(queue.clone(), QueueDeclareOptions::exclusive(), limits).await?;
        let (bind, nothing) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), self.exchange(), queue.clone(), bind, nothing.clone()).await?;
        let message = vec![0; BYTES];
        let mut confirmations = Vec::new();
        for _ in 0..MESSAGES {
            let (exchange, options) = (self.exchange(), BasicPublishOptions::default());
            confirmations.push(
                channel.basic_publish(exchange, queue.clone(), options, &message, BasicProperties::default()).await?,
            );
        }
        let confirmed = join_all(confirmations).await;
        let refused = confirmed.iter().filter(|outcome| matches!(outcome, Ok(Confirmation::Nack(_)))).count();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let kept = channel.queue_declare(queue.clone(), passive, nothing).await?.message_count();
        channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
        Ok(queue_report(kept, refused))
    }

    /// Compares the rate of the latest records of the stream with its size.
    async fn history(&self) -> lapin::Result<Report> {
        let Some(history) = self.config.history else { return Ok(Report::skipped("the URL asks for no history")) };
        let since = SystemTime::now() - WINDOW;
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let latest = self.records(AMQPValue::Timestamp(since), RECORDS).await?;
        let last = self.records(AMQPValue::LongString("last".into()), 1).await?;
        let positions = latest.iter().chain(&last).map(|record| record.position);
        let first = latest.first().map_or(0, |record| record.position);
        let count = positions.max().map_or(0, |last| last - first + 1);
        let bytes = latest.iter().map(|record| record.bytes).sum::<usize>() as f64 / latest.len().max(1) as f64;
        let kept = Kept { messages: history.bytes as f64 / bytes.max(1.0), ttl: Some(history.ttl), unit: "batches" };
        let count = if latest.is_empty() { 0 } else { count as usize };
        let advice = "raise history_bytes and history_ttl in the URL of all nodes; a stream that is there keeps its limits until \
            a policy changes them: rabbitmqctl set_policy history '^trunkline\\..*\\.log$' '{\"max-length-bytes\": BYTES, \
            \"max-age\": \"1h\"}' --apply-to queues";
        // What was trimmed within the window is not there to be counted: the rest came since its first record.
        let published = latest.first().and_then(|record| record.published).unwrap_or(UNIX_EPOCH);
        let span = published.elapsed().unwrap_or_default().clamp(SECOND, WINDOW);
        Ok(measures::history(&kept, count, span.as_secs_f64() * 1000.0, advice))
    }

    /// Positions and sizes of the first records from there on.
    async fn records(&self, from: AMQPValue, most: usize) -> lapin::Result<Vec<Record>> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(RECORDS as u16, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        let (stream, tag) = (self.stream(), ShortString::default());
        let mut consumer = channel.basic_consume(stream, tag, BasicConsumeOptions::default(), arguments).await?;
        let mut records = Vec::new();
        while records.len() < most
            && let Ok(Some(delivery)) = timeout(IDLE, consumer.next()).await
        {
            let delivery = delivery?;
            let seconds = *delivery.properties.timestamp();
            records.push(Record {
                position: position(&delivery),
                bytes: delivery.data.len(),
                published: seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
            });
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
        }
        channel.close(200, "bye".into()).await?;
        Ok(records)
    }

    /// Tries everything that a node does, each over a channel of its own: the broker closes one on which it refuses.
    async fn missing_rights(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let queues = [Some(self.queue()), self.config.history.is_some().then(|| self.stream())];
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let nothing = FieldTable::default;
        self.attempt(&mut missing, "configure", async |channel| {
            channel.exchange_declare(self.exchange(), ExchangeKind::Topic, durable, nothing()).await
        })
        .await;
        self.attempt(&mut missing, "write", async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish(self.exchange(), self.queue(), options, &[], properties).await?.await.map(drop)
        })
        .await;
        for queue in queues.into_iter().flatten() {
            self.attempt(&mut missing, "configure", async |channel| {
                // One that is there may have other arguments: passively it needs the same right.
                let passive = queue == self.stream();
                let options = QueueDeclareOptions { passive, exclusive: !passive, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.clone(), options, nothing()).await.map(drop)
            })
            .await;
            self.attempt(&mut missing, "write", async |channel| {
                let (exchange, key) = (self.exchange(), self.queue());
                channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), nothing()).await
            })
            .await;
            self.attempt(&mut missing, "read", async |channel| {
                channel.basic_get(queue.clone(), BasicGetOptions::default()).await.map(drop)
            })
            .await;
        }
        missing
    }

    /// Older servers do not name the right in their refusal.
    async fn attempt(
        &self,
        missing: &mut Vec<String>,
        right: &str,
        attempt: impl AsyncFnOnce(&Channel) -> lapin::Result<()>,
    ) {
        let attempted = async {
            let channel = self.connection.create_channel().await?;
            attempt(&channel).await
        };
        let attempted = limited(async { Ok(attempted.await) }).await;
        if let Ok(Err(error)) = attempted
            && let lapin::ErrorKind::ProtocolError(refusal) = error.kind()
            && refusal.get_id() == ACCESS_REFUSED
        {
            let text = refusal.get_message().to_string();
            let text = text.trim_start_matches("ACCESS_REFUSED - ");
            let text = if text.starts_with("access") { format!("{right} {text}") } else { text.to_owned() };
            if !missing.contains(&text) {
                missing.push(text);
            }
        }
    }
}

const ACCESS_REFUSED: u16 = 403;

/// Time over which the rate of the history is taken.
const WINDOW: Duration = Duration::from_secs(10);

/// A record knows its second only.
const SECOND: Duration = Duration::from_secs(1);

/// A record of the stream.
struct Record {
    position: u64,
    bytes: usize,
    published: Option<SystemTime>,
}

/// Number of records that are read for their size.
const RECORDS: usize = 200;

/// Silence after which nothing more comes.
const IDLE: Duration = Duration::from_millis(500);

fn position(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get("x-stream-offset")) {
        Some(AMQPValue::LongLongInt(position)) => u64::try_from(*position).unwrap_or_default(),
        _ => 0,
    }
}

fn queue_report(kept: u32, refused: usize) -> Report {
    let value = Measured::new(f64::from(kept), "").least(f64::from(MESSAGES), f64::from(MESSAGES / 10));
    let text = match refused {
        0 => format!("a queue named as those of nodes keeps {kept} of {MESSAGES} messages"),
        _ => format!("a queue named as those of nodes keeps {kept} of {MESSAGES} messages, and refuses {refused}"),
    };
    Report::measured(value, text)
        .cause("a policy limits the length, the size or the time of these queues: a node for which more waits loses messages")
        .advice("rabbitmqctl list_policies -p VHOST and list_operator_policies -p VHOST; then rabbitmqctl clear_policy -p VHOST NAME, or a pattern without ^trunkline")
}

/// An address of this machine for one connection, which is passed on over TLS: lapin's own TLS knows neither a name nor
/// a fingerprint that the URL gives.
async fn tunnel(target: &BrokerTarget, address: &(String, u16)) -> std::io::Result<(String, u16)> {
    let mut server = reach::open(target, address).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await?;
        copy_bidirectional(&mut client, &mut server).await
    });
    Ok((Ipv4Addr::LOCALHOST.to_string(), port))
}

fn uri(config: &Config, (host, port): &(String, u16)) -> AMQPUri {
    let userinfo = AMQPUserInfo { username: config.user.clone(), password: config.password.clone() };
    AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority { userinfo, host: host.clone(), port: *port },
        vhost: config.vhost.clone(),
        query: AMQPQueryString::default(),
    }
}
