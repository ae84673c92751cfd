//! `doctor`: what is wrong with a broker and a cluster, and what to do.

mod checks;
mod cluster;
mod connect;
mod echo;
mod finding;
mod format;
mod greeting;
mod measures;
mod mongodb;
mod names;
mod nats;
mod nodes;
mod postgres;
mod rabbitmq;
mod reach;
pub(crate) mod redis;
mod rights;
mod target;

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use trunkline::{Error, ErrorKind};

use self::{
    checks::CHECKS,
    finding::{Finding, Findings, Outcome, Report},
    measures::ClockLimits,
    names::Names,
    target::{Backend, Encryption},
};
pub(crate) use self::{finding::Archived, target::BrokerTarget};
use crate::{
    broker,
    gather::Archive,
    options::{DoctorOptions, Format},
    output::{Failure, Output, Status, print},
};

pub(crate) async fn doctor(options: DoctorOptions, output: &Output) -> Result<Status, Failure> {
    let format = if output.is_json { Format::Json } else { options.format };
    for code in options.only.iter().chain(&options.skip) {
        if checks::named(code).is_none() {
            return Err(Failure::usage(format!("there is no check {code:?}; see `trunkline doctor --list`")));
        }
    }
    if options.list {
        print(format::list(format == Format::Json));
        return Ok(Status::Ok);
    }
    if let Some(file) = &options.archive {
        return archived(file, &options, format);
    }
    let target = BrokerTarget::parse(&options.url()?)?;
    let deadline = Instant::now() + options.wait.unwrap_or_default();
    let findings = loop {
        let findings = selected(examine(&target, &options).await?, &options);
        if status(&findings) != Status::Critical || Instant::now() + PAUSE > deadline {
            break findings;
        }
        sleep(PAUSE).await;
    };
    Ok(report(&findings, format))
}

/// Prints what was found, and says how bad it is.
fn report(findings: &[Finding], format: Format) -> Status {
    let status = status(findings);
    print(match format {
        Format::Text => format::text(findings, status),
        Format::Json => format::json(findings, status),
        Format::Nagios => format::nagios(findings, status),
        Format::Prometheus => format::prometheus(findings, status),
    });
    status
}

