use futures_util::StreamExt;
use mongodb::{
    Client,
    bson::{RawDocumentBuf, oid::ObjectId, rawdoc},
};

use super::{BATCH, timed};
use crate::{Failure, load::Load};

pub(super) const INSERT: &str = "bare inserts of 1,000 documents, one change stream";

pub(super) async fn insert(url: &str, load: Load) -> Result<f64, Failure> {
    let database = Client::with_uri_str(url).await?.database("trunkline_bench");
    let name = "bare";
    database.collection::<RawDocumentBuf>(name).drop().await?;
    database.create_collection(name).capped(true).size(CAPPED_BYTES).await?;
    let collection = database.collection::<RawDocumentBuf>(name);
    let mut changes = collection.watch().await?.with_type::<RawDocumentBuf>();
    let padding = "x".repeat(load.bytes);
    let send = async {
        for from in (0..load.messages).step_by(BATCH as usize) {
            let documents = (from..load.messages.min(from + BATCH))
                .map(|_| rawdoc! { "_id": ObjectId::new(), "data": padding.as_str() });
            collection.insert_many(documents).await?;
        }
        Ok(())
    };
    let receive = async {
        for _ in 0..load.messages {
            changes.next().await.ok_or("the change stream has ended")??;
        }
        Ok(())
    };
    timed(load, send, receive).await
}

const CAPPED_BYTES: u64 = 512 << 20;
