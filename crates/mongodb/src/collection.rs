//! The collection that carries the messages: inspected, created if it is missing, refused if it is of the wrong kind.

use std::{fmt, time::Duration};

use futures_util::TryStreamExt;
use mongodb::{
    Database, IndexModel,
    bson::{Document, RawDocumentBuf, doc},
    options::IndexOptions,
    results::{CollectionSpecification, CollectionType},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    config::{Config, Storage},
    error,
};

/// The field of the TTL index.
const CREATED_AT: &str = "createdAt";

/// A kind of collection that keeps messages for a limited time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CollectionKind {
    Capped { bytes: u64 },
    Expiring { after: Duration },
}

impl CollectionKind {
    pub(crate) fn is_expiring(self) -> bool {
        matches!(self, Self::Expiring { .. })
    }
}

/// The result of inspecting the collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Known(CollectionKind),
    /// A collection that is neither capped nor has a TTL index.
    Ordinary {
        is_empty: bool,
    },
    View,
    TimeSeries,
}

/// Creates the collection if it is missing and [`Config::create`] allows it, and returns its kind.
///
/// # Errors
/// `Config` for a collection of the wrong kind, or a missing one that may not be created; `Disconnected`, `Broker`.
pub(crate) async fn prepare(database: &Database, config: &Config) -> Result<CollectionKind> {
    // Another process may create it at the same time: then it is inspected again.
    const ATTEMPTS: usize = 3;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let found =
            inspect(database, &config.collection).await.map_err(|failed| failed_to("inspect", config, &failed))?;
        match next_step(found, config)? {
            Step::Done(kind) => return Ok(kind),
            Step::Create(kind) => last = create(database, &config.collection, kind).await.err(),
            Step::CreateIndex(after) => last = create_index(database, &config.collection, after).await.err(),
        }
        if let Some(failed) = last.as_ref().filter(|failed| !is_conflict(failed)) {
            return Err(not_created(config, failed));
        }
    }
    let reason = last.map_or_else(|| "it keeps changing".to_owned(), |failed| error::describe(&failed));
    Err(Error::new(ErrorKind::Broker, format!("create collection {}: {reason}", name(config))))
}

/// Creates a collection again that was dropped or renamed. If a document was inserted meanwhile, which creates an
/// ordinary collection, it is converted.
pub(crate) async fn restore(database: &Database, config: &Config, kind: CollectionKind) -> Result<()> {
    // Other nodes do the same at the same time, and publishers insert.
    const ATTEMPTS: usize = 10;
    let name = &config.collection;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let found = inspect(database, name).await.map_err(|failed| failed_to("inspect", config, &failed))?;
        let done = match (found, kind) {
            (Found::Known(found), _) if found.is_expiring() == kind.is_expiring() => return Ok(()),
            _ if !config.create => return refuse(found, config),
            (Found::Nothing, _) => create(database, name, kind).await,
            (Found::Ordinary { .. }, CollectionKind::Expiring { after }) => create_index(database, name, after).await,
            (Found::Ordinary { .. }, CollectionKind::Capped { bytes }) => convert(database, name, bytes).await,
            _ => return refuse(found, config),
        };
        last = done.err();
    }
    let reason = last.map_or_else(|| "it keeps changing".to_owned(), |failed| error::describe(&failed));
    Err(Error::new(ErrorKind::Broker, format!("create collection {} again: {reason}", self::name(config))))
}

/// What [`prepare`] does next.
#[derive(Debug, PartialEq)]
enum Step {
    Done(CollectionKind),
    Create(CollectionKind),
    CreateIndex(Duration),
}

