//! [`Names`]: host, port, user and so on, as the URL names them, for commands that can be copied.

use trunkline_backend::batched::token;
use trunkline_redis::Mode;

use super::target::{Backend, BrokerTarget};

/// Words such as `HOST` in an advice, with what stands for them in the URL. No secrets.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<(&'static str, String)>);

impl Names {
    pub(crate) fn of(target: &BrokerTarget) -> Self {
        let url = target.url.as_str();
        let mut names = match target.backend {
            Backend::Redis => redis(url),
            Backend::Postgres => postgres(url),
            Backend::MongoDb => mongodb(url),
            Backend::RabbitMq => rabbitmq(url),
            Backend::Nats => nats(url),
            Backend::Memory => Some(Vec::new()),
        }
        .unwrap_or_default();
        if let Some((host, port)) = target.addresses.first() {
            names.extend([("HOST", host.clone()), ("PORT", port.to_string())]);
        }
        names.retain(|(_, name)| is_plain(name));
        Self(names)
    }

    /// An advice in which the names of the URL stand. A word for which it has none stays.
    pub(crate) fn fill(&self, advice: &str) -> String {
        let pieces = advice.split_inclusive(|c: char| !c.is_ascii_uppercase());
        let filled = pieces.map(|piece| {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_uppercase());
            let name = self.0.iter().find(|(placeholder, _)| *placeholder == word);
            name.map_or(piece.to_owned(), |(_, name)| name.clone() + &piece[word.len()..])
        });
        filled.collect()
    }
}

type Pairs = Option<Vec<(&'static str, String)>>;

fn redis(url: &str) -> Pairs {
    let config = trunkline_redis::Config::from_url(url).ok()?;
    let mut names = vec![("PREFIX", config.prefix), ("USER", config.server.user.unwrap_or_else(|| "default".into()))];
    if let Mode::Streams(streams) = config.mode {
        names.extend([("STREAM", streams.stream), ("SESSION", streams.session_prefix)]);
    }
    Some(names)
}

fn postgres(url: &str) -> Pairs {
    let config = trunkline_postgres::Config::from_url(url).ok()?;
    let database = url.split('?').next()?.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
    Some(vec![("TABLE", config.attachments.to_string()), ("DATABASE", database), ("USER", user(url))])
}

fn mongodb(url: &str) -> Pairs {
    let config = trunkline_mongodb::Config::from_url(url).ok()?;
    Some(vec![("DATABASE", config.database), ("COLLECTION", config.collection), ("USER", user(url))])
}

fn rabbitmq(url: &str) -> Pairs {
    let config = trunkline_rabbitmq::Config::from_url(url).ok()?;
    Some(vec![("VHOST", config.vhost), ("USER", config.user)])
}

fn nats(url: &str) -> Pairs {
    let config = trunkline_nats::Config::from_url(url).ok()?;
    Some(vec![("PREFIX", token(&config.prefix))])
}

/// What stands before the password, or before the host.
fn user(url: &str) -> String {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let credentials = authority.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    credentials.split(':').next().unwrap_or_default().to_owned()
}

/// Whether a shell takes it as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_names_of_the_url_and_no_secret() {
        let filled = |url: &str, advice: &str| Names::of(&BrokerTarget::parse(url).unwrap()).fill(advice);
        assert_eq!(
            filled("redis://app:s@a:1?prefix=chat", "-h HOST -p PORT SETUSER USER &PREFIX*"),
            "-h a -p 1 SETUSER app &chat*"
        );
        assert_eq!(filled("redis://:s@a", "USER at HOST:PORT"), "default at a:6379");
        assert_eq!(filled("postgres://app:s@a/shop?table=x", "USER DATABASE TABLE_id_seq"), "app shop x_id_seq");
        assert_eq!(filled("mongodb://app:s@a,b/shop", "USER HOST DATABASE"), "app a shop");
        assert_eq!(filled("amqp://app:s@a", "VHOST USER"), "/ app");
        // A token is a secret, and what a shell would understand otherwise is not filled in.
        assert_eq!(filled("nats://t0ken@a", "USER PREFIX"), "USER trunkline");
        assert_eq!(filled("redis://a%20b:s@a", "USER"), "USER");
    }
}
