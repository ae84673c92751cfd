//! Checks of a MongoDB server: its version.

use mongodb::{Client, bson::doc, options::ClientOptions};

use super::{
    finding::{Findings, Report},
    reach::{CONNECT, limited},
    redis::numbers,
    target::BrokerTarget,
};

pub(crate) async fn examine(target: &BrokerTarget, findings: &mut Findings) {
    findings.add(
        "version",
        match limited(version(target)).await {
            Ok(version) if numbers(&version) < (4, 2) => {
                Report::critical(format!("{version} is too old: change streams need 4.2")).advice("upgrade the server")
            }
            Ok(version) => Report::ok(format!("MongoDB {version}")),
            Err(error) => Report::skipped(format!("the server could not be asked: {error}")),
        },
    );
}

async fn version(target: &BrokerTarget) -> std::io::Result<String> {
    let mut options = ClientOptions::parse(driver_url(&target.url)).await.map_err(std::io::Error::other)?;
    options.server_selection_timeout = Some(CONNECT);
    let client = Client::with_options(options).map_err(std::io::Error::other)?;
    let info = client.database("admin").run_command(doc! { "buildInfo": 1 }).await.map_err(std::io::Error::other)?;
    Ok(info.get_str("version").unwrap_or_default().to_owned())
}

/// The URL without what only the backend understands.
fn driver_url(url: &str) -> String {
    const OWN: [&str; 10] = [
        "collection",
        "capped_bytes",
        "ttl",
        "create",
        "session_ttl",
        "outbox_bytes",
        "max_message_bytes",
        "response_timeout",
        "stream_timeout",
        "operation_timeout",
    ];
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let kept = query.split('&').filter(|pair| !OWN.contains(&pair.split('=').next().unwrap_or_default()));
    format!("{address}?{}", kept.collect::<Vec<_>>().join("&"))
}
