//! One insert of many documents, and what became of it.

use mongodb::bson::{Bson, Document as Answer, RawDocumentBuf};
use trunkline_core::payload::Sink;

use crate::{
    bson::BsonWriter,
    error::{self, coded},
    server::Server,
    wire::Document,
};

/// What became of an insert.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All documents are there, and confirmed.
    Done,
    /// This document is there already: an earlier attempt had put it there.
    Repeated(usize),
    /// The server will never take this document; those before it are there.
    Refused(usize, String),
    /// The server had no room in its cache to insert this document; those before it are there. While others insert a lot, that passes.
    NoRoom(usize, String),
    /// The server will never take one of the documents, and none is there.
    AllRefused(String),
    /// May succeed later.
    MayPass(String),
}

/// Inserts documents one after the other, up to the first that fails.
///
/// This is not the driver's `insert_many`, which makes a *retryable write* of it: before anybody sees the insert, the server then also writes
/// down in a collection of its own that it was done. Here that would save nothing, because an id is inserted once however often it is tried,
/// and a lone message would wait for it.
pub(crate) async fn insert(server: &Server, documents: &[Document]) -> Outcome {
    let mut answer = attempt(server, documents).await;
    // That a connection is gone, or a server no longer the primary, often shows only now; the driver has drawn its conclusions.
    if answer.as_ref().is_err_and(error::is_transient) {
        answer = attempt(server, documents).await;
    }
    match answer {
        Ok(answer) => judge(&answer),
        Err(failed) if error::is_refusal(&failed) => Outcome::AllRefused(error::describe(&failed)),
        Err(failed) => Outcome::MayPass(error::describe(&failed)),
    }
}

async fn attempt(server: &Server, documents: &[Document]) -> mongodb::error::Result<Answer> {
    server.database.run_raw_command(command(server, documents)?).await
}

fn command(server: &Server, documents: &[Document]) -> mongodb::error::Result<RawDocumentBuf> {
    const AROUND: usize = 256;
    /// The type of a document, its index and the zero byte.
    const AROUND_EACH: usize = 12;
    let bytes: usize = documents.iter().map(|document| document.len() + AROUND_EACH).sum();
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
    documents.iter().for_each(|document| writer.document(document.as_bytes()));
    writer.end_array(None);
    writer.end_map(None);
    let bytes = writer.finish().map_err(mongodb::error::Error::custom)?;
    Ok(RawDocumentBuf::from_bytes(bytes)?)
}

/// What the server says about an insert that it has carried out, if only in part.
fn judge(answer: &Answer) -> Outcome {
    let errors = answer.get_array("writeErrors").ok();
    if let Some(error) = errors.and_then(|errors| errors.first()).and_then(Bson::as_document) {
        return judge_write(error);
    }
    match answer.get_document("writeConcernError") {
        Ok(error) => Outcome::MayPass(reason(error)),
        Err(_) => Outcome::Done,
    }
}

fn judge_write(error: &Answer) -> Outcome {
    let index = error.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
    match (index, error.get_i32("code")) {
        (Some(index), Ok(DUPLICATE_KEY)) => Outcome::Repeated(index),
        (Some(index), Ok(TOO_LARGE_FOR_CACHE)) => Outcome::NoRoom(index, reason(error)),
        (Some(index), Ok(code)) if !PASSING.contains(&code) => Outcome::Refused(index, reason(error)),
        _ => Outcome::MayPass(reason(error)),
    }
}

fn reason(error: &Answer) -> String {
    let message = error.get_str("errmsg").unwrap_or_default();
    coded(error.get_str("codeName").ok(), error.get_i32("code").unwrap_or_default(), message)
}

const DUPLICATE_KEY: i32 = 11000;

/// What was changed and is not yet written out filled most of the cache, and the insert was rolled back.
const TOO_LARGE_FOR_CACHE: i32 = 388;

/// The server is short of something, locked, in recovery or read-only: not the document's fault.
const PASSING: [i32; 23] = [
    7, 24, 46, 50, 64, 89, 91, 100, 112, 189, 262, 365, 371, 8000, 9001, 10058, 10107, 11600, 11601, 11602, 13435,
    13436, 14031,
];

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn an_answer_without_errors_is_a_success() {
        assert_eq!(judge(&doc! { "n": 3, "ok": 1.0 }), Outcome::Done);
    }

    #[test]
    fn the_first_document_that_failed_counts() {
        let of = |code: i32| {
            judge(&doc! { "n": 2, "writeErrors": [{ "index": 2, "code": code, "errmsg": "no : {secret}" }] })
        };
        assert_eq!(of(DUPLICATE_KEY), Outcome::Repeated(2));
        assert_eq!(of(121), Outcome::Refused(2, "no (code 121)".into()));
        assert_eq!(of(388), Outcome::NoRoom(2, "no (code 388)".into()));
        assert_eq!(of(14031), Outcome::MayPass("no (code 14031)".into()));
    }

    #[test]
    fn what_is_not_confirmed_is_tried_again() {
        let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out" };
        let answer = doc! { "n": 1, "writeConcernError": concern, "ok": 1.0 };
        assert_eq!(judge(&answer), Outcome::MayPass("waiting timed out (WriteConcernFailed, 64)".into()));
        assert!(matches!(judge(&doc! { "writeErrors": [{ "errmsg": "no" }] }), Outcome::MayPass(_)));
    }
}
