//! Connecting as a node does, and which check an error belongs to.

use trunkline::{Error, ErrorKind};

use super::{
    finding::{Findings, Report},
    reach, rights,
    target::{Backend, BrokerTarget},
};
use crate::output::with_causes;

/// Says what a connection proves.
pub(crate) fn succeeded(target_is_encrypted: bool, backend: Backend, findings: &mut Findings) {
    if target_is_encrypted {
        findings.add("tls", Report::ok("the connection is encrypted"));
    }
    findings.add("authenticated", Report::ok("the broker accepts the user of the URL"));
    findings.add("connected", Report::ok("a node can connect with everything that the URL asks for"));
    if backend == Backend::Postgres {
        findings.add("postgres-listen", Report::ok("a notification came back: no pooler swallows LISTEN"));
    }
    if backend == Backend::MongoDb {
        findings.add("mongodb-replica-set", Report::ok("the server has change streams"));
    }
}

/// Says which check a failed connection belongs to. Returns its code.
pub(crate) async fn failed(target: &BrokerTarget, error: &Error, findings: &mut Findings) -> &'static str {
    let text = with_causes(error);
    let code = code_of(target.backend, error.kind(), &text.to_lowercase());
    if code == "rights" {
        rights::refused(target, &text, findings).await;
    } else {
        let (sentence, advice) = explain(target.backend, code, &text);
        findings.add(code, Report::critical(sentence).cause(text).advice(advice));
    }
    code
}

fn code_of(backend: Backend, kind: ErrorKind, text: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match backend {
        Backend::Postgres if kind == ErrorKind::Unsupported || has(&["pgbouncer"]) => return "postgres-listen",
        Backend::MongoDb if has(&["noprimary", "not primary", "notwritableprimary"]) => return "primary",
        Backend::MongoDb if kind == ErrorKind::Unsupported || has(&["replica set", "change stream"]) => {
            return "mongodb-replica-set";
        }
        Backend::Redis if kind == ErrorKind::Unsupported => return "version",
        Backend::Nats if has(&["jetstream"]) => return "nats-jetstream",
        _ => (),
    }
    if has(&["does not let this user"]) {
        "rights"
    } else if has(&["read-only", "read only", "readonly", "recovery"]) {
        "primary"
    } else if has(&["noperm", "permission", "not authorized", "unauthorized"]) && !has(&["authentication"]) {
        "rights"
    } else if has(&[
        "wrongpass",
        "noauth",
        "authentic",
        "err auth",
        "access_refused",
        "authorization violation",
        "password",
        "scram",
        "28000",
    ]) {
        "authenticated"
    } else if has(&["certificate", "tls", "ssl"]) {
        "tls"
    } else {
        "connected"
    }
}

/// A sentence and an advice.
fn explain(backend: Backend, code: &str, cause: &str) -> (&'static str, &'static str) {
    match code {
        "tls" => ("no encrypted connection can be made", reach::tls_advice(cause)),
        "authenticated" => (
            "the broker refuses the user or the password of the URL",
            match backend {
                Backend::Redis => {
                    "try them: redis-cli -h HOST -p PORT --user USER --askpass PING; see the users: redis-cli -h \
                        HOST -p PORT ACL LIST"
                }
                Backend::Postgres => {
                    "try them: psql -h HOST -p PORT -U USER -d DATABASE -c 'SELECT 1'; the server's log says why, \
                        and pg_hba.conf who may"
                }
                Backend::RabbitMq => {
                    "try them: rabbitmqctl authenticate_user USER (it asks for the password); may it use the vhost? \
                        rabbitmqctl list_permissions -p VHOST"
                }
                Backend::Nats => {
                    "compare with `authorization` or `accounts` in the server's configuration; a password with \
                        special characters is percent-encoded"
                }
                Backend::MongoDb => {
                    "try them: mongosh mongodb://HOST:PORT/DATABASE -u USER --eval 'db.hello()' (it asks for the \
                        password); is authSource right?"
                }
                Backend::Memory => "",
            },
        ),
        "primary" => (
            "the server is a replica, which takes no writes; or no primary is elected",
            match backend {
                Backend::Postgres => {
                    "name the primary, or all hosts with target_session_attrs=read-write; promote: SELECT pg_promote()"
                }
                Backend::MongoDb => {
                    "who is what? mongosh mongodb://HOST:PORT --eval 'rs.status().members.map(m => [m.name, \
                        m.stateStr])'; name all members in the URL, without directConnection"
                }
                _ => "name the master, or the sentinels with ?sentinel=NAME; see: redis-cli -h HOST -p PORT ROLE",
            },
        ),
        "version" => (
            "the server is too old for this URL, or lacks a feature",
            "upgrade the server, or use another mode; see the README of trunkline-redis",
        ),
        "postgres-listen" => (
            "notifications do not come back: a pooler swallows LISTEN",
            "connect past the pooler, or give it pool_mode = session in pgbouncer.ini",
        ),
        "mongodb-replica-set" => (
            "the server is in no replica set, and so has no change streams",
            "start it with --replSet rs0, then once: mongosh mongodb://HOST:PORT --eval 'rs.initiate()'",
        ),
        "nats-jetstream" => (
            "the URL asks for a history, and the server has no JetStream for this account",
            "start the server with -js and -sd DIRECTORY, or leave out history=on",
        ),
        _ => (
            "a node cannot connect",
            match backend {
                Backend::Postgres => {
                    "does the database exist? psql -h HOST -p PORT -U USER -l; the server's log says more"
                }
                Backend::RabbitMq => "does the vhost exist? rabbitmqctl list_vhosts; the broker's log says more",
                _ => "the cause is above; the broker's log says more",
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_belong_to_the_check_that_names_them() {
        for (backend, kind, text, code) in [
            (Backend::Redis, ErrorKind::Broker, "WRONGPASS invalid username-password pair", "authenticated"),
            (
                Backend::Redis,
                ErrorKind::Broker,
                "NoPerm: this user has no permissions to run the 'publish' command",
                "rights",
            ),
            (
                Backend::RabbitMq,
                ErrorKind::Broker,
                "ACCESS_REFUSED - Login was refused using authentication mechanism",
                "authenticated",
            ),
            (Backend::Postgres, ErrorKind::Broker, "password authentication failed for user \"app\"", "authenticated"),
            (Backend::Postgres, ErrorKind::Broker, "permission denied for table socket_io_attachments", "rights"),
            (
                Backend::Nats,
                ErrorKind::Disconnected,
                "authorization violation: nats: authorization violation",
                "authenticated",
            ),
            (Backend::MongoDb, ErrorKind::Unsupported, "a standalone server", "mongodb-replica-set"),
            (Backend::MongoDb, ErrorKind::Disconnected, "Topology: { Type: ReplicaSetNoPrimary", "primary"),
            (Backend::Redis, ErrorKind::Disconnected, "invalid peer certificate: UnknownIssuer", "tls"),
            (Backend::Redis, ErrorKind::Disconnected, "Connection refused", "connected"),
            (Backend::Postgres, ErrorKind::Config, "role \"app\" does not exist (SQLSTATE 28000)", "authenticated"),
            (Backend::Postgres, ErrorKind::Config, "database \"shop\" does not exist (SQLSTATE 3D000)", "connected"),
        ] {
            assert_eq!(code_of(backend, kind, &text.to_lowercase()), code, "{text}");
        }
    }
}