fn next_step(found: Found, config: &Config) -> Result<Step> {
    let is_wanted = |kind: CollectionKind| match config.storage {
        Storage::AsFound => true,
        Storage::Capped { .. } => !kind.is_expiring(),
        Storage::Expiring { .. } => kind.is_expiring(),
    };
    match found {
        Found::Known(kind) if is_wanted(kind) => Ok(Step::Done(kind)),
        Found::Nothing if config.create => Ok(Step::Create(match config.storage {
            Storage::AsFound => CollectionKind::Capped { bytes: Storage::DEFAULT_BYTES },
            Storage::Capped { bytes } => CollectionKind::Capped { bytes },
            Storage::Expiring { after } => CollectionKind::Expiring { after },
        })),
        Found::Ordinary { is_empty: true } if config.create => match config.storage {
            Storage::Expiring { after } => Ok(Step::CreateIndex(after)),
            _ => refuse(found, config),
        },
        _ => refuse(found, config),
    }
}

fn refuse<T>(found: Found, config: &Config) -> Result<T> {
    let capped = "a capped collection";
    let expiring = "one with a TTL index on createdAt";
    let allowed = match config.storage {
        Storage::AsFound => format!("{capped} or {expiring}"),
        Storage::Capped { .. } => format!("{capped} (or, with the parameter ttl instead of capped_bytes, {expiring})"),
        Storage::Expiring { .. } => {
            format!("{expiring} (or, with the parameter capped_bytes instead of ttl, {capped})")
        }
    };
    let hint = if found == Found::Nothing { "; create=on would create it" } else { "" };
    let context = format!("collection {}: found is {found}; allowed is {allowed}{hint}", name(config));
    Err(Error::new(ErrorKind::Config, context))
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Known(CollectionKind::Capped { bytes }) => write!(f, "a capped collection of {bytes} bytes"),
            Self::Known(CollectionKind::Expiring { after }) => {
                write!(f, "a collection with a TTL index of {after:?} on createdAt")
            }
            Self::Ordinary { is_empty: true } => {
                f.write_str("an empty ordinary collection without a TTL index on createdAt")
            }
            Self::Ordinary { is_empty: false } => {
                f.write_str("an ordinary collection without a TTL index on createdAt")
            }
            Self::View => f.write_str("a view"),
            Self::TimeSeries => f.write_str("a time series"),
        }
    }
}

async fn inspect(database: &Database, name: &str) -> mongodb::error::Result<Found> {
    let collections = database.list_collections().filter(doc! { "name": name }).await?;
    let Some(specification) = collections.try_collect::<Vec<CollectionSpecification>>().await?.pop() else {
        return Ok(Found::Nothing);
    };
    match specification.collection_type {
        CollectionType::View => return Ok(Found::View),
        CollectionType::Timeseries => return Ok(Found::TimeSeries),
        _ => {}
    }
    if specification.options.capped == Some(true) {
        return Ok(Found::Known(CollectionKind::Capped { bytes: specification.options.size.unwrap_or_default() }));
    }
    let collection = database.collection::<RawDocumentBuf>(name);
    let indexes: Vec<IndexModel> = collection.list_indexes().await?.try_collect().await?;
    if let Some(after) = indexes.iter().find_map(expiry) {
        return Ok(Found::Known(CollectionKind::Expiring { after }));
    }
    let first = collection.find_one(doc! {}).projection(doc! { "_id": 1 }).await?;
    Ok(Found::Ordinary { is_empty: first.is_none() })
}

fn expiry(index: &IndexModel) -> Option<Duration> {
    let is_on_date = index.keys.len() == 1 && index.keys.contains_key(CREATED_AT);
    index.options.as_ref().filter(|_| is_on_date)?.expire_after
}

async fn create(database: &Database, name: &str, kind: CollectionKind) -> mongodb::error::Result<()> {
    match kind {
        CollectionKind::Capped { bytes } => database.create_collection(name).capped(true).size(bytes).await,
        // Creates the collection, too.
        CollectionKind::Expiring { after } => create_index(database, name, after).await,
    }
}

async fn create_index(database: &Database, name: &str, after: Duration) -> mongodb::error::Result<()> {
    let options = IndexOptions::builder().expire_after(after).build();
    let model = IndexModel::builder().keys(doc! { CREATED_AT: 1 }).options(options).build();
    database.collection::<Document>(name).create_index(model).await.map(|_| ())
}

