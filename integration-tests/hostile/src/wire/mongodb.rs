//! Documents of the collection. The server takes only valid BSON, so damage to bytes becomes a field of its own.

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::FutureExt as _;
use mongodb::{
    Client, Collection,
    bson::{Document, doc},
    change_stream::{ChangeStream, event::ChangeStreamEvent},
};

use super::{Wire, bson};
use crate::{
    Failure,
    forge::{Forged, Phase},
    tree::{self, Tree},
};

pub(super) struct MongoDbWire {
    collection: Collection<Document>,
    changes: ChangeStream<ChangeStreamEvent<Document>>,
    documents: Vec<Document>,
}

impl MongoDbWire {
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let (server, parameters) = url.split_once("/?").ok_or("a URL without parameters")?;
        let (server, database) = match server.rsplit_once('/') {
            Some((server, database)) if !server.ends_with('/') => (server, database),
            _ => (server, "socket_io"),
        };
        let options: Vec<_> = parameters.split('&').filter(|option| option.starts_with("replicaSet=")).collect();
        let client = Client::with_uri_str(format!("{server}/?{}", options.join("&"))).await?;
        let name = parameters.split('&').find_map(|option| option.strip_prefix("collection="));
        let collection = client.database(database).collection(name.unwrap_or("socket.io-adapter-events"));
        let changes = collection.watch().await?;
        Ok(Self { collection, changes, documents: Vec::new() })
    }
}

#[async_trait]
impl Wire for MongoDbWire {
    fn put(&mut self, message: Forged, _: Phase, rng: &mut Rng) {
        let mut document = match message {
            Forged::Tree(tree) => bson::document(&tree),
            Forged::Bytes(bytes) => {
                let value = tree::decode(&bytes).unwrap_or(Tree::Binary(bytes));
                doc! { "type": rng.i32(0..15), "uid": "invented", "nsp": "/", "data": bson::from_tree(&value) }
            }
        };
        // Ids of other types are kept, but must not collide.
        document.remove("_id");
        self.documents.push(document);
    }

    fn put_malformed(&mut self) {
        self.documents.push(doc! { "type": 3, "uid": "invented", "nsp": "/", "data": "malformed" });
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let documents = std::mem::take(&mut self.documents);
        if !documents.is_empty() {
            self.collection.insert_many(documents).await?;
        }
        Ok(())
    }

    fn observed(&mut self) -> Vec<Tree> {
        let mut messages = Vec::new();
        while let Some(Some(Ok(event))) = futures_util::StreamExt::next(&mut self.changes).now_or_never() {
            messages.extend(event.full_document.map(|document| bson::to_tree(document.into())));
        }
        messages
    }
}
