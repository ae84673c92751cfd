//! One insert command with many documents, and its outcome.

use mongodb::bson::{Bson, Document, RawDocumentBuf};
use trunkline_core::payload::Sink;

use crate::{
    bson::BsonWriter,
    error::{self, coded},
    server::Server,
    wire::QueuedMessage,
};

/// The outcome of an insert of several documents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InsertOutcome {
    /// All documents are in the collection, confirmed.
    Inserted,
    /// The document at this index is in the collection already, from an earlier attempt.
    Duplicate(usize),
    /// The server will never take the document at this index; those before it are inserted.
    Rejected(usize, String),
    /// The server's cache was too full for the document at this index; those before it are inserted. It passes when the
    /// server has written to disk what others insert.
    CacheFull(usize, String),
    /// The server will never carry out the command; no document is inserted.
    CommandRejected(String),
    /// May succeed later.
    Retryable(String),
}

/// Inserts documents one after the other, up to the first that fails.
///
/// This is not the driver's `insert_many`, which makes a *retryable write* of it: before the change stream reports the
/// insert, the server then also writes down in a collection of its own that it was done. Here that would save nothing,
/// because an id is inserted once however often it is tried, and a lone message would wait for it.
pub(crate) async fn insert(server: &Server, messages: &[QueuedMessage]) -> InsertOutcome {
    let mut answer = attempt(server, messages).await;
    // That a connection is gone, or a server no longer the primary, often shows only now; the driver has drawn its
    // conclusions.
    if answer.as_ref().is_err_and(error::is_transient) {
        answer = attempt(server, messages).await;
    }
    match answer {
        Ok(answer) => outcome(&answer),
        Err(failed) if error::is_refusal(&failed) => InsertOutcome::CommandRejected(error::describe(&failed)),
        Err(failed) => InsertOutcome::Retryable(error::describe(&failed)),
    }
}

async fn attempt(server: &Server, messages: &[QueuedMessage]) -> mongodb::error::Result<Document> {
    server.database.run_raw_command(command(server, messages)?).await
}

fn command(server: &Server, messages: &[QueuedMessage]) -> mongodb::error::Result<RawDocumentBuf> {
    const AROUND: usize = 256;
    /// The type of a document, its index and the zero byte.
    const AROUND_EACH: usize = 12;
    let bytes: usize = messages.iter().map(|message| message.document.len() + AROUND_EACH).sum();
    let mut writer = BsonWriter::with_capacity(AROUND + bytes);
    writer.begin_map(None);
    writer.key("insert");
    writer.text(server.collection.name());
    if let Some(concern) = &server.write_concern {
        writer.key("writeConcern");
        writer.document(concern.as_bytes());
    }
    writer.key("documents");
    writer.begin_array(None);
    messages.iter().for_each(|message| writer.document(message.document.as_bytes()));
    writer.end_array(None);
    writer.end_map(None);
    let bytes = writer.finish().map_err(mongodb::error::Error::custom)?;
    Ok(RawDocumentBuf::from_bytes(bytes)?)
}

/// Reads the server's answer to an insert that it has carried out, if only in part.
fn outcome(answer: &Document) -> InsertOutcome {
    let errors = answer.get_array("writeErrors").ok();
    if let Some(error) = errors.and_then(|errors| errors.first()).and_then(Bson::as_document) {
        return outcome_of_failure(error);
    }
    match answer.get_document("writeConcernError") {
        Ok(error) => InsertOutcome::Retryable(reason(error)),
        Err(_) => InsertOutcome::Inserted,
    }
}

fn outcome_of_failure(error: &Document) -> InsertOutcome {
    let index = error.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
    match (index, error.get_i32("code")) {
        (Some(index), Ok(DUPLICATE_KEY)) => InsertOutcome::Duplicate(index),
        (Some(index), Ok(TOO_LARGE_FOR_CACHE)) => InsertOutcome::CacheFull(index, reason(error)),
        (Some(index), Ok(code)) if !error::RETRYABLE.contains(&code) => InsertOutcome::Rejected(index, reason(error)),
        _ => InsertOutcome::Retryable(reason(error)),
    }
}

fn reason(error: &Document) -> String {
    let message = error.get_str("errmsg").unwrap_or_default();
    coded(error.get_str("codeName").ok(), error.get_i32("code").unwrap_or_default(), message)
}

const DUPLICATE_KEY: i32 = 11000;

/// Changes not yet written to disk filled most of the cache, and the insert was rolled back.
const TOO_LARGE_FOR_CACHE: i32 = 388;

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn an_answer_without_errors_is_a_success() {
        assert_eq!(outcome(&doc! { "n": 3, "ok": 1.0 }), InsertOutcome::Inserted);
    }

    #[test]
    fn the_first_document_that_failed_decides_the_outcome() {
        let of = |code: i32| {
            outcome(&doc! { "n": 2, "writeErrors": [{ "index": 2, "code": code, "errmsg": "no : {secret}" }] })
        };
        assert_eq!(of(DUPLICATE_KEY), InsertOutcome::Duplicate(2));
        assert_eq!(of(121), InsertOutcome::Rejected(2, "no (code 121)".into()));
        assert_eq!(of(388), InsertOutcome::CacheFull(2, "no (code 388)".into()));
        assert_eq!(of(14031), InsertOutcome::Retryable("no (code 14031)".into()));
    }

    #[test]
    fn an_unconfirmed_insert_is_tried_again() {
        let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out" };
        let answer = doc! { "n": 1, "writeConcernError": concern, "ok": 1.0 };
        assert_eq!(outcome(&answer), InsertOutcome::Retryable("waiting timed out (WriteConcernFailed, 64)".into()));
        assert!(matches!(outcome(&doc! { "writeErrors": [{ "errmsg": "no" }] }), InsertOutcome::Retryable(_)));
    }
}
