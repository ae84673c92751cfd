//! Broadcasts and sessions in JetStream.
//!
//! One stream per prefix keeps what is said to all, of all namespaces; another one the sessions. With a history,
//! everything but heartbeats and answers travels through the stream, so that all clients see one order, and a node that
//! was away reads on from where it was.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod position;
mod recovery;
mod source;
mod writer;

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind},
    stream::{Config as StreamConfig, DiscardPolicy, StorageType, Stream},
};
use tokio::time::{Instant, sleep};
use trunkline_backend::batched::token;
use trunkline_core::{Error, ErrorKind, Result};

pub(crate) use self::{
    recovery::Recovery,
    source::StreamSource,
    writer::{HEADERS, HistoryWriter},
};
use crate::config::{Config, HistoryConfig};

/// The streams of one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    prefix: String,
    config: HistoryConfig,
    /// How long setting up a stream may take.
    connect_timeout: Duration,
}

/// How long the server recognises a batch that is sent again. After that, receivers still do.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// How long JetStream may take for an answer. While the leader of a cluster changes, its servers drop requests: a longer
/// time to connect is time to ask again, not to wait for an answer that never comes.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests without an answer for which there is time while a stream is set up.
const SET_UP_ATTEMPTS: u32 = 4;

/// How long a request is held back that a cluster without a leader has refused.
const LEADER_INTERVAL: Duration = Duration::from_millis(250);

impl Streams {
    /// `None` without a history.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        config.history.map(|history| Self {
            prefix: token(&config.prefix),
            config: history,
            connect_timeout: config.connect_timeout,
        })
    }

    /// The name of the stream with what was said to all.
    pub(crate) fn log(&self) -> String {
        format!("trunkline-{}", self.prefix)
    }

    /// The name of the stream with the sessions.
    pub(crate) fn sessions(&self) -> String {
        format!("trunkline-{}-sessions", self.prefix)
    }

    /// Creates the streams, or adapts their limits.
    pub(crate) async fn set_up(&self, context: &Context) -> Result<()> {
        let mut context = context.clone();
        context.set_timeout(self.answer_timeout());
        for config in [self.log_config(), self.sessions_config()] {
            let name = config.name.clone();
            set_up_stream(&context, config, self.connect_timeout).await.map_err(|error| {
                let (kind, why) = refusal(&error);
                Error::new(kind, format!("the stream {name:?} cannot be set up{why}: {error}")).with_source(error)
            })?;
        }
        Ok(())
    }

    /// How long an answer is waited for while connecting.
    pub(crate) fn answer_timeout(&self) -> Duration {
        ANSWER_TIMEOUT.min(self.connect_timeout / SET_UP_ATTEMPTS)
    }

    /// The subjects of JetStream's API that a node uses and that are always answered. A request for messages of a
    /// consumer that is not there is not.
    pub(crate) fn api_subjects(&self) -> Vec<String> {
        let (log, sessions) = (self.log(), self.sessions());
        let streams =
            ["INFO", "CREATE", "UPDATE"].map(|what| [&log, &sessions].map(|of| format!("STREAM.{what}.{of}")));
        let sessions = ["GET", "DELETE"].map(|what| format!("STREAM.MSG.{what}.{sessions}"));
        let reading = [format!("CONSUMER.CREATE.{log}"), format!("CONSUMER.DELETE.{log}.reader")];
        let all = streams.into_iter().flatten().chain(sessions).chain(reading);
        all.map(|subject| format!("$JS.API.{subject}")).collect()
    }

    /// The stream with what was said to all, which is created if it is not there.
    pub(crate) async fn log_stream(&self, context: &Context) -> Result<Stream> {
        let stream = context.get_or_create_stream(self.log_config()).await;
        stream.map_err(|error| Error::new(ErrorKind::Broker, "the stream is not available").with_source(error))
    }

    fn log_config(&self) -> StreamConfig {
        StreamConfig {
            max_messages: self.config.batches.try_into().unwrap_or(i64::MAX),
            max_bytes: self.config.bytes.try_into().unwrap_or(i64::MAX),
            ..self.stream(self.log(), "log", self.config.ttl)
        }
    }

    fn sessions_config(&self) -> StreamConfig {
        StreamConfig {
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: 1,
            ..self.stream(self.sessions(), "session.*", self.config.session_ttl)
        }
    }

    fn stream(&self, name: String, subject: &str, max_age: Duration) -> StreamConfig {
        StreamConfig {
            name,
            subjects: vec![format!("{}.*.{subject}", self.prefix)],
            max_age,
            discard: DiscardPolicy::Old,
            storage: if self.config.in_memory { StorageType::Memory } else { StorageType::File },
            num_replicas: self.config.replicas,
            duplicate_window: max_age.min(DUPLICATE_WINDOW),
            ..StreamConfig::default()
        }
    }
}

/// Creates a stream, or adapts its limits. What a cluster without a leader drops or refuses is sent again until this
/// time is over.
async fn set_up_stream(context: &Context, config: StreamConfig, time: Duration) -> Result<(), CreateStreamError> {
    let deadline = Instant::now() + time;
    loop {
        match context.create_or_update_stream(config.clone()).await {
            Err(error) if is_without_leader(&error) && Instant::now() < deadline => {
                tracing::debug!(%error, stream = config.name, "JetStream has no leader, tried again");
                sleep(LEADER_INTERVAL).await;
            }
            done => return done.map(drop),
        }
    }
}

/// What kind of error it is that a stream is refused, and what to do about it. What JetStream refuses as a wrong request
/// stays so until a setting is changed; what it is short of may come.
fn refusal(error: &CreateStreamError) -> (ErrorKind, &'static str) {
    const UNAVAILABLE: usize = 503;
    const NOT_FOR_ACCOUNT: &str = ", the account has no JetStream: give it one with jetstream: enabled";
    match error.kind() {
        // Nobody listens to the subjects of its API.
        CreateStreamErrorKind::JetStreamUnavailable => (ErrorKind::Config, NOT_FOR_ACCOUNT),
        CreateStreamErrorKind::JetStream(answer) => match answer.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                (ErrorKind::Config, NOT_FOR_ACCOUNT)
            }
            _ if answer.code() < UNAVAILABLE => (ErrorKind::Config, ""),
            _ => (ErrorKind::Broker, ""),
        },
        _ => (ErrorKind::Broker, ""),
    }
}

fn is_without_leader(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::TimedOut => true,
        CreateStreamErrorKind::JetStream(error) => {
            matches!(error.error_code(), ErrorCode::CLUSTER_NOT_AVAILABLE | ErrorCode::CLUSTER_NOT_LEADER)
        }
        _ => false,
    }
}
