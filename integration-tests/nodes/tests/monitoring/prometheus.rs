//! A Prometheus of the test's own, and what it answers.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio, sync::Mutex, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use trunkline_conformance::kit::eventually;

use crate::{TIMEOUT, within};

/// Alerts that come with the project.
pub(crate) const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker/prometheus/alerts.yml");

/// A Prometheus that scrapes once a second, with the project's alerts. Dropped, it ends.
pub(crate) struct Prometheus {
    address: SocketAddr,
    folder: PathBuf,
    _process: Child,
}

impl Prometheus {
    pub(crate) async fn start(targets: &[SocketAddr]) -> Self {
        let folder = std::env::temp_dir().join(format!("trunkline-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [ALERTS],
            "scrape_configs": [{ "job_name": "trunkline", "static_configs": [{ "targets": targets }] }],
        });
        let file = folder.join("prometheus.yml");
        // JSON is YAML.
        fs::write(&file, configuration.to_string()).unwrap();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Prometheus is installed: apt-get install prometheus");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = within(log.next_line()).await.unwrap().expect("Prometheus listens before it ends");
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                break address.trim().parse().unwrap();
            }
        };
        // Read on, so that it can write on.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        let is_ready =
            eventually(TIMEOUT, || "Prometheus is ready".into(), async || get(address, "/-/ready").await.0 == 200);
        is_ready.await.unwrap_or_else(|late| panic!("{late}"));
        Self { address, folder, _process: process }
    }

    /// The samples that a query has now: labels and value. Panics if it cannot be evaluated.
    pub(crate) async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let (status, answer) = get(self.address, &format!("/api/v1/query?query={encoded}")).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["status"]), (200, &"success".into()), "{query}: {answer}");
        let samples = answer["data"]["result"].as_array().unwrap();
        let value = |sample: &Value| sample["value"][1].as_str().unwrap().parse().unwrap();
        samples.iter().map(|sample| (sample["metric"].clone(), value(sample))).collect()
    }

    /// Waits until a query has one sample, of this value.
    pub(crate) async fn until(&self, query: &str, expected: f64) {
        let last = Mutex::new(Vec::new());
        let what = || format!("{query} is not {expected}, but {:?}", last.lock().unwrap());
        let is_so = eventually(TIMEOUT, what, async || {
            let samples = self.query(query).await;
            let is_expected = matches!(samples.as_slice(), [(_, value)] if *value == expected);
            *last.lock().unwrap() = samples;
            is_expected
        });
        is_so.await.unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until a query has samples, whatever they are.
    pub(crate) async fn until_some(&self, query: &str) {
        let what = || format!("{query} has samples");
        let has_some = eventually(TIMEOUT, what, async || !self.query(query).await.is_empty()).await;
        has_some.unwrap_or_else(|late| panic!("{late}"));
    }

    /// Every alert: name, how its evaluation went, and its state. Once all have been evaluated.
    pub(crate) async fn alerts(&self) -> Vec<(String, String, String)> {
        let alerts = Mutex::new(Vec::new());
        let what = || "all alerts are evaluated".to_owned();
        let are_known = eventually(TIMEOUT, what, async || {
            let (_, answer) = get(self.address, "/api/v1/rules?type=alert").await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let rules = answer["data"]["groups"].as_array().unwrap().iter();
            let rules: Vec<_> = rules.flat_map(|group| group["rules"].as_array().unwrap()).collect();
            let text = |rule: &Value, key: &str| rule[key].as_str().unwrap().to_owned();
            let found = rules.iter().map(|rule| (text(rule, "name"), text(rule, "health"), text(rule, "state")));
            let mut alerts = alerts.lock().unwrap();
            *alerts = found.collect::<Vec<_>>();
            !alerts.is_empty() && alerts.iter().all(|(_, health, _)| health != "unknown")
        });
        are_known.await.unwrap_or_else(|late| panic!("{late}"));
        alerts.into_inner().unwrap()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // What is left is in the way of nothing.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Status and body of what a server answers.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), exchange).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