/// Reads what `gather` has found.
fn archived(file: &Path, options: &DoctorOptions, format: Format) -> Result<Status, Failure> {
    let wrong = |error: String| Failure::usage(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let archive: Archive = serde_json::from_str(&text).map_err(|error| wrong(format!("no archive: {error}")))?;
    if format == Format::Text {
        print(format_args!(
            "gathered {} in namespace {} over {}\n",
            archive.gathered, archive.namespace, archive.broker
        ));
    }
    let mut findings: Vec<_> = archive.checks.into_iter().filter_map(Archived::into_finding).collect();
    let codes: Vec<_> = findings.iter().map(|finding| finding.check.code).collect();
    let mut of_nodes = Findings::new(Backend::Memory, Names::default());
    nodes::examine(&archive.nodes, &mut of_nodes);
    findings.extend(of_nodes.made().into_iter().filter(|finding| !codes.contains(&finding.check.code)));
    Ok(report(&selected(findings, options), format))
}

/// Makes all checks, for `gather`: what they found, and what the nodes have told.
pub(crate) async fn gathered(url: &str, options: &DoctorOptions) -> Result<Vec<Archived>, Failure> {
    let target = BrokerTarget::parse(url)?;
    Ok(examine(&target, options).await?.iter().map(Archived::of).collect())
}

/// How long to wait before everything is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes the checks in their order; what needs something that failed is skipped.
async fn examine(target: &BrokerTarget, options: &DoctorOptions) -> Result<Vec<Finding>, Failure> {
    let mut findings = Findings::new(target.backend, Names::of(target));
    let clock = ClockLimits { warning: options.clock_warning, critical: options.clock_critical };
    if !reach::addresses(target, &mut findings).await {
        findings.skip_rest("because nothing can be reached (reachable)");
        return Ok(findings.finish());
    }
    if !reach::encryption(target, &mut findings).await {
        findings.skip_rest("because no encrypted connection can be made (tls)");
        return Ok(findings.finish());
    }
    let backend = match connected(&target.url).await {
        Ok(backend) => backend,
        Err(error) => {
            let code = connect::failed(target, &error, &mut findings).await;
            // Without a primary the driver waits for one, for each question.
            let is_mute = target.backend == Backend::MongoDb && code == "primary";
            if !matches!(code, "authenticated" | "tls") && !is_mute {
                ask_broker(target, clock, &mut findings).await;
            }
            findings.skip_rest(&format!("because a node cannot connect ({code})"));
            return Ok(findings.finish());
        }
    };
    let is_encrypted = !matches!(target.encryption, Encryption::None);
    connect::succeeded(is_encrypted, target.backend, &mut findings);
    let prefixes = match target.backend {
        Backend::Nats if !options.pre => Some(nats::Prefixes::listen(target, &options.namespace).await),
        _ => None,
    };
    ask_broker(target, clock, &mut findings).await;
    let limits = echo::Limits { warning: options.echo_warning, critical: options.echo_critical };
    echo::examine(target, &backend, limits, &mut findings).await;
    if target.backend == Backend::RabbitMq {
        findings.add("rabbitmq-alarms", alarms(&backend));
    }
    if options.pre {
        findings.skip_category("cluster", "because this is before a deployment (--pre)");
    } else if !backend.transport.health().connected {
        findings.skip_category("cluster", "because the broker takes nothing (echo)");
    } else {
        cluster::examine(target, &backend, options, &mut findings).await;
    }
    match prefixes {
        Some(Ok(prefixes)) => {
            findings.add("prefix", prefixes.report(options.listen.listen).await);
        }
        Some(Err(reason)) => findings.add("prefix", Report::skipped(reason)),
        None => (),
    }
    broker::close(&backend).await;
    Ok(findings.finish())
}

async fn connected(url: &str) -> Result<trunkline::Backend, Error> {
    let connecting = timeout(CONNECT_TIMEOUT, trunkline::connect(url)).await;
    connecting.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Disconnected, format!("no connection after {CONNECT_TIMEOUT:?}")))
    })
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

async fn ask_broker(target: &BrokerTarget, clock: ClockLimits, findings: &mut Findings) {
    match target.backend {
        Backend::Redis => redis::examine(target, clock, findings).await,
        Backend::Postgres => postgres::examine(target, clock, findings).await,
        Backend::MongoDb => mongodb::examine(target, clock, findings).await,
        Backend::RabbitMq => {
            greeting::rabbitmq(target, findings).await;
            rabbitmq::examine(target, findings).await;
        }
        Backend::Nats => {
            greeting::nats(target, findings).await;
            nats::examine(target, findings).await;
        }
        Backend::Memory => findings.add("version", Report::skipped("there is no broker")),
    }
}

/// What the connection says after messages were published.
fn alarms(backend: &trunkline::Backend) -> Report {
    let health = backend.transport.health();
    if health.connected {
        return Report::ok("RabbitMQ takes messages");
    }
    Report::critical("RabbitMQ takes no messages: an alarm blocks publishers")
        .cause(health.reason.unwrap_or_else(|| "the connection is lost".to_owned()))
        .advice(
            "rabbitmq-diagnostics alarms; free memory or disk, or raise vm_memory_high_watermark or disk_free_limit",
        )
}

/// Leaves out what was not asked for. What explains why something was skipped stays.
fn selected(mut findings: Vec<Finding>, options: &DoctorOptions) -> Vec<Finding> {
    let has = |codes: &[String], finding: &Finding| codes.iter().any(|code| code == finding.check.code);
    findings.retain(|finding| {
        let is_wanted = options.only.is_empty()
            || has(&options.only, finding)
            || (finding.outcome == Outcome::Critical && finding.check.category == CHECKS[0].category);
        is_wanted && !has(&options.skip, finding)
    });
    findings
}

/// The worst of all; unknown if nothing was checked.
fn status(findings: &[Finding]) -> Status {
    findings.iter().filter_map(|finding| finding.outcome.status()).max().unwrap_or(Status::Unknown)
}
