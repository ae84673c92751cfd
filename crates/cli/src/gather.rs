//! `gather`: what all nodes tell of themselves and what the doctor finds, in one file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline::{MetricsSnapshot, NodeId, Payload, core::node::STATUS_EVENT, core::transport::Health};
use trunkline_backend::url::redact;

use crate::{
    doctor::{self, Archived},
    emit::json_value,
    observer::{Heard, Missing, Observer},
    options::GatherOptions,
    output::{Failure, Output, Status, counted},
};

/// The file.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Archive {
    /// Version of the program that wrote it.
    version: String,
    /// When it was written.
    pub(crate) gathered: String,
    /// URL of the broker, without secrets.
    pub(crate) broker: String,
    pub(crate) namespace: String,
    pub(crate) nodes: Vec<NodeStatus>,
    /// Nodes that did not tell.
    missing: Value,
    /// What the doctor found.
    pub(crate) checks: Vec<Archived>,
}

/// What a node tells of itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    pub(crate) backend: String,
    pub(crate) peers: usize,
    /// Names of other nodes that it knows.
    pub(crate) known_peers: Vec<String>,
    pub(crate) health: Health,
    pub(crate) metrics: MetricsSnapshot,
    /// Settings as the node writes them; without secrets, as it has none.
    pub(crate) config: String,
    pub(crate) capabilities: String,
}

/// Asks all nodes for their status, and waits so long; as long as for other answers without a limit. Node.js servers do
/// not know the question, and are missing then.
pub(crate) async fn statuses(
    observer: &Observer,
    limit: Option<Duration>,
) -> Result<(Vec<NodeStatus>, Missing), Failure> {
    let question = Payload::event(STATUS_EVENT, &())?;
    let (values, missing) = Missing::split(observer.node.server_side_emit_with_ack(question, limit).await)?;
    let statuses = values.iter().filter_map(|value| serde_json::from_value(json_value(value.as_ref())).ok());
    let statuses: Vec<_> = statuses.filter(|status: &NodeStatus| !status.node.is_empty()).collect();
    observer.proved(statuses.iter().map(|status| status.node.as_str()));
    Ok((statuses, missing))
}

/// How long nodes may take to tell their status where it is not all that is asked.
pub(crate) const TELLING: Duration = Duration::from_secs(2);

/// Nodes that others know and that were not heard, though each says at once that it is there when a node joins.
pub(crate) fn unheard(statuses: &[NodeStatus], heard: &BTreeMap<NodeId, Heard>, own: &NodeId) -> Vec<NodeId> {
    let known: BTreeSet<_> = statuses.iter().flat_map(|status| &status.known_peers).collect();
    let known = known.into_iter().filter_map(|name| NodeId::new(name.as_str()).ok());
    known.filter(|id| id != own && !heard.contains_key(id)).collect()
}

pub(crate) async fn gather(options: GatherOptions, output: &Output) -> Result<Status, Failure> {
    let url = &options.doctor.url()?;
    let checks = doctor::gathered(url, &options.doctor).await?;
    let observer = Observer::join(url, &options.doctor.namespace, options.doctor.timeout).await;
    let (nodes, missing) = match observer {
        Ok(observer) => {
            observer.listen(&options.doctor.listen).await;
            let told = statuses(&observer, None).await;
            observer.leave().await;
            told?
        }
        // What the checks say of the broker is worth a file, too.
        Err(_) => (Vec::new(), Missing::default()),
    };
    let archive = Archive {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gathered: jiff::Timestamp::now().to_string(),
        broker: redact(url),
        namespace: options.doctor.namespace.clone(),
        nodes,
        missing: missing.json(),
        checks,
    };
    write(&options.output, &archive)?;
    let status = missing.status();
    let file = options.output.display().to_string();
    output.result(
        format!("{} told about itself{}; written to {file}", counted(archive.nodes.len(), "node"), missing.text()),
        &json!({ "status": status.word(), "file": file, "nodes": archive.nodes.len(), "missing": archive.missing }),
    );
    Ok(status)
}

fn write(file: &Path, archive: &Archive) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(archive).map_err(|error| Failure::critical(error.to_string()))?;
    std::fs::write(file, text + "\n").map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}
