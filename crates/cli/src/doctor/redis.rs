//! Checks of a Redis server: version, role, memory, limits, channels of other prefixes.

use std::{
    collections::{BTreeSet, HashMap},
    io,
};

use redis::{Cmd, RedisConnectionInfo, aio::MultiplexedConnection};
use tokio::sync::oneshot;
use trunkline_redis::{Config, Mode, PubSubSubscription, ServerConfig, SubscriptionMode, Topology};

use super::{
    finding::{Findings, Measured, Report},
    measures::{self, ClockLimits, Kept},
    reach::{self, Stream, limited},
    target::BrokerTarget,
};
use crate::echo::NAMESPACE;

const CODES: [&str; 8] =
    ["version", "primary", "clock", "history", "redis-output-buffer", "redis-memory", "redis-eviction", "prefix"];

pub(crate) async fn examine(target: &BrokerTarget, clock: ClockLimits, findings: &mut Findings) {
    let mut server = match Server::connect(target).await {
        Ok(server) => server,
        Err(reason) => {
            let because = format!("the server could not be asked: {reason}");
            for code in CODES {
                findings.add(code, Report::skipped(because.as_str()));
            }
            return;
        }
    };
    server.version(findings).await;
    server.role(findings).await;
    server.clock(clock, findings).await;
    server.history(findings).await;
    server.output_buffer(findings).await;
    server.memory(findings).await;
    server.prefixes(findings).await;
}

/// What a node does, and the user may not.
pub(crate) async fn missing_rights(target: &BrokerTarget) -> Vec<String> {
    // A connection that subscribes can do nothing else.
    let (Ok(mut server), Ok(subscribing)) = (Server::connect(target).await, Server::connect(target).await) else {
        return Vec::new();
    };
    server.refused(&mut { subscribing.connection }).await
}

fn of_words(words: &[String]) -> Cmd {
    let mut command = redis::cmd(&words[0]);
    command.arg(&words[1..]);
    command
}

/// A connection of our own: what is asked here no node needs.
#[derive(Debug)]
pub(crate) struct Server {
    config: Config,
    connection: MultiplexedConnection,
}

impl Server {
    /// Connects to the server that a URL names.
    pub(crate) async fn at(url: &str) -> Result<Self, String> {
        Self::connect(&BrokerTarget::parse(url).map_err(|failure| failure.text)?).await
    }

    /// Commands of a node that are refused to the user. Each is refused before it is looked at closer, and does nothing as it
    /// stands here, or what a node does.
    async fn refused(&mut self, subscribing: &mut MultiplexedConnection) -> Vec<String> {
        let prefix = &self.config.prefix;
        let channel = format!("{prefix}#{NAMESPACE}#");
        let mut commands = vec![vec!["PING".to_owned()]];
        let mut command = |words: &[&str]| commands.push(words.iter().map(|word| (*word).to_owned()).collect());
        let mut subscriptions = Vec::new();
        match &self.config.mode {
            Mode::PubSub(options) => {
                command(&["PUBLISH", &channel, ""]);
                command(&["PUBSUB", "NUMSUB", &channel]);
                subscriptions.push(["SUBSCRIBE".to_owned(), format!("{prefix}-request#{NAMESPACE}#")]);
                subscriptions.push(["SUBSCRIBE".to_owned(), format!("{prefix}-response#{NAMESPACE}#")]);
                subscriptions.push(match options.subscription {
                    PubSubSubscription::Rooms => ["SUBSCRIBE".to_owned(), channel],
                    _ => ["PSUBSCRIBE".to_owned(), format!("{channel}*")],
                });
            }
            Mode::Sharded(_) => {
                command(&["SPUBLISH", &channel, ""]);
                command(&["PUBSUB", "SHARDNUMSUB", &channel]);
                subscriptions.push(["SSUBSCRIBE".to_owned(), channel]);
            }
            Mode::Streams(streams) => {
                let session = format!("{}trunkline-doctor", streams.session_prefix);
                // An id that is none.
                command(&["XADD", &streams.stream, "none", "f", "v"]);
                command(&["XREAD", "COUNT", "1", "STREAMS", &streams.stream, "0"]);
                command(&["XRANGE", &streams.stream, "-", "+", "COUNT", "1"]);
                command(&["XINFO", "STREAM", &streams.stream]);
                // A time that is none.
                command(&["SET", &session, "", "PX", "0"]);
                command(&["GET", &session]);
                command(&["DEL", &session]);
                command(&[if streams.sharded_pubsub { "SPUBLISH" } else { "PUBLISH" }, &channel, ""]);
                subscriptions
                    .push([if streams.sharded_pubsub { "SSUBSCRIBE" } else { "SUBSCRIBE" }.to_owned(), channel]);
            }
            _ => (),
        }
        let mut refused = Vec::new();
        for words in commands {
            if let Err(error) = self.ask::<redis::Value>(&of_words(&words)).await
                && error.to_uppercase().contains("NOPERM")
            {
                refused.push(words[..words.len().min(2)].join(" "));
            }
        }
        for words in subscriptions {
            let command = of_words(&words);
            let asked = async { command.query_async::<redis::Value>(subscribing).await.map_err(io::Error::other) };
            if limited(asked).await.is_err_and(|error| error.to_string().to_uppercase().contains("NOPERM")) {
                refused.push(words.join(" "));
            }
        }
        refused
    }

