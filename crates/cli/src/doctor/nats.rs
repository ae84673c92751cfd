//! Checks of a NATS server that need a client: how long the history lasts, other prefixes, missing rights.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{Client, ConnectOptions, Event, ServerError, jetstream};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep_until};
use trunkline_backend::batched::token;
use trunkline_nats::{Config, Credentials};

use super::{
    finding::{Findings, Report},
    measures::{self, Kept},
    reach::{CONNECT, limited},
    target::{BrokerTarget, client_config},
};

/// Looks at the history, if the URL asks for one.
pub(crate) async fn examine(target: &BrokerTarget, findings: &mut Findings) {
    let Ok(config) = Config::from_url(&target.url) else { return };
    let Some(history) = &config.history else { return };
    let kept = Kept { messages: history.batches as f64, ttl: Some(history.ttl), unit: "batches" };
    let examined = async {
        let client = connect(&config, Arc::default()).await?;
        latest(&client, &config.prefix, kept).await.map_err(|error| error.to_string())
    };
    findings.add("history", examined.await.unwrap_or_else(|reason| not_asked(&reason)));
}

fn not_asked(reason: &str) -> Report {
    Report::skipped(format!("the server could not be asked: {reason}"))
}

/// Compares the rate of the latest batches of the stream with what it keeps.
async fn latest(client: &Client, prefix: &str, mut kept: Kept) -> Result<Report, async_nats::Error> {
    let stream = jetstream::new(client.clone()).get_stream(format!("trunkline-{}", token(prefix))).await?;
    let (config, state) = (&stream.cached_info().config, &stream.cached_info().state);
    let average = state.bytes as f64 / state.messages.max(1) as f64;
    if config.max_messages > 0 {
        kept.messages = config.max_messages as f64;
    }
    if config.max_bytes > 0 {
        kept.messages = kept.messages.min(config.max_bytes as f64 / average.max(1.0));
    }
    kept.ttl = (!config.max_age.is_zero()).then_some(config.max_age);
    let count = state.messages.min(LATEST);
    let mut span = 0.0;
    if count > 0 {
        let oldest = stream.get_raw_message(state.last_sequence + 1 - count).await?;
        let stored = SystemTime::from(oldest.time).duration_since(UNIX_EPOCH).unwrap_or_default();
        span = measures::now() - stored.as_secs_f64() * 1000.0;
    }
    let advice = "raise history_batches, history_bytes and history_ttl in the URL of all nodes; see: nats stream info trunkline-PREFIX";
    Ok(measures::history(&kept, count as usize, span, advice))
}

/// Number of the latest batches from which the rate is taken.
const LATEST: u64 = 200;

/// Hears the nodes of other prefixes, as far as the user may subscribe to them.
pub(crate) struct Prefixes {
    own: String,
    began: Instant,
    heard: Arc<Mutex<BTreeSet<String>>>,
    refused: Refused,
    _client: Client,
}

impl Prefixes {
    pub(crate) async fn listen(target: &BrokerTarget, namespace: &str) -> Result<Self, String> {
        let config = Config::from_url(&target.url).map_err(|error| error.to_string())?;
        let refused = Refused::default();
        let client = connect(&config, Arc::clone(&refused)).await?;
        let subject = format!("*.{}.>", token(namespace));
        let mut messages = client.subscribe(subject).await.map_err(|error| error.to_string())?;
        let heard = Arc::<Mutex<BTreeSet<String>>>::default();
        let prefixes = Arc::clone(&heard);
        // Ends with the client.
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                if let Some((prefix, _)) = message.subject.split_once('.') {
                    let mut prefixes = prefixes.lock().unwrap_or_else(PoisonError::into_inner);
                    if prefixes.len() < MAX_PREFIXES {
                        prefixes.insert(prefix.to_owned());
                    }
                }
            }
        });
        Ok(Self { own: config.prefix, began: Instant::now(), heard, refused, _client: client })
    }

    /// What was heard, after so long at least.
    pub(crate) async fn report(self, least: Duration) -> Report {
        sleep_until(self.began + least).await;
        if let Some(reason) = self.refused.lock().unwrap_or_else(PoisonError::into_inner).first() {
            return Report::skipped(format!("the user may not listen to other prefixes: {reason}"));
        }
        let own = token(&self.own);
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<_> = heard.iter().filter(|prefix| **prefix != own).map(String::as_str).collect();
        if others.is_empty() {
            let time = self.began.elapsed().as_secs_f64();
            return Report::ok(format!("no message with another prefix than {:?} within {time:.1} s", self.own));
        }
        Report::warning(format!("subjects of another prefix are alive: {}", others.join(", ")))
            .cause(format!(
                "this URL has the prefix {:?}; nodes of different prefixes do not hear each other",
                self.own
            ))
            .advice("if they should be one cluster, give all of them the same prefix; see: nats sub '*.>'")
    }
}

/// Number of other prefixes that are named.
const MAX_PREFIXES: usize = 100;

/// What a node does, and the user may not, in the words of the server.
pub(crate) async fn missing_rights(target: &BrokerTarget) -> Vec<String> {
    let Ok(config) = Config::from_url(&target.url) else { return Vec::new() };
    let refused = Refused::default();
    let Ok(client) = connect(&config, Arc::clone(&refused)).await else { return Vec::new() };
    let prefix = token(&config.prefix);
    let own = format!("{prefix}.{}.doctor", token(crate::echo::NAMESPACE));
    let mut published = vec![own.clone()];
    if config.history.is_some() {
        published.push(format!("$JS.API.STREAM.INFO.trunkline-{prefix}"));
        published.push(format!("$JS.API.CONSUMER.INFO.trunkline-{prefix}.doctor"));
    }
    // The answers of the server come in the order of the questions, and the flush waits for the last one.
    let _subscription = client.subscribe(own).await;
    for subject in published {
        let _ = client.publish(subject, "".into()).await;
    }
    let _ = limited(async { client.flush().await.map_err(std::io::Error::other) }).await;
    let asked = async { client.request("trunkline.doctor.rights", "".into()).await.map_err(std::io::Error::other) };
    let _ = tokio::time::timeout(SETTLE, asked).await;
    refused.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// How long the server has for its refusals.
const SETTLE: Duration = Duration::from_millis(500);

/// What the server has refused, once each.
type Refused = Arc<Mutex<BTreeSet<String>>>;

async fn connect(config: &Config, refused: Refused) -> Result<Client, String> {
    let mut options = ConnectOptions::new().connection_timeout(CONNECT).name("trunkline doctor");
    options = match &config.credentials {
        Credentials::None => options,
        Credentials::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
        Credentials::Token(token) => options.token(token.clone()),
        Credentials::NKey(seed) => options.nkey(seed.clone()),
        Credentials::Jwt(content) => options.credentials(content).map_err(|error| error.to_string())?,
        _ => return Err("the credentials are asked for by the application".into()),
    };
    options = options.require_tls(config.tls.required);
    if config.tls.first {
        options = options.tls_first();
    }
    let tls =
        client_config(&config.tls.ca, &config.tls.client, &config.tls.check).map_err(|error| error.to_string())?;
    options = options.tls_client_config(tls);
    let options = options.event_callback(move |event| {
        let refused = Arc::clone(&refused);
        async move {
            if let Event::ServerError(ServerError::Other(reason)) = event {
                refused.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
            }
        }
    });
    let connecting = async { options.connect(config.servers.clone()).await.map_err(std::io::Error::other) };
    limited(connecting).await.map_err(|error| error.to_string())
}
