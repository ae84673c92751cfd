//! Checks of a MongoDB server: version, clock, how long the collection lasts, collections of other clusters.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{Bson, Document, doc},
    options::ClientOptions,
};
use trunkline_mongodb::Config;

use super::{
    finding::{Findings, Report},
    measures::{self, ClockLimits, Kept},
    reach::{CONNECT, limited},
    redis::numbers,
    target::BrokerTarget,
};
use crate::echo::NAMESPACE;

pub(crate) async fn examine(target: &BrokerTarget, limits: ClockLimits, findings: &mut Findings) {
    let (client, config) = match connect(target).await {
        Ok(connected) => connected,
        Err(reason) => {
            for code in ["version", "primary", "clock", "history", "prefix"] {
                findings.add(code, Report::skipped(format!("the server could not be asked: {reason}")));
            }
            return;
        }
    };
    let database = client.database(&config.database);
    let collection = database.collection(&config.collection);
    findings.add("version", reported(version(&client)).await);
    findings.add("primary", reported(primary(&client)).await);
    findings.add("clock", reported(clock(&client, limits)).await);
    findings.add("history", reported(history(&database, &collection)).await);
    findings.add("prefix", reported(others(&database, &config.collection)).await);
}

/// What a node does, and the user may not: actions on the collection.
pub(crate) async fn missing_rights(target: &BrokerTarget) -> Vec<String> {
    let Ok((client, config)) = connect(target).await else { return Vec::new() };
    let asked = async {
        let question = doc! { "connectionStatus": 1, "showPrivileges": true };
        let status = client.database(&config.database).run_command(question).await.map_err(std::io::Error::other)?;
        let info = status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUserPrivileges"));
        Ok(info.cloned().unwrap_or_default())
    };
    let Ok(privileges) = limited(asked).await else { return Vec::new() };
    let mut granted = BTreeSet::new();
    for privilege in privileges.iter().filter_map(Bson::as_document) {
        let Ok(resource) = privilege.get_document("resource") else { continue };
        let is = |field: &str, name: &str| resource.get_str(field).is_ok_and(|text| text.is_empty() || text == name);
        let is_ours = is("db", &config.database) && is("collection", &config.collection);
        if is_ours || resource.get_bool("anyResource").unwrap_or_default() {
            let actions = privilege.get_array("actions").into_iter().flatten();
            granted.extend(actions.filter_map(|action| action.as_str().map(str::to_owned)));
        }
    }
    let create = if config.create { &["createCollection"][..] } else { &[] };
    let wanted = ["find", "insert", "changeStream", "listCollections"].iter().chain(create);
    let missing = wanted.filter(|action| !granted.contains(**action));
    missing.map(|action| format!("{action} on {}.{}", config.database, config.collection)).collect()
}

async fn reported(check: impl Future<Output = mongodb::error::Result<Report>>) -> Report {
    let checked = limited(async { check.await.map_err(std::io::Error::other) }).await;
    checked.unwrap_or_else(|error| Report::skipped(format!("the server could not be asked: {error}")))
}

async fn connect(target: &BrokerTarget) -> Result<(Client, Config), String> {
    let config = Config::from_url(&target.url).map_err(|error| error.to_string())?;
    let mut options = ClientOptions::parse(driver_url(&target.url)).await.map_err(|error| error.to_string())?;
    options.server_selection_timeout = Some(CONNECT);
    let client = Client::with_options(options).map_err(|error| error.to_string())?;
    Ok((client, config))
}

async fn version(client: &Client) -> mongodb::error::Result<Report> {
    let info = client.database("admin").run_command(doc! { "buildInfo": 1 }).await?;
    let version = info.get_str("version").unwrap_or_default();
    Ok(if numbers(version) < (4, 2) {
        Report::critical(format!("{version} is too old")).cause("change streams need 4.2").advice("upgrade the server")
    } else {
        Report::ok(format!("MongoDB {version}"))
    })
}

async fn primary(client: &Client) -> mongodb::error::Result<Report> {
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    Ok(if hello.get_bool("isWritablePrimary").unwrap_or(true) {
        Report::ok("the server is a primary")
    } else {
        Report::critical("the server is a secondary, which takes no writes")
            .cause("the address is that of a secondary, or the primary was demoted")
            .advice(
                "name all members of the replica set in the URL, without directConnection; who is what: mongosh \
                mongodb://HOST:PORT --eval 'rs.status().members.map(m => [m.name, m.stateStr])'",
            )
    })
}

