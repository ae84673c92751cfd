//! Checks of a PostgreSQL server: version, primary, notification queue, idle sessions.

use std::path::PathBuf;

use tokio_postgres::{Client, NoTls};
use trunkline_backend::tls::{ServerCheck, Verify};
use trunkline_postgres::{Config, HistoryConfig, Table};

use super::{
    finding::{Findings, Measured, Report},
    measures::{self, ClockLimits, Kept},
    reach::{CONNECT, limited},
    redis::numbers,
    target::{BrokerTarget, client_config},
};
use crate::echo::NAMESPACE;

const CODES: [&str; 7] =
    ["version", "primary", "clock", "history", "postgres-notify-queue", "postgres-idle-timeout", "prefix"];

pub(crate) async fn examine(target: &BrokerTarget, limits: ClockLimits, findings: &mut Findings) {
    let client = match connect(target).await {
        Ok(client) => client,
        Err(reason) => {
            for code in CODES {
                findings.add(code, Report::skipped(format!("the server could not be asked: {reason}")));
            }
            return;
        }
    };
    findings.add(
        "version",
        ask(&client, "SHOW server_version").await.map_or_else(Report::skipped, |version| {
            if numbers(&version).0 < 12 {
                Report::warning(format!("{version} is older than what PostgreSQL maintains"))
                    .advice("upgrade the server")
            } else {
                Report::ok(format!("PostgreSQL {version}"))
            }
        }),
    );
    let recovering = ask(&client, "SELECT pg_is_in_recovery()::text").await;
    findings.add("primary", recovering.map_or_else(Report::skipped, |recovering| {
        if recovering == "true" {
            Report::critical("the server is a standby, which takes no writes and no NOTIFY")
                .cause("the address is that of a standby, or the primary was demoted")
                .advice("name the primary, or all hosts with target_session_attrs=read-write; promote: SELECT pg_promote()")
        } else {
            Report::ok("the server is a primary")
        }
    }));
    findings.add("clock", clock(&client, limits).await);
    if let Ok(config) = Config::from_url(&target.url)
        && let Some(kept) = &config.history
    {
        findings.add("history", history(&client, kept).await);
    }
    findings.add("prefix", prefixes(target, &client).await);
    let usage = ask(&client, "SELECT (pg_notification_queue_usage() * 100)::text").await;
    findings.add("postgres-notify-queue", usage.map_or_else(Report::skipped, |usage| {
        let percent = usage.parse().unwrap_or_default();
        Report::measured(Measured::new(percent, "%").limits(25.0, 75.0), format!("{percent:.1} % of it is used"))
            .cause("a session that listens is in a transaction that does not end")
            .advice("SELECT pid, xact_start, query FROM pg_stat_activity WHERE state = 'idle in transaction' ORDER BY xact_start")
    }));
    let timeout = ask(&client, "SELECT setting FROM pg_settings WHERE name = 'idle_session_timeout'").await;
    findings.add(
        "postgres-idle-timeout",
        timeout.map_or_else(Report::skipped, |milliseconds| {
            match milliseconds.parse::<u64>().unwrap_or_default() {
                0 => Report::ok("idle_session_timeout is off"),
                time if time <= PING_MILLISECONDS => {
                    Report::critical(format!("idle_session_timeout is {time} ms, and a node is silent for longer"))
                }
                time => Report::ok(format!("idle_session_timeout is {time} ms, and a node asks more often")),
            }
            .cause("the server ends the sessions of nodes, and each end is a gap")
            .advice("ALTER ROLE USER SET idle_session_timeout = 0")
        }),
    );
}