async fn convert(database: &Database, name: &str, bytes: u64) -> mongodb::error::Result<()> {
    database.run_command(doc! { "convertToCapped": name, "size": bytes.cast_signed() }).await.map(|_| ())
}

/// Whether another process was faster: the collection exists, or the index does with another time.
fn is_conflict(failed: &mongodb::error::Error) -> bool {
    const CODES: [i32; 4] = [48, 85, 86, 117];
    matches!(&*failed.kind, mongodb::error::ErrorKind::Command(command) if CODES.contains(&command.code))
}

/// The error of a collection that was not created, with what to do where the server knows no capped ones.
fn not_created(config: &Config, failed: &mongodb::error::Error) -> Error {
    let error = failed_to("create", config, failed);
    let is_refused =
        matches!(&*failed.kind, mongodb::error::ErrorKind::Command(_)) && error.kind() == ErrorKind::Broker;
    if !is_refused || matches!(config.storage, Storage::Expiring { .. }) {
        return error;
    }
    let hint =
        "no capped collection (Amazon DocumentDB and Azure Cosmos DB have none): ttl=1h uses one with a TTL index";
    Error::new(ErrorKind::Unsupported, hint).with_source(error)
}

fn failed_to(what: &str, config: &Config, failed: &mongodb::error::Error) -> Error {
    error::into_error(format!("{what} collection {}", name(config)), failed)
}

fn name(config: &Config) -> String {
    format!("{:?}", format!("{}.{}", config.database, config.collection))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPPED: Found = Found::Known(CollectionKind::Capped { bytes: 4096 });
    const EXPIRING: Found = Found::Known(CollectionKind::Expiring { after: Duration::from_secs(60) });

    fn config(parameters: &str) -> Config {
        Config::from_url(&format!("mongodb://h/db?{parameters}")).unwrap()
    }

    #[test]
    fn a_missing_collection_is_created_as_configured() {
        let step = |parameters: &str| next_step(Found::Nothing, &config(parameters)).unwrap();
        assert_eq!(step(""), Step::Create(CollectionKind::Capped { bytes: 64 << 20 }));
        assert_eq!(step("capped_bytes=1MiB"), Step::Create(CollectionKind::Capped { bytes: 1 << 20 }));
        assert_eq!(step("ttl=5m"), Step::Create(CollectionKind::Expiring { after: Duration::from_secs(300) }));
        let empty = Found::Ordinary { is_empty: true };
        assert_eq!(next_step(empty, &config("ttl=5m")).unwrap(), Step::CreateIndex(Duration::from_secs(300)));
    }

    #[test]
    fn an_existing_collection_of_either_kind_is_used() {
        for found in [CAPPED, EXPIRING] {
            assert!(matches!(next_step(found, &config("")), Ok(Step::Done(_))));
        }
        assert!(matches!(
            next_step(CAPPED, &config("capped_bytes=1MiB")),
            Ok(Step::Done(CollectionKind::Capped { bytes: 4096 }))
        ));
        assert!(matches!(next_step(EXPIRING, &config("ttl=1h")), Ok(Step::Done(_))));
    }

    #[test]
    fn a_collection_of_the_wrong_kind_is_refused_with_what_was_found_and_what_is_allowed() {
        let ordinary = Found::Ordinary { is_empty: false };
        for (found, parameters, parts) in [
            (ordinary, "", ["an ordinary collection", "a capped collection or one with a TTL index"]),
            (CAPPED, "ttl=1h", ["a capped collection of 4096 bytes", "one with a TTL index on createdAt (or"]),
            (EXPIRING, "capped_bytes=1MiB", ["a TTL index of 60s", "a capped collection (or"]),
            (Found::View, "", ["found is a view", "allowed"]),
            (Found::Nothing, "create=off", ["found is none", "create=on"]),
            (Found::Ordinary { is_empty: true }, "", ["an empty ordinary", "allowed"]),
        ] {
            let error = next_step(found, &config(parameters)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            for part in parts {
                assert!(error.to_string().contains(part), "{error}");
            }
            assert!(error.to_string().contains("db.socket.io-adapter-events"), "{error}");
        }
    }
}
