//! The driver's client: connecting, refusing servers without change streams, shutting down.

use std::time::Duration;

use mongodb::{
    Client, Collection, Database,
    bson::{Document, RawDocumentBuf, doc, serialize_to_raw_document_buf},
    error::ErrorKind as Kind,
    options::{ClientOptions, Credential, ReadConcern, ReadPreference, SelectionCriteria, Tls},
};
use tokio::time::timeout;
use trunkline_backend::{Login, connect_failure::look_for_tls};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{config::Config, error};

/// How long an operation waits for a primary, unless the URL has `serverSelectionTimeoutMS`. It is tried again anyway.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting may take, unless the URL has `connectTimeoutMS`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The handles of the driver: client, database and collection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    client: Client,
    pub(crate) database: Database,
    pub(crate) collection: Collection<RawDocumentBuf>,
    /// The write concern of the URL, encoded.
    pub(crate) write_concern: Option<RawDocumentBuf>,
    /// What the application's provider of credentials has given for this client.
    login: Option<Login>,
}

impl Server {
    fn new(client: Client, config: &Config, login: Option<Login>) -> Result<Self> {
        let database = client.database(&config.database);
        let collection = database.collection(&config.collection);
        let write_concern = collection.write_concern().map(serialize_to_raw_document_buf).transpose();
        let write_concern =
            write_concern.map_err(|failed| Error::new(ErrorKind::Config, format!("write concern: {failed}")))?;
        Ok(Self { collection, write_concern, database, client, login })
    }

    /// Asks the application for credentials. If they are others than before, returns the handles of a client with these.
    pub(crate) async fn renewed(&self, config: &Config) -> Result<Option<Self>> {
        let login = ask(config).await?;
        let known = |login: &Option<Login>| login.as_ref().map(|login| (login.user.clone(), login.password.clone()));
        if known(&login) == known(&self.login) {
            return Ok(None);
        }
        let client = client(options(config, login.as_ref()).await?)?;
        Self::new(client, config, login).map(Some)
    }

    /// Shuts the driver down: its tasks and connections.
    pub(crate) async fn close(self) {
        const LIMIT: Duration = Duration::from_secs(2);
        // It first kills cursors at the server, which may be away.
        let graceful = async { self.client.clone().shutdown().await };
        if timeout(LIMIT, graceful).await.is_ok() {
            return;
        }
        let immediate = async { self.client.clone().shutdown().immediate(true).await };
        if timeout(LIMIT, immediate).await.is_err() {
            tracing::debug!("the driver has not ended yet");
        }
    }
}

/// Connects, and refuses a server without change streams.
pub(crate) async fn open(config: &Config) -> Result<Server> {
    let login = ask(config).await?;
    let options = options(config, login.as_ref()).await?;
    let client = client(options.clone())?;
    match client.database("admin").run_command(doc! { "hello": 1 }).await {
        Ok(hello) => refuse_standalone(&hello)?,
        Err(failed) => {
            if matches!(*failed.kind, Kind::ServerSelection { .. }) {
                refuse_lone_standalone(options.clone()).await?;
            }
            let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
            let is_tls = matches!(options.tls, Some(Tls::Enabled(_)));
            return Err(look_for_tls(error::into_error("connect", &failed), &hosts, is_tls, &hello_message()?).await);
        }
    }
    Server::new(client, config, login)
}

/// Asks for the right to insert, with a document that no server stores: an id is no array. An emitter does nothing else
/// that needs a right, and would learn of it only when it flushes.
pub(crate) async fn check_insert(server: &Server) -> Result<()> {
    let insert = doc! { "insert": server.collection.name(), "documents": [{ "_id": [] }] };
    let refused = server.database.run_command(insert).await.err();
    let refused = refused.map(|failed| error::into_error("insert", &failed));
    // Whatever else the server says now, it may not say later.
    refused.filter(|refused| refused.kind() == ErrorKind::Config).map_or(Ok(()), Err)
}

async fn ask(config: &Config) -> Result<Option<Login>> {
    match &config.provider {
        Some(provider) => provider.ask(config.response_timeout).await.map(Some),
        None => Ok(None),
    }
}

