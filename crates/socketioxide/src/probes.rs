//! Answers to the probes of an orchestrator: whether this server lives, and whether it is ready for clients.

use http::{Response, StatusCode, header};
use serde::Serialize;
use trunkline_core::transport::Health;

use crate::cluster::Cluster;

/// Body of an answer to `/readyz`.
#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    /// Why not, or why not for much longer.
    reason: Option<String>,
    /// Since when the connection to the broker is lost.
    lost_seconds: Option<u64>,
    namespaces: Vec<NamespaceReadiness<'a>>,
}

/// A namespace in the body of an answer to `/readyz`.
#[derive(Serialize)]
struct NamespaceReadiness<'a> {
    namespace: &'a str,
    node: &'a str,
    health: Health,
}

impl Cluster {
    /// The answer to a liveness probe, usually at `/livez`: always 200. It never depends on the broker, whose outage must
    /// not restart every server; that it is answered at all shows that the process works.
    ///
    /// ```
    /// # async fn routes(cluster: trunkline_socketioxide::Cluster) -> axum::Router {
    /// use axum::{Router, routing::get};
    ///
    /// let (live, ready) = (cluster.clone(), cluster);
    /// Router::new()
    ///     .route("/livez", get(async move || live.livez()))
    ///     .route("/readyz", get(async move || ready.readyz()))
    /// # }
    /// ```
    #[must_use]
    pub fn livez(&self) -> Response<String> {
        json(StatusCode::OK, r#"{"live":true}"#.to_owned())
    }

    /// The answer to a readiness probe, usually at `/readyz`: 200 while this server should be sent clients, else 503,
    /// with the reason and the health of all namespaces as JSON.
    ///
    /// Not ready is a server that has opened no namespace yet or has closed all of them, and one that has lost the
    /// connection to the broker for longer than [`ClusterBuilder::ready_grace`](crate::ClusterBuilder::ready_grace).
    #[must_use]
    pub fn readyz(&self) -> Response<String> {
        let handles = self.namespaces();
        let health = self.health();
        let lost = (!health.connected).then(|| health.since.and_then(|since| since.elapsed().ok()).unwrap_or_default());
        let is_lost_for_long = lost.is_some_and(|lost| lost >= self.settings().ready_grace);
        let reason = match lost {
            _ if handles.is_empty() && self.empty_namespaces().is_empty() => Some("no namespace is open".to_owned()),
            Some(_) => {
                let why = health.reason.as_deref().unwrap_or("for an unknown reason");
                Some(format!("the connection to the broker is lost: {why}"))
            }
            None => None,
        };
        let readiness = Readiness {
            ready: !handles.is_empty() && !is_lost_for_long,
            reason,
            lost_seconds: lost.map(|lost| lost.as_secs()),
            namespaces: handles
                .iter()
                .map(|handle| NamespaceReadiness {
                    namespace: handle.node().namespace.as_str(),
                    node: handle.node().id.as_str(),
                    health: handle.health(),
                })
                .collect(),
        };
        let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // It has no keys that are not text, and nothing else could fail.
        json(status, serde_json::to_string(&readiness).unwrap_or_default())
    }
}

fn json(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
