//! What RabbitMQ and NATS say about themselves in the first bytes of a connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    finding::{Findings, Measured, Report},
    reach::{self, limited},
    redis::{bytes, numbers},
    target::BrokerTarget,
};

/// Checks the version of a RabbitMQ server.
pub(crate) async fn rabbitmq(target: &BrokerTarget, findings: &mut Findings) {
    let version = first_bytes(target, b"AMQP\x00\x00\x09\x01").await.map(|start| amqp_version(&start));
    findings.add(
        "version",
        match version {
            Ok(Some(version)) if numbers(&version) < (3, 10) => {
                Report::warning(format!("{version} is older than what Trunkline is tested with, 3.10"))
                    .advice("upgrade the server")
            }
            Ok(Some(version)) => Report::ok(format!("RabbitMQ {version}")),
            Ok(None) => Report::warning("the server does not tell its version"),
            Err(reason) => Report::skipped(reason),
        },
    );
}

/// Text of the field `version` in the server properties of `Connection.Start`.
fn amqp_version(start: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = start.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let length = u32::from_be_bytes(start.get(at..at + 4)?.try_into().ok()?) as usize;
    String::from_utf8(start.get(at + 4..(at + 4).checked_add(length)?)?.to_vec()).ok()
}

/// Checks version, limits and JetStream of a NATS server.
pub(crate) async fn nats(target: &BrokerTarget, findings: &mut Findings) {
    let info = match first_bytes(target, b"").await {
        Ok(greeting) => nats_info(&greeting),
        Err(reason) => return skip_nats(findings, &reason),
    };
    let Some(info) = info else { return skip_nats(findings, "the server sent no INFO") };
    let version = info["version"].as_str().unwrap_or_default();
    findings.add(
        "version",
        if numbers(version) < (2, 9) {
            Report::warning(format!("{version} is older than what Trunkline is tested with, 2.9"))
                .advice("upgrade the server")
        } else {
            Report::ok(format!("NATS {version}"))
        },
    );
    let limit = info["max_payload"].as_u64().unwrap_or_default();
    let value = Measured::new(limit as f64, "B").least(1_048_576.0, 65_536.0);
    let report = Report::measured(value, format!("a message may have {}; larger ones are refused", bytes(limit)))
        .cause("max_payload of the server is below its default of 1 MiB")
        .advice("max_payload: 1MB in nats-server.conf, then nats-server --signal reload");
    findings.add("nats-max-payload", report);
    let has_jetstream = info["jetstream"].as_bool().unwrap_or_default();
    let needs_it = trunkline_nats::Config::from_url(&target.url).is_ok_and(|config| config.history.is_some());
    let report = match (needs_it, has_jetstream) {
        (true, false) => Report::critical("the URL asks for a history, and the server has no JetStream")
            .cause("history=on keeps messages and sessions in JetStream")
            .advice("start the server with -js and -sd DIRECTORY, or leave out history=on"),
        (true, true) => Report::ok("the server has JetStream"),
        (false, _) => Report::ok("the URL asks for no history, so none is needed"),
    };
    findings.add("nats-jetstream", report);
}

fn nats_info(greeting: &[u8]) -> Option<serde_json::Value> {
    let text = std::str::from_utf8(greeting).ok()?;
    serde_json::from_str(text.lines().next()?.strip_prefix("INFO ")?).ok()
}

fn skip_nats(findings: &mut Findings, reason: &str) {
    for code in ["version", "nats-max-payload", "nats-jetstream"] {
        findings.add(code, Report::skipped(format!("the server could not be asked: {reason}")));
    }
}

/// What the first server that answers sends after `hello`, as far as it comes at once.
async fn first_bytes(target: &BrokerTarget, hello: &[u8]) -> Result<Vec<u8>, String> {
    let mut problem = "no address answers".to_owned();
    for address in &target.addresses {
        let asked = async {
            let mut stream = reach::open(target, address).await?;
            stream.write_all(hello).await?;
            let mut received = vec![0; 16_384];
            let count = stream.read(&mut received).await?;
            received.truncate(count);
            Ok(received)
        };
        match limited(asked).await {
            Ok(received) => return Ok(received),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_read_and_nonsense_is_none() {
        let start = b"\x01\x00\x00junk\x07versionS\x00\x00\x00\x063.10.8more";
        assert_eq!(amqp_version(start).as_deref(), Some("3.10.8"));
        assert_eq!(amqp_version(b"\x07versionS\xff\xff\xff\xff"), None);
        assert_eq!(amqp_version(b""), None);
        assert_eq!(nats_info(b"INFO {\"version\":\"2.9.10\"} \r\n").unwrap()["version"], "2.9.10");
        assert_eq!(nats_info(b"HTTP/1.1 400"), None);
    }
}