async fn clock(client: &Client, limits: ClockLimits) -> mongodb::error::Result<Report> {
    let before = measures::now();
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    let Ok(time) = hello.get_datetime("localTime") else { return Ok(Report::skipped("the server tells no time")) };
    Ok(measures::clock(before, time.timestamp_millis() as f64, measures::now(), limits))
}

/// Compares the rate of the latest documents with the size of the capped collection. What the doctor has sent is no rate.
async fn history(database: &Database, collection: &Collection<Document>) -> mongodb::error::Result<Report> {
    let size = database.run_command(doc! { "collStats": collection.name() }).await?;
    if size.get("nindexes").and_then(number_of).unwrap_or_default() == 0.0 {
        return Ok(Report::ok("the collection is not there yet: the first node creates it"));
    }
    if !size.get_bool("capped").unwrap_or_default() {
        return Ok(Report::ok("documents expire by their TTL index, whatever the rate"));
    }
    let number = |name: &str| size.get(name).and_then(number_of).unwrap_or_default();
    let capacity = number("maxSize") / number("avgObjSize").max(1.0);
    let foreign = doc! { "nsp": { "$ne": NAMESPACE } };
    let latest = collection.find(foreign).sort(doc! { "$natural": -1 }).limit(200).projection(doc! { "_id": 1 });
    let latest: Vec<Document> = latest.await?.try_collect().await?;
    let oldest = latest.last().and_then(|document| document.get_object_id("_id").ok());
    // An id knows its second only.
    let span = oldest.map_or(0.0, |id| measures::now() - id.timestamp().timestamp_millis() as f64);
    let advice = "a larger collection, from MongoDB 6.0 on: mongosh mongodb://HOST:PORT/DATABASE --eval \
        'db.runCommand({collMod: \"COLLECTION\", cappedSize: BYTES})'; and capped_bytes in the URL";
    Ok(measures::history(&Kept::messages(capacity), latest.len(), span, advice))
}

fn number_of(value: &Bson) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i32().map(f64::from)).or_else(|| value.as_i64().map(|number| number as f64))
}

/// Looks for other collections to which nodes have written in the last minute.
async fn others(database: &Database, own: &str) -> mongodb::error::Result<Report> {
    let mut alive = Vec::new();
    let names = database.list_collection_names().await?;
    for name in names.into_iter().filter(|name| name != own && !name.starts_with("system.")).take(MAX_COLLECTIONS) {
        let collection = database.collection::<Document>(&name);
        let latest = collection.find_one(doc! {}).sort(doc! { "$natural": -1 });
        let Some(document) = latest.projection(doc! { "uid": 1, "nsp": 1, "type": 1 }).await? else { continue };
        let is_ours = ["uid", "nsp", "type"].iter().all(|field| document.contains_key(field));
        let age = document.get_object_id("_id").map(|id| measures::now() - id.timestamp().timestamp_millis() as f64);
        if is_ours && age.is_ok_and(|age| age < 60_000.0) {
            alive.push(name);
        }
    }
    if alive.is_empty() {
        return Ok(Report::ok(format!("nodes write to no other collection than {own:?}")));
    }
    Ok(Report::warning(format!("nodes write to another collection: {}", alive.join(", ")))
        .cause(format!("this URL has the collection {own:?}; nodes of different collections do not hear each other"))
        .advice("if they should be one cluster, give all of them the same collection and database"))
}

/// As many are looked at.
const MAX_COLLECTIONS: usize = 100;

/// The URL without what only the backend understands.
fn driver_url(url: &str) -> String {
    const OWN: [&str; 10] = [
        "collection",
        "capped_bytes",
        "ttl",
        "create",
        "session_ttl",
        "outbox_bytes",
        "max_message_bytes",
        "response_timeout",
        "stream_timeout",
        "operation_timeout",
    ];
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let kept = query.split('&').filter(|pair| !OWN.contains(&pair.split('=').next().unwrap_or_default()));
    format!("{address}?{}", kept.collect::<Vec<_>>().join("&"))
}
