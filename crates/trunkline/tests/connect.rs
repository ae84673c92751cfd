//! What `connect` accepts, and how it refuses the rest.

use trunkline::{ErrorKind, connect};

async fn refusal(url: &str) -> String {
    let error = connect(url).await.expect_err(url);
    assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    error.to_string()
}

#[tokio::test]
async fn the_embedded_hub_has_a_name_or_none() {
    for url in ["memory:", "memory://", "memory://connect-test"] {
        let capabilities = connect(url).await.expect(url).capabilities().unwrap();
        assert!(capabilities.total_order && !capabilities.history, "{url}");
    }
    assert!(refusal("memory://two/parts").await.contains("names no hub"));
}

#[tokio::test]
async fn history_is_switched_on_by_the_query() {
    let backend = connect("memory://connect-history?history=on&session_ttl=30s&history_bytes=1MiB").await.unwrap();
    assert!(backend.history.is_some());
    let error = refusal("memory://connect-history?history=off").await;
    assert!(error.contains("exists with"), "{error}");
}

#[tokio::test]
async fn an_unknown_scheme_is_named_with_the_allowed_ones() {
    let error = refusal("gopher://host").await;
    assert!(error.contains("\"gopher\"") && error.contains("memory"), "{error}");
    assert!(refusal("nonsense").await.contains("no scheme"));
}

#[tokio::test]
async fn unknown_and_ill_typed_parameters_are_named() {
    let error = refusal("memory:?histroy=on").await;
    assert!(error.contains("\"histroy\"") && error.contains("history"), "{error}");
    let error = refusal("memory:?history=maybe").await;
    assert!(error.contains("\"maybe\"") && error.contains("on or off"), "{error}");
}

#[tokio::test]
async fn no_message_shows_a_password() {
    for url in ["memory://user:s3cret@host", "user-s3cret://u:s3cret@host", "//u:s3cret@host"] {
        let error = refusal(url).await.replace("user-s3cret", "");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

/// In a build with this feature, a connection would be tried instead.
#[cfg(not(feature = "postgres"))]
#[tokio::test]
async fn a_scheme_whose_feature_is_off_names_the_feature() {
    let error = refusal("postgres://u:s3cret@127.0.0.1/").await;
    assert!(error.contains("\"postgres\"") && error.contains("feature") && error.contains("memory"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn every_scheme_of_redis_leads_to_its_parameters() {
    for url in ["redis://h", "rediss://h", "redis+unix:///socket", "valkey://h", "valkeys://h"] {
        let error = refusal(&format!("{url}?mode=none")).await;
        assert!(error.contains("pubsub, sharded, streams"), "{error}");
    }
}