async fn clock(client: &Client, limits: ClockLimits) -> Report {
    let before = measures::now();
    let time = ask(client, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::text").await;
    time.map_or_else(Report::skipped, |time| {
        measures::clock(before, time.parse().unwrap_or_default(), measures::now(), limits)
    })
}

/// Compares the rate of the latest messages with the number that is kept. What the doctor has sent is no rate.
async fn history(client: &Client, kept: &HistoryConfig) -> Report {
    let latest = format!(
        "SELECT count(*) || ' ' || coalesce(extract(epoch FROM clock_timestamp() - min(created_at)) * 1000, 0) FROM \
         (SELECT created_at FROM {} WHERE channel NOT LIKE '%{NAMESPACE}' ORDER BY id DESC LIMIT 200) latest",
        quoted(&kept.events)
    );
    let found = match ask(client, &latest).await {
        Ok(found) => found,
        Err(reason) => return Report::skipped(reason),
    };
    let (count, span) = found.split_once(' ').unwrap_or_default();
    let kept = Kept { ttl: Some(kept.ttl), ..Kept::messages(f64::from(kept.messages)) };
    let advice = "raise history_messages and history_ttl in the URL of all nodes";
    measures::history(&kept, count.parse().unwrap_or_default(), span.parse().unwrap_or_default(), advice)
}

fn quoted(table: &Table) -> String {
    let parts: Vec<_> = table.to_string().split('.').map(|part| format!("\"{part}\"")).collect();
    parts.join(".")
}

/// What a node does, and the user may not: privileges of its tables and sequences, and to create those that are missing.
pub(crate) async fn missing_rights(target: &BrokerTarget) -> Vec<String> {
    let (Ok(config), Ok(client)) = (Config::from_url(&target.url), connect(target).await) else { return Vec::new() };
    let mut tables = vec![(&config.attachments, true, &["SELECT", "INSERT", "DELETE"][..])];
    if let Some(history) = &config.history {
        tables.push((&history.events, true, &["SELECT", "INSERT", "DELETE"]));
        tables.push((&history.sessions, false, &["SELECT", "INSERT", "UPDATE", "DELETE"]));
    }
    let mut missing = Vec::new();
    for (table, has_sequence, privileges) in tables {
        // Letters, digits, `_` and `$` only: nothing to escape.
        let name = quoted(table);
        let exists = ask(&client, &format!("SELECT (to_regclass('{name}') IS NOT NULL)::text")).await;
        if exists.is_ok_and(|exists| exists == "false") {
            let may = ask(&client, "SELECT has_schema_privilege(current_schema(), 'CREATE')::text").await;
            if may.is_ok_and(|may| may == "false") {
                missing.push(format!("CREATE ON SCHEMA, for {table}, which does not exist"));
            }
            continue;
        }
        for privilege in privileges {
            let may = ask(&client, &format!("SELECT has_table_privilege('{name}', '{privilege}')::text")).await;
            if may.is_ok_and(|may| may == "false") {
                missing.push(format!("{privilege} ON {table}"));
            }
        }
        let sequence = format!("pg_get_serial_sequence('{name}', 'id')");
        if has_sequence
            && let Ok(may) = ask(&client, &format!("SELECT has_sequence_privilege({sequence}, 'USAGE')::text")).await
            && may == "false"
        {
            missing.push(format!("USAGE ON SEQUENCE of {table}"));
        }
    }
    missing
}

/// Looks for sessions whose last statement listens to a channel of another prefix, as those of Node.js servers do. Those of
/// our own nodes do for their first seconds; those of other users are seen with `pg_read_all_stats` only.
async fn prefixes(target: &BrokerTarget, client: &Client) -> Report {
    const OTHERS: &str = "SELECT coalesce(string_agg(DISTINCT substring(query FROM 'LISTEN \"([^\"]*)#/'), ', '), '') \
        FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN \"%#/%'";
    let own = match Config::from_url(&target.url) {
        Ok(config) => config.prefix,
        Err(error) => return Report::skipped(error.to_string()),
    };
    let found = match ask(client, OTHERS).await {
        Ok(found) => found,
        Err(reason) => return Report::skipped(reason),
    };
    let others: Vec<_> = found.split(", ").filter(|prefix| !prefix.is_empty() && *prefix != own).collect();
    if others.is_empty() {
        return Report::ok(format!("no session that is seen listens to another prefix than {own:?}"));
    }
    Report::warning(format!("channels of another prefix are alive: {}", others.join(", ")))
        .cause(format!("this URL has the prefix {own:?}; nodes of different prefixes do not hear each other"))
        .advice(
            "if they should be one cluster, give all of them the same prefix (`channelPrefix` in Node.js); \
             see: SELECT pid, client_addr, query FROM pg_stat_activity WHERE query LIKE 'LISTEN %'",
        )
}

/// Default of `ping_interval`.
const PING_MILLISECONDS: u64 = 5_000;

async fn ask(client: &Client, query: &str) -> Result<String, String> {
    let asked = async { client.simple_query(query).await.map_err(std::io::Error::other) };
    let rows = limited(asked).await.map_err(|error| error.to_string())?;
    let value = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    // A setting that this version does not have.
    Ok(value.unwrap_or_else(|| "0".to_owned()))
}

/// Connects by the part of the URL that names hosts, user and database. A certificate of a trusted authority must name
/// the host here, also where `sslmode` does not ask for that.
async fn connect(target: &BrokerTarget) -> Result<Client, String> {
    let (address, query) = target.url.split_once('?').unwrap_or((&target.url, ""));
    let mut config: tokio_postgres::Config = address.parse().map_err(|_| "the URL names hosts by parameters")?;
    config.connect_timeout(CONNECT).application_name("trunkline doctor");
    if config.get_hosts().is_empty() {
        return Err("the URL names hosts by parameters".into());
    }
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if matches!(parameter("sslmode"), None | Some("disable" | "prefer")) {
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let connected = async { config.connect(NoTls).await.map_err(std::io::Error::other) };
        let (client, connection) = limited(connected).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        return Ok(client);
    }
    let file = |name: &str| parameter(name).map(PathBuf::from);
    let ca = file("sslrootcert").filter(|path| path.as_os_str() != "system");
    let mut check = ServerCheck::default();
    if parameter("sslmode") == Some("require") && ca.is_none() {
        check.verify = Verify::Nothing;
    }
    let client = file("sslcert").zip(file("sslkey"));
    let tls = client_config(&ca, &client, &check).map_err(|error| error.to_string())?;
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls);
    let connected = async { config.connect(tls).await.map_err(std::io::Error::other) };
    let (client, connection) = limited(connected).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}
