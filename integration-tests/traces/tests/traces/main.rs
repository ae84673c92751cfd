//! One trace from an HTTP request on one node to the delivery on another, over real brokers.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "../../../../crates/socketioxide/tests/bridge/kit/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../../../../crates/socketioxide/tests/bridge/kit/packet.rs"]
#[allow(dead_code)]
mod packet;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::post};
use opentelemetry::{
    Value,
    trace::{SpanKind, TracerProvider as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use socketioxide::SocketIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracing::{Instrument, Level, info_span};
use tracing_subscriber::{filter::Targets, prelude::*};
use trunkline::core::trace::set_trace_context;
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::kit::eventually;
use trunkline_socketioxide::{Cluster, ClusterSocket, Trunkline};
use trunkline_traces::OpenTelemetry;

use crate::client::Client;

/// How long anything may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for what must happen; a generous limit around it.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("it should have happened by now")
}

/// A server of a cluster that emits `news` when it is asked to over HTTP.
struct Server {
    address: SocketAddr,
    msgpack: bool,
    cluster: Cluster,
}

impl Server {
    async fn start(url: &str) -> Self {
        let cluster = Cluster::from(trunkline::connect(url).await.unwrap());
        let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
        io.ns("/", async |socket: ClusterSocket| socket.emit("ready", &()).unwrap()).await.unwrap();
        let emit = async move || {
            // As a layer for HTTP makes it.
            let span = info_span!("POST /emit", otel.kind = "server");
            async { io.emit("news", &1).await.unwrap() }.instrument(span).await;
        };
        let app = Router::new().route("/emit", post(emit)).layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, msgpack: false, cluster }
    }

    fn node_id(&self) -> String {
        self.cluster.of("/").unwrap().node().id.to_string()
    }

    async fn post(&self) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("POST /emit HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_the_request_on_one_node_to_the_delivery_on_another() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("traces"));
    let wanted = Targets::new().with_default(Level::INFO).with_target("trunkline::messages", Level::DEBUG);
    tracing_subscriber::registry().with(traces.with_filter(wanted)).init();
    set_trace_context(OpenTelemetry).unwrap();
    let name = format!("t{:x}", fastrand::u64(..1 << 40));
    let redis = Redis::shared().await.unwrap();
    for url in [
        format!("{redis}?mode=pubsub&prefix={name}-classic"),
        format!("{redis}?mode=sharded&prefix={name}"),
        format!("{redis}?mode=streams&prefix={name}&stream={name}"),
        format!("{}&collection={name}", MongoDb::shared().await.unwrap()),
        format!("{}?prefix={name}", Postgres::shared().await.unwrap()),
        format!("{}?prefix={name}", RabbitMq::shared().await.unwrap()),
        format!("{}?prefix={name}", Nats::shared().await.unwrap()),
    ] {
        exporter.reset();
        trace_over(&url, &exporter).await;
    }
}

async fn trace_over(url: &str, exporter: &InMemorySpanExporter) {
    let (a, b) = (Server::start(url).await, Server::start(url).await);
    for server in [&a, &b] {
        server.cluster.of("/").unwrap().await_peers(1, TIMEOUT).await.unwrap();
    }
    let mut client = Client::with(&b, "/", &json!({})).await;
    a.post().await;
    within(client.event("news")).await;

    let receiver = b.node_id();
    let spans = || exporter.get_finished_spans().unwrap();
    let what = || format!("{url}: the spans of node {receiver} have ended: {:#?}", spans());
    let has =
        |name: &str| spans().iter().any(|span| span.name == name && is_linked(span) && client_id(span) == receiver);
    let are_there = eventually(TIMEOUT, what, async || has("process /") && has("receive /")).await;
    are_there.unwrap_or_else(|late| panic!("{late}"));

    let spans = spans();
    let request = spans.iter().find(|span| span.name == "POST /emit").unwrap();
    let of_trace = |span: &&SpanData| span.span_context.trace_id() == request.span_context.trace_id();
    let publish = spans.iter().filter(of_trace).find(|span| span.name == "publish /").unwrap();
    assert_eq!(publish.parent_span_id, request.span_context.span_id(), "{url}");
    assert_eq!(
        (&publish.span_kind, attribute(publish, "messaging.operation.type")),
        (&SpanKind::Producer, "send".into())
    );
    for name in ["receive /", "process /"] {
        let ours = |span: &&SpanData| span.name == name && is_linked(span) && client_id(span) == receiver;
        let span = spans.iter().find(ours).unwrap();
        assert_eq!(span.span_kind, SpanKind::Consumer, "{url}");
        assert_ne!(span.span_context.trace_id(), request.span_context.trace_id(), "{url}: a link, and no parent");
        let [link] = span.links.links.as_slice() else { panic!("{url}: {span:#?}") };
        assert_eq!(link.span_context.trace_id(), request.span_context.trace_id(), "{url}");
        assert_eq!(link.span_context.span_id(), publish.span_context.span_id(), "{url}");
    }
    for server in [a, b] {
        server.cluster.close();
        within(server.cluster.closed()).await;
    }
}

fn is_linked(span: &SpanData) -> bool {
    !span.links.links.is_empty()
}

fn client_id(span: &SpanData) -> String {
    attribute(span, "messaging.client.id")
}

fn attribute(span: &SpanData, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found
        .map(|attribute| match &attribute.value {
            Value::String(text) => text.to_string(),
            other => other.to_string(),
        })
        .unwrap_or_default()
}
