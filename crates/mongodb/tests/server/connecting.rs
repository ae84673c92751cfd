//! Connecting: servers and collections that are refused, and one change stream for all namespaces.

use mongodb::bson::{Document, doc};
use trunkline_brokers::{ClientCertificate, MongoDb as Server};
use trunkline_core::{ErrorKind, Transport as _};
use trunkline_mongodb::{MongoDb, connect};

use crate::support::{DATABASE, client, config, documents, unique_name, until};

#[tokio::test]
async fn a_standalone_server_is_refused_with_what_to_do() {
    let server = Server::options().standalone().start().await.unwrap();
    // Also as the node of a set that it is not.
    for url in [server.url().to_owned(), format!("{}&replicaSet=rs0", server.url())] {
        let error = connect(config(&url, "")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("--replSet"), "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_an_error_soon() {
    let error = connect(config("mongodb://127.0.0.1:1/?replicaSet=rs0", "")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_authority_are_refused() {
    let options = Server::options().user("app", "s3cret").tls(ClientCertificate::Ignored);
    let server = options.start().await.unwrap();
    let authority = server.certificates().unwrap().authority();
    let trusting = format!("{}&tlsCAFile={}", server.url(), authority.display());
    connect(config(&trusting, "")).await.unwrap().transport.close().await;
    for url in [trusting.replace("s3cret", "wr0ng"), server.url().to_owned()] {
        let error = connect(config(&url, "")).await.unwrap_err();
        assert!(!error.to_string().contains("s3cret") && !error.to_string().contains("wr0ng"), "{error}");
    }
}

/// A stand-in for DocumentDB and Cosmos DB: the server refuses to create one collection, as they do with capped ones.
#[tokio::test]
async fn without_capped_collections_the_error_names_the_parameter_for_another_kind() {
    let server = Server::options().arguments(&["--setParameter", "enableTestCommands=1"]).start().await.unwrap();
    // 303, which those services answer, ends a mongod: to it, the code is one that needs more fields.
    const COMMAND_NOT_SUPPORTED: i32 = 115;
    let refusal = doc! {
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": { "failCommands": ["create"], "errorCode": COMMAND_NOT_SUPPORTED },
    };
    client(server.url()).await.database("admin").run_command(refusal).await.unwrap();
    let error = connect(config(server.url(), "")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unsupported, false), "{error}");
    assert!(error.to_string().contains("ttl=1h"), "{error}");
    connect(config(server.url(), "ttl=1h")).await.unwrap().transport.close().await;
}

#[tokio::test]
async fn a_collection_of_the_wrong_kind_is_refused() {
    let url = Server::shared().await.unwrap();
    let (capped, expiring, ordinary) = (unique_name(), unique_name(), unique_name());
    let close = async |parameters: String| connect(config(&url, &parameters)).await.map(|backend| backend.transport);
    close(format!("collection={capped}&capped_bytes=1MiB")).await.unwrap().close().await;
    close(format!("collection={expiring}&ttl=10m")).await.unwrap().close().await;
    documents(&url, &ordinary).await.insert_one(doc! { "any": "thing" }).await.unwrap();
    for (parameters, found) in [
        (format!("collection={capped}&ttl=10m"), "a capped collection of 1048576 bytes"),
        (format!("collection={expiring}&capped_bytes=1MiB"), "a TTL index of 600s"),
        (format!("collection={ordinary}&ttl=10m"), "an ordinary collection"),
        (format!("collection={ordinary}"), "an ordinary collection"),
        (format!("collection={}&create=off", unique_name()), "found is none"),
    ] {
        let error = close(parameters).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(found) && error.to_string().contains("allowed is"), "{error}");
    }
    // With `Storage::AsFound` either kind is used.
    for name in [capped, expiring] {
        close(format!("collection={name}&create=off")).await.unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_create_the_collection_at_the_same_time_agree() {
    let url = Server::shared().await.unwrap();
    for parameters in ["capped_bytes=1MiB", "ttl=10m"] {
        let config = config(&url, &format!("collection={}&{parameters}", unique_name()));
        let nodes: Vec<_> = (0..6).map(|_| tokio::spawn(connect(config.clone()))).collect();
        for node in nodes {
            node.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_stream_serves_all_namespaces() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let backend = MongoDb::connect(config(&url, &format!("collection={name}"))).await.unwrap();
    let mut nodes = Vec::new();
    for namespace in ["/", "/a", "/b", "/c"] {
        nodes.push(crate::support::TestNode::of(backend.backend(), namespace).await);
    }
    for node in &mut nodes {
        node.emit(1).await.unwrap();
        node.expect(1..2).await;
    }
    assert_eq!(streams(&url, &name).await, 1);
    backend.close().await;
    until("the cursor is gone", async || streams(&url, &name).await == 0).await;
}

/// The open change streams of a collection.
async fn streams(url: &str, collection: &str) -> usize {
    let pipeline = vec![
        doc! { "$currentOp": { "idleCursors": true } },
        doc! { "$match": { "ns": format!("{DATABASE}.{collection}"), "cursor.cursorId": { "$exists": true } } },
    ];
    let command = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
    let found: Document = client(url).await.database("admin").run_command(command).await.unwrap();
    found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len()
}