fn client(options: ClientOptions) -> Result<Client> {
    Client::with_options(options).map_err(|failed| error::into_error("configure", &failed))
}

/// `hello` as a message of its own, which a server without TLS answers: an `OP_MSG` with one document.
fn hello_message() -> Result<Vec<u8>> {
    let document = serialize_to_raw_document_buf(&doc! { "hello": 1, "$db": "admin" });
    let document = document.map_err(|failed| Error::new(ErrorKind::Config, format!("hello: {failed}")))?;
    const HEADER: [i32; 4] = [0, 1, 0, 2013];
    let mut message: Vec<u8> = HEADER.iter().flat_map(|number| number.to_le_bytes()).collect();
    // No flags; a section of kind 0.
    message.extend([0; 5]);
    message.extend(document.as_bytes());
    let length = i32::try_from(message.len()).unwrap_or(i32::MAX);
    message[..4].copy_from_slice(&length.to_le_bytes());
    Ok(message)
}

async fn options(config: &Config, login: Option<&Login>) -> Result<ClientOptions> {
    let parsed = ClientOptions::parse(config.connection_string()?).await;
    let mut options = parsed.map_err(|failed| error::into_error("look up the server", &failed))?;
    if let Some(Login { user, password, .. }) = login {
        // As the driver reads a URL with a user.
        let source = options.default_database.clone();
        let credential = options.credential.get_or_insert_with(|| Credential::builder().source(source).build());
        credential.username = user.clone().or(credential.username.take());
        credential.password = Some(password.clone());
    }
    options.app_name.get_or_insert_with(|| "trunkline".into());
    options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    // Whatever the URL says: a secondary may be behind the offset of a client, or know nothing of a session yet. What
    // other nodes have just inserted counts, too.
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.read_concern = Some(ReadConcern::local());
    Ok(options)
}

/// Refuses a standalone server that the driver has not selected because the URL names a replica set.
async fn refuse_lone_standalone(mut options: ClientOptions) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(3);
    options.direct_connection = Some(true);
    options.repl_set_name = None;
    options.hosts.truncate(1);
    options.server_selection_timeout = Some(LIMIT);
    let Ok(client) = Client::with_options(options) else { return Ok(()) };
    let admin = client.database("admin");
    let hello = timeout(LIMIT, async { admin.run_command(doc! { "hello": 1 }).await }).await;
    let verdict = match hello {
        Ok(Ok(hello)) => refuse_standalone(&hello),
        // The error of the selection says more.
        Ok(Err(_)) | Err(_) => Ok(()),
    };
    client.shutdown().immediate(true).await;
    verdict
}

/// Change streams need a replica set, if only of one member, or a sharded cluster.
fn refuse_standalone(hello: &Document) -> Result<()> {
    let refuse = |context: &str| Err(Error::new(ErrorKind::Unsupported, context));
    let is_mongos = hello.get_str("msg").is_ok_and(|message| message == "isdbgrid");
    if is_mongos || hello.contains_key("setName") {
        return Ok(());
    }
    if hello.get_bool("isreplicaset").unwrap_or_default() {
        return refuse(
            "the server is to be a member of a replica set that was not initiated yet: run `rs.initiate()` on it",
        );
    }
    refuse(
        "the server is a standalone one, which has no change streams: start mongod with `--replSet rs0` and run `rs.initiate()` on it \
         (one member is enough), or connect to a replica set or through mongos",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_sets_and_mongos_are_accepted() {
        assert!(refuse_standalone(&doc! { "setName": "rs0" }).is_ok());
        assert!(refuse_standalone(&doc! { "msg": "isdbgrid" }).is_ok());
    }

    #[test]
    fn a_server_without_change_streams_is_refused_with_what_to_do() {
        let refusal = |hello| refuse_standalone(&hello).unwrap_err().to_string();
        assert!(refusal(doc! { "isWritablePrimary": true }).contains("--replSet"));
        assert!(refusal(doc! { "isreplicaset": true }).contains("rs.initiate()"));
    }
}
