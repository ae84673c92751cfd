//! Everything that a node does and the user may not, in one report: what is refused first is rarely all.

use trunkline_redis::{Config, Mode};

use super::{
    finding::{Findings, Report},
    mongodb, nats, postgres, rabbitmq, redis,
    target::{Backend, BrokerTarget},
};

/// Says what the user may not: what was refused, and everything else that would be.
pub(crate) async fn refused(target: &BrokerTarget, refusal: &str, findings: &mut Findings) {
    let missing = match target.backend {
        Backend::Redis => redis::missing_rights(target).await,
        Backend::Postgres => postgres::missing_rights(target).await,
        Backend::MongoDb => mongodb::missing_rights(target).await,
        Backend::RabbitMq => rabbitmq::missing_rights(target).await,
        Backend::Nats => nats::missing_rights(target).await,
        Backend::Memory => Vec::new(),
    };
    let cause = match missing.as_slice() {
        [] => refusal.to_owned(),
        missing => format!("{refusal}; all that is missing: {}", missing.join("; ")),
    };
    let report = Report::critical("the user may not do what a node does").cause(cause);
    findings.add("rights", report.advice(advice(target)));
}

fn advice(target: &BrokerTarget) -> &'static str {
    match target.backend {
        Backend::Redis => redis_advice(&target.url),
        Backend::Postgres => {
            "create the tables as another user and grant them: psql -h HOST -p PORT -d DATABASE -c 'GRANT ALL ON \
                TABLE TO USER; GRANT ALL ON SEQUENCE TABLE_id_seq TO USER'"
        }
        Backend::RabbitMq => "rabbitmqctl set_permissions -p VHOST USER '^trunkline' '^trunkline' '^trunkline'",
        Backend::Nats => "permit publish and subscribe on \"PREFIX.>\", with a history also \"$JS.API.>\"",
        Backend::MongoDb => {
            "grant readWrite on the database: mongosh mongodb://HOST:PORT/admin --eval \
                'db.grantRolesToUser(\"USER\", [{role: \"readWrite\", db: \"DATABASE\"}])'"
        }
        Backend::Memory => "",
    }
}

fn redis_advice(url: &str) -> &'static str {
    match Config::from_url(url).map(|config| config.mode) {
        Ok(Mode::Streams(_)) => {
            "see what it may: redis-cli -h HOST -p PORT ACL GETUSER USER; grant it: redis-cli -h HOST -p PORT ACL \
                SETUSER USER '&PREFIX*' '~STREAM' '~SESSION*' +@pubsub +@stream +@read +@write +@connection \
                +@transaction"
        }
        Ok(Mode::Sharded(_)) => {
            "see what it may: redis-cli -h HOST -p PORT ACL GETUSER USER; grant it: redis-cli -h HOST -p PORT ACL \
                SETUSER USER '&PREFIX*' +@pubsub +@connection"
        }
        // Patterns are compared letter by letter.
        _ => {
            "see what it may: redis-cli -h HOST -p PORT ACL GETUSER USER; each namespace needs its pattern, as \
                '&PREFIX#/admin#*'; grant it: redis-cli -h HOST -p PORT ACL SETUSER USER '&PREFIX*' '&PREFIX#/#*' \
                '&PREFIX#/trunkline-doctor#*' +@pubsub +@connection"
        }
    }
}