    /// Rooms of a namespace that have channels of their own and subscribers.
    pub(crate) async fn rooms(&mut self, namespace: &str) -> Result<Vec<String>, String> {
        let prefix = format!("{}#{namespace}#", self.config.prefix);
        let channels: Vec<String> =
            self.ask(redis::cmd("PUBSUB").arg("SHARDCHANNELS").arg(format!("{prefix}*#"))).await?;
        let rooms = channels.iter().filter_map(|channel| channel.strip_prefix(&prefix)?.strip_suffix('#'));
        Ok(rooms.map(str::to_owned).collect())
    }

    async fn connect(target: &BrokerTarget) -> Result<Self, String> {
        let config = Config::from_url(&target.url).map_err(|error| error.to_string())?;
        let ServerConfig { user, password, .. } = &config.server;
        let mut problem = "no address answers".to_owned();
        for address in &target.addresses {
            let mut found = None;
            if let Topology::Sentinel { service, user, password } = &config.server.topology {
                let asked = open(target, address, user.as_deref(), password.as_deref()).await;
                let Ok(mut sentinel) = asked else { continue };
                let mut ask = redis::cmd("SENTINEL");
                ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
                found = ask.query_async::<(String, u16)>(&mut sentinel).await.ok();
            }
            match open(target, &found.unwrap_or_else(|| address.clone()), user.as_deref(), password.as_deref()).await {
                Ok(connection) => return Ok(Self { config, connection }),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> Result<T, String> {
        let asked = async { command.query_async(&mut self.connection).await.map_err(io::Error::other) };
        limited(asked).await.map_err(|error| error.to_string())
    }

    async fn info(&mut self, section: &str) -> Result<HashMap<String, String>, String> {
        let text: String = self.ask(redis::cmd("INFO").arg(section)).await?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn setting(&mut self, name: &str) -> Result<String, String> {
        let pairs: HashMap<String, String> = self.ask(redis::cmd("CONFIG").arg("GET").arg(name)).await?;
        pairs.get(name).cloned().ok_or_else(|| format!("there is no {name}"))
    }

    async fn version(&mut self, findings: &mut Findings) {
        let info = match self.info("server").await {
            Ok(info) => info,
            Err(reason) => return findings.add("version", Report::skipped(reason)),
        };
        let name = if info.contains_key("valkey_version") { "valkey_version" } else { "redis_version" };
        let version = info.get(name).cloned().unwrap_or_default();
        let is_sharded = match &self.config.mode {
            Mode::Sharded(_) => true,
            Mode::Streams(streams) => streams.sharded_pubsub,
            _ => false,
        };
        let (major, minor) = numbers(&version);
        let report = if is_sharded && major < 7 {
            Report::critical(format!("this mode needs Redis 7, and the server is {version}"))
                .advice("upgrade the server, or use mode=pubsub or mode=streams")
        } else if (major, minor) < (6, 2) {
            Report::warning(format!("{version} is older than what Trunkline is tested with, 6.2"))
                .advice("upgrade the server")
        } else {
            Report::ok(format!("{} {version}", name.trim_end_matches("_version")))
        };
        findings.add("version", report);
    }

    async fn role(&mut self, findings: &mut Findings) {
        let report = match self.info("replication").await.map(|info| info.get("role").cloned().unwrap_or_default()) {
            Ok(role) if role == "master" => Report::ok("the server is a master"),
            Ok(_) if self.config.server.topology == Topology::Cluster => Report::ok("the address is one of a cluster"),
            Ok(role) => Report::critical(format!("the server is a {role}, which takes no writes"))
                .cause("the address is that of a replica, or the master was demoted")
                .advice("name the master, or the sentinels with ?sentinel=NAME; see: redis-cli -h HOST -p PORT ROLE"),
            Err(reason) => Report::skipped(reason),
        };
        findings.add("primary", report);
    }

    async fn clock(&mut self, limits: ClockLimits, findings: &mut Findings) {
        let before = measures::now();
        let time = self.ask::<(f64, f64)>(&redis::cmd("TIME")).await;
        findings.add(
            "clock",
            time.map_or_else(Report::skipped, |(seconds, micros)| {
                measures::clock(before, seconds * 1000.0 + micros / 1000.0, measures::now(), limits)
            }),
        );
    }

    /// Compares the rate of the latest entries of the stream with its length. What the doctor has sent is no rate.
    async fn history(&mut self, findings: &mut Findings) {
        let Mode::Streams(streams) = &self.config.mode else { return };
        let capacity = streams.max_len as f64;
        let mut latest = redis::cmd("XREVRANGE");
        latest.arg(&streams.stream).arg("+").arg("-").arg("COUNT").arg(500);
        let entries = self.ask::<Vec<(String, HashMap<String, redis::Value>)>>(&latest).await;
        findings.add(
            "history",
            entries.map_or_else(Report::skipped, |mut entries| {
                let own = redis::Value::BulkString(NAMESPACE.into());
                entries.retain(|(_, fields)| fields.get("nsp") != Some(&own));
                let oldest = entries.last().and_then(|(id, _)| id.split('-').next()?.parse::<f64>().ok());
                let span = oldest.map_or(0.0, |oldest| measures::now() - oldest);
                let advice = "raise max_len in the URL of all nodes (maxLen in Node.js)";
                measures::history(&Kept::messages(capacity), entries.len(), span, advice)
            }),
        );
    }

    /// Whether rooms have channels of their own, by the URL; `None` in other modes.
    pub(crate) fn has_room_channels(&self) -> Option<bool> {
        match &self.config.mode {
            Mode::Sharded(sharded) => Some(sharded.subscription != SubscriptionMode::Static),
            _ => None,
        }
    }

    async fn output_buffer(&mut self, findings: &mut Findings) {
        let setting = self.setting("client-output-buffer-limit").await;
        let limit = setting.map(|setting| pubsub_limit(&setting).unwrap_or_default());
        let rate = self.info("stats").await.ok().and_then(|info| info.get("instantaneous_output_kbps")?.parse().ok());
        let largest = self.config.max_message_bytes as f64;
        let report = match limit {
            Err(reason) => Report::skipped(reason),
            Ok(0) => Report::ok("Redis sets no limit to what waits for a subscriber"),
            Ok(limit) => {
                let lasts = rate.filter(|rate: &f64| *rate >= 1.0).map_or(String::new(), |rate| {
                    let seconds = limit as f64 / (rate * 1024.0);
                    format!("; at the present output of {rate:.0} KiB/s that is {seconds:.0} s of everything")
                });
                let value = Measured::new(limit as f64, "B").least(2.0 * largest, largest);
                Report::measured(value, format!("a node for which {} wait is cut off{lasts}", bytes(limit)))
                    .cause(format!("one message may have {}, and is cut off with what waits before it", bytes(largest as u64)))
                    .advice("redis-cli -h HOST -p PORT CONFIG SET client-output-buffer-limit 'pubsub 64mb 16mb 60', and the same in redis.conf")
            }
        };
        findings.add("redis-output-buffer", report);
    }

    async fn memory(&mut self, findings: &mut Findings) {
        let info = match self.info("memory").await {
            Ok(info) => info,
            Err(reason) => {
                findings.add("redis-memory", Report::skipped(reason.as_str()));
                return findings.add("redis-eviction", Report::skipped(reason));
            }
        };
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let (used, limit) = (number("used_memory"), number("maxmemory"));
        let report = if limit == 0 {
            Report::ok(format!("Redis uses {}, and no limit is set", bytes(used)))
        } else {
            let value = Measured::new(used as f64 * 100.0 / limit as f64, "%").limits(80.0, 95.0);
            Report::measured(value, format!("Redis uses {} of {}", bytes(used), bytes(limit)))
                .cause("at the limit Redis refuses what a node stores, or evicts keys")
                .advice("find what fills it: redis-cli -h HOST -p PORT --bigkeys; or raise it: redis-cli -h HOST -p PORT CONFIG SET maxmemory 1gb")
        };
        findings.add("redis-memory", report);
        let policy = info.get("maxmemory_policy").cloned().unwrap_or_default();
        let report = match &self.config.mode {
            Mode::Streams(_) if limit > 0 && policy.starts_with("allkeys") => {
                Report::critical(format!("with maxmemory-policy {policy} Redis may delete the stream"))
                    .cause("a deleted stream is a gap for every node, and no client gets what it missed")
            }
            Mode::Streams(_) if limit > 0 && policy.starts_with("volatile") => {
                Report::warning(format!("with maxmemory-policy {policy} Redis may delete sessions"))
                    .cause("a client whose session is gone cannot take it up again")
            }
            Mode::Streams(_) => Report::ok(format!("maxmemory-policy is {policy}")),
            _ => Report::ok("this mode keeps nothing in Redis"),
        };
        findings
            .add("redis-eviction", report.advice("redis-cli -h HOST -p PORT CONFIG SET maxmemory-policy noeviction"));
    }

    async fn prefixes(&mut self, findings: &mut Findings) {
        let channels: Result<Vec<String>, _> = self.ask(redis::cmd("PUBSUB").arg("CHANNELS").arg("*#/*#*")).await;
        let sharded = self.ask::<Vec<String>>(redis::cmd("PUBSUB").arg("SHARDCHANNELS").arg("*#/*#*")).await;
        let channels = match channels {
            Ok(channels) => channels.into_iter().chain(sharded.unwrap_or_default()),
            Err(reason) => return findings.add("prefix", Report::skipped(reason)),
        };
        let prefixes = channels.filter_map(|channel| channel.split_once("#/").map(|(prefix, _)| root(prefix)));
        let others: BTreeSet<_> = prefixes.filter(|prefix| *prefix != self.config.prefix).collect();
        let report = if others.is_empty() {
            Report::ok(format!("no channels of another prefix than {:?} are subscribed to", self.config.prefix))
        } else {
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            Report::warning(format!("channels of another prefix are alive: {others}"))
                .cause(format!("this URL has the prefix {:?}; nodes of different prefixes do not hear each other", self.config.prefix))
                .advice("if they should be one cluster, give all of them the same prefix (`key` or `channelPrefix` in Node.js); see: redis-cli -h HOST -p PORT PUBSUB CHANNELS '*'")
        };
        findings.add("prefix", report);
    }
}

async fn open(
    target: &BrokerTarget,
    address: &(String, u16),
    user: Option<&str>,
    password: Option<&str>,
) -> Result<MultiplexedConnection, String> {
    let stream: std::pin::Pin<Box<dyn Stream>> =
        reach::open(target, address).await.map_err(|error| error.to_string())?;
    let mut info = RedisConnectionInfo::default();
    if let Some(user) = user {
        info = info.set_username(user);
    }
    if let Some(password) = password {
        info = info.set_password(password);
    }
    let (opened, connection) = oneshot::channel();
    // What drives the connection borrows the user, and ends with the connection.
    tokio::spawn(async move {
        match MultiplexedConnection::new(&info, stream).await {
            Ok((connection, driver)) => {
                let _ = opened.send(Ok(connection));
                driver.await;
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    });
    let connected = async { connection.await.map_err(io::Error::other)?.map_err(io::Error::other) };
    limited(connected).await.map_err(|error| error.to_string())
}

/// Prefix of a node's channels: requests and answers have channels with an ending.
fn root(prefix: &str) -> String {
    prefix.strip_suffix("-request").or_else(|| prefix.strip_suffix("-response")).unwrap_or(prefix).to_owned()
}

/// Hard limit of `pubsub` in `client-output-buffer-limit`.
fn pubsub_limit(setting: &str) -> Option<u64> {
    let mut words = setting.split_whitespace().skip_while(|word| *word != "pubsub");
    words.nth(1)?.parse().ok()
}

/// First two numbers of a version.
pub(crate) fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{:.0} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let setting = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(pubsub_limit(setting), Some(33_554_432));
        assert_eq!(pubsub_limit("normal 0 0 0"), None);
        assert_eq!(numbers("7.0.15"), (7, 0));
        assert_eq!(numbers("15.18 (Debian 15.18-0)"), (15, 18));
        assert_eq!((bytes(10), bytes(2_048), bytes(33_554_432)), ("10 B".into(), "2 KiB".into(), "32.0 MiB".into()));
        assert_eq!((root("chat-request"), root("chat")), ("chat".to_owned(), "chat".to_owned()));
    }
}
