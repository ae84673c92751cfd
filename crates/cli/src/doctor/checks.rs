//! The checks, with their stable codes, in the order in which they are made.

use super::target::Backend;

/// A check of the doctor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Stable name, which is also the anchor in `docs/doctor.md`.
    pub(crate) code: &'static str,
    pub(crate) category: &'static str,
    /// What holds if all is well.
    pub(crate) promise: &'static str,
    /// The backends it is for; all if empty.
    backends: &'static [Backend],
}

impl Check {
    pub(crate) fn is_for(&self, backend: Backend) -> bool {
        self.backends.is_empty() || self.backends.contains(&backend)
    }

    pub(crate) fn link(&self) -> String {
        format!("https://github.com/trunkline-rs/trunkline/blob/main/docs/doctor.md#{}", self.code)
    }
}

const fn check(
    category: &'static str,
    code: &'static str,
    promise: &'static str,
    backends: &'static [Backend],
) -> Check {
    Check { code, category, promise, backends }
}

/// Categories in their order, each check after those that it needs.
pub(crate) const CHECKS: &[Check] = &[
    check("connection", "reachable", "every address of the URL takes connections", &[]),
    check("connection", "tls", "the connection is encrypted and the certificate is trusted", &[]),
    check("connection", "authenticated", "the broker accepts user and password", &[]),
    check("connection", "rights", "the user may do what a node does", &[]),
    check("connection", "connected", "a node can connect with everything that the URL asks for", &[]),
    check("broker", "version", "the broker is a version that can do it", &[]),
    check("broker", "primary", "the server takes writes", &[Backend::Redis, Backend::Postgres, Backend::MongoDb]),
    check(
        "broker",
        "clock",
        "the broker's clock agrees with this machine's",
        &[Backend::Redis, Backend::Postgres, Backend::MongoDb],
    ),
    check(
        "broker",
        "history",
        "the history lasts long enough at the present rate",
        &[Backend::Redis, Backend::MongoDb, Backend::Postgres, Backend::RabbitMq, Backend::Nats],
    ),
    check("broker", "redis-output-buffer", "nodes are not cut off when messages wait for them", &[Backend::Redis]),
    check("broker", "redis-memory", "there is memory left", &[Backend::Redis]),
    check("broker", "redis-eviction", "Redis evicts no stream and no session", &[Backend::Redis]),
    check("broker", "postgres-listen", "notifications come through: no pooler swallows LISTEN", &[Backend::Postgres]),
    check("broker", "postgres-notify-queue", "the queue of notifications has room", &[Backend::Postgres]),
    check("broker", "postgres-idle-timeout", "idle sessions are not ended", &[Backend::Postgres]),
    check(
        "broker",
        "mongodb-replica-set",
        "the server has change streams: it is in a replica set",
        &[Backend::MongoDb],
    ),
    check("broker", "rabbitmq-alarms", "RabbitMQ takes messages: no alarm blocks publishers", &[Backend::RabbitMq]),
    check(
        "broker",
        "rabbitmq-queue-limits",
        "queues keep what waits for a node: no policy limits them",
        &[Backend::RabbitMq],
    ),
    check("broker", "nats-max-payload", "messages of usual size pass", &[Backend::Nats]),
    check("broker", "nats-jetstream", "JetStream is there if the URL asks for a history", &[Backend::Nats]),
    check("echo", "echo", "what one node publishes arrives at another one, whole, once and in order", &[]),
    check("echo", "echo-time", "it arrives soon", &[]),
    check("cluster", "nodes", "other nodes are there", &[]),
    check("cluster", "answers", "every node answers", &[]),
    check("cluster", "heartbeats", "every node is heard", &[]),
    check("cluster", "silent-nodes", "every node that the broker counts is known or answers", &[]),
    check("cluster", "settings", "all nodes have the same settings", &[]),
    check("cluster", "versions", "all nodes have the same version", &[]),
    check("cluster", "node-health", "every node is connected, and none of its messages was refused", &[]),
    check("cluster", "node-gaps", "no node has missed messages", &[]),
    check(
        "cluster",
        "prefix",
        "no node uses another prefix",
        &[Backend::Redis, Backend::Postgres, Backend::MongoDb, Backend::Nats],
    ),
];

/// The check with this code. Codes are written in this crate only, and a test looks for each of them here.
pub(crate) fn named(code: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.code == code)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_check_has_a_code_of_its_own_and_its_chapter_in_the_manual() {
        let manual = include_str!("../../../../docs/doctor.md");
        let mut codes = HashSet::new();
        for check in CHECKS {
            assert!(codes.insert(check.code), "{} is there twice", check.code);
            assert!(manual.contains(&format!("\n### {}\n", check.code)), "docs/doctor.md lacks {}", check.code);
        }
        let chapters = manual.lines().filter_map(|line| line.strip_prefix("### "));
        for chapter in chapters {
            assert!(codes.contains(chapter), "there is no check {chapter}");
        }
    }
}
