//! URL parameters, and URLs without their secrets. Every backend reads its URL with these, so that errors look alike.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use strsim::osa_distance;

use crate::rooms::Buckets;
use trunkline_core::error::{Error, ErrorKind, Result};

/// Parameters of a URL's query. Each is taken once by name; [`Params::finish`] refuses those that were not.
///
/// ```
/// use std::time::Duration;
/// use trunkline_backend::url::Params;
///
/// let mut params = Params::parse("session_ttl=2m&history=on");
/// assert_eq!(params.take("history")?, Some(true));
/// assert_eq!(params.take("session_ttl")?, Some(Duration::from_secs(120)));
/// params.finish()?;
/// # Ok::<(), trunkline_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    elsewhere: Vec<(&'static str, &'static str)>,
}

impl Params {
    /// Splits and percent-decodes a query, without its `?`.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect(), ..Self::default() }
    }

    /// Accepts former names of parameters, each given with today's. To be called before anything is taken.
    #[must_use]
    pub fn with_aliases(mut self, aliases: &[(&str, &str)]) -> Self {
        for (name, _) in &mut self.pairs {
            if let Some((_, today)) = aliases.iter().find(|(former, _)| *former == name.as_str()) {
                *name = (*today).to_owned();
            }
        }
        self
    }

    /// Value of a parameter; `None` if it is not given.
    ///
    /// # Errors
    /// `Config` if it is given twice, or its value is none of the type; names the value and what is allowed.
    pub fn take<T: ParamValue>(&mut self, name: &'static str) -> Result<Option<T>> {
        let Some(value) = self.take_text(name)? else { return Ok(None) };
        T::parse(&value).map(Some).ok_or_else(|| ill_typed(name, &value, T::EXPECTED))
    }

    /// Takes a parameter into a field, which stays as it is without it.
    ///
    /// # Errors
    /// As [`Params::take`].
    pub fn read<T: ParamValue>(&mut self, name: &'static str, field: &mut T) -> Result<()> {
        if let Some(value) = self.take(name)? {
            *field = value;
        }
        Ok(())
    }

    /// As [`Params::read`], for a number of [`ByteSize`].
    ///
    /// # Errors
    /// As [`Params::take`].
    pub fn read_bytes(&mut self, name: &'static str, field: &mut usize) -> Result<()> {
        let mut bytes = ByteSize(*field);
        self.read(name, &mut bytes)?;
        *field = bytes.0;
        Ok(())
    }

    /// Takes two files that need each other: a certificate and its key.
    ///
    /// # Errors
    /// `Config` if only one of them is there, or one of them twice.
    pub fn take_files(&mut self, first: &'static str, second: &'static str) -> Result<Option<(PathBuf, PathBuf)>> {
        match (self.take::<String>(first)?, self.take::<String>(second)?) {
            (Some(first), Some(second)) => Ok(Some((first.into(), second.into()))),
            (None, None) => Ok(None),
            _ => Err(Error::new(ErrorKind::Config, format!("{first} and {second} go together"))),
        }
    }

    /// Value of a parameter that is one of several words; `None` if it is not given.
    ///
    /// # Errors
    /// `Config` if it is given twice, or is none of them.
    pub fn take_word<T: Copy>(&mut self, name: &'static str, words: &[(&'static str, T)]) -> Result<Option<T>> {
        let Some(value) = self.take_text(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let hint = did_you_mean(&value, words.iter().copied());
                Err(ill_typed(name, &value, &format!("one of {}{hint}", words.join(", "))))
            }
        }
    }

    /// Names parameters that belong to another mode, so that [`Params::finish`] can say to which: `mode` is what has to be
    /// in the URL for them.
    #[must_use]
    pub fn with_other_mode(mut self, mode: &'static str, names: &[&'static str]) -> Self {
        self.elsewhere.extend(names.iter().map(|name| (*name, mode)));
        self
    }

    /// Takes `history`, where nothing can switch the history off.
    ///
    /// # Errors
    /// `Config` if it is `off`; as [`Params::take`].
    pub fn take_lasting_history(&mut self) -> Result<()> {
        match self.take("history")? {
            Some(false) => {
                let context = "parameter \"history\" is off; here the history is always on, and can be left unused";
                Err(Error::new(ErrorKind::Config, context))
            }
            Some(true) | None => Ok(()),
        }
    }

    /// Refuses parameters that were not taken.
    ///
    /// # Errors
    /// `Config`, naming the first one, what it may have been meant to be, and all that could have been taken.
    pub fn finish(mut self) -> Result<()> {
        let Some((name, _)) = self.pairs.first() else { return Ok(()) };
        self.known.sort_unstable();
        let allowed = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        let modes = self.elsewhere.iter().filter(|(other, _)| other == name).map(|(_, mode)| *mode);
        let modes: Vec<_> = modes.collect();
        let hint = match modes.is_empty() {
            true => did_you_mean(name, self.known.iter().copied().chain(self.elsewhere.iter().map(|(name, _)| *name))),
            false => format!("; it is one of {}", modes.join(" and ")),
        };
        Err(Error::new(ErrorKind::Config, format!("unknown parameter {name:?}{hint}; allowed are {allowed}")))
    }

    fn take_text(&mut self, name: &'static str) -> Result<Option<String>> {
        self.known.push(name);
        let mut values = self.pairs.extract_if(.., |(pair, _)| pair == name).map(|(_, value)| value);
        let value = values.next();
        if values.next().is_some() {
            return Err(Error::new(ErrorKind::Config, format!("parameter {name:?} is given more than once")));
        }
        Ok(value)
    }
}

/// `; did you mean "…"?` with the candidate that is nearest to what was written; nothing if none is near.
#[must_use]
pub fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // Up to a third may be wrong: in what is shorter, anything is near to something.
    let limit = (written.chars().count() / 3).min(2);
    let distance = |candidate: &str| osa_distance(&written.to_lowercase(), &candidate.to_lowercase());
    let distances = candidates.into_iter().map(|candidate| (distance(candidate), candidate));
    let nearest = distances.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance);
    nearest.map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate:?}?"))
}

fn ill_typed(name: &str, value: &str, expected: &str) -> Error {
    Error::new(ErrorKind::Config, format!("parameter {name:?} is {value:?}; allowed is {expected}"))
}

/// Type of a URL parameter.
pub trait ParamValue: Sized {
    /// What is allowed, for error messages.
    const EXPECTED: &'static str;

    /// The value of a text; `None` if it is none.
    fn parse(text: &str) -> Option<Self>;
}

impl ParamValue for bool {
    const EXPECTED: &'static str = "on or off";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        }
    }
}

impl ParamValue for String {
    const EXPECTED: &'static str = "text that is not empty";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }
}

macro_rules! whole_numbers {
    ($($type:ty: $expected:literal),*) => {$(
        impl ParamValue for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

whole_numbers! {
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    u64: "a whole number",
    usize: "a whole number"
}

impl ParamValue for Duration {
    const EXPECTED: &'static str = "a time such as 500ms, 10s, 2m or 1h, up to ten years";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let time = match unit {
            "ms" => Self::from_millis(number),
            "s" => Self::from_secs(number),
            "m" => Self::from_secs(number.checked_mul(60)?),
            "h" => Self::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        (time <= LONGEST).then_some(time)
    }
}

/// Longest duration that is accepted, ten years: what is longer is a mistake, and too much for some clocks and brokers.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl ParamValue for ByteSize {
    const EXPECTED: &'static str = "a size such as 4096, 512KiB or 64MiB";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        usize::try_from(number.checked_mul(factor)?).ok().map(Self)
    }
}

/// Addresses by which servers know each other, each with the one by which they are reached from here: behind NAT, or
/// through a tunnel. `SAID=REACHED,SAID=REACHED` in a URL, each a `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMap(Vec<(String, String)>);

impl AddressMap {
    /// The address by which `said` is reached; itself if it is not in the map.
    #[must_use]
    pub fn reached<'a>(&'a self, said: &'a str) -> &'a str {
        self.0.iter().find(|(name, _)| name == said).map_or(said, |(_, reached)| reached)
    }
}

impl ParamValue for AddressMap {
    const EXPECTED: &'static str = "a list such as 10.0.0.1:6379=example.com:7001,10.0.0.2:6379=example.com:7002";

    fn parse(text: &str) -> Option<Self> {
        /// There is no default: ports are what differs.
        const NO_PORT: u16 = 0;
        let address = |text: &str| host_and_port(text, NO_PORT).filter(|address| !address.ends_with(":0"));
        let pair = |pair: &str| {
            let (said, reached) = pair.split_once('=')?;
            Some((address(said)?, address(reached)?))
        };
        text.split(',').map(pair).collect::<Option<_>>().map(Self)
    }
}

impl ParamValue for Buckets {
    const EXPECTED: &'static str = "a whole number from 1 to 1023";

    fn parse(text: &str) -> Option<Self> {
        Self::new(text.parse().ok()?).ok()
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

/// The `host:port` of an address, with the default port if it names none; `None` if it is no address. An IPv6 address
/// stands in brackets.
#[must_use]
pub fn host_and_port(address: &str, default_port: u16) -> Option<String> {
    let (host, port) = match address.rsplit_once(':') {
        // The colons of a bare IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (address, default_port),
    };
    let is_plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@:[]".contains(&byte));
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_ipv6 = in_brackets.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    (is_plain || is_ipv6).then(|| format!("{host}:{port}"))
}

/// The URL with `***` in place of its password, for messages. Works on any text: what follows a scheme and stands
/// before the last `@` of the authority is taken for credentials. A password in the query is hidden too.
#[must_use]
pub fn redact(url: &str) -> String {
    let (before_query, query) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    let mut redacted = redact_authority(before_query);
    if let Some(query) = query {
        redacted.push('?');
        redacted.push_str(&redact_query(query));
    }
    redacted
}

fn redact_authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A raw password may itself contain a slash or an at sign: everything up to the last at sign is suspect.
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            match credentials.split_once(':') {
                Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
                // By the convention of NATS, a name without a password is a token.
                None if matches!(scheme, "nats" | "tls") => format!("{scheme}://***@{host}"),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    }
}

fn redact_query(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 5] = ["pass", "secret", "token", "credential", "authmechanismproperties"];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_name_of_a_parameter_is_accepted_beside_no_other() {
        let params = |query| Params::parse(query).with_aliases(&[("outbox_patience", "push_timeout")]);
        for query in ["outbox_patience=2s", "push_timeout=2s"] {
            assert_eq!(params(query).take("push_timeout").unwrap(), Some(Duration::from_secs(2)), "{query}");
        }
        let error = params("outbox_patience=2s&push_timeout=3s").take::<Duration>("push_timeout").unwrap_err();
        assert!(error.to_string().contains("push_timeout"), "{error}");
    }

    #[test]
    fn an_unknown_parameter_is_named_with_what_is_allowed() {
        let mut query = Params::parse("histroy=on");
        assert_eq!(query.take::<bool>("history").unwrap(), None);
        assert_eq!(query.take::<usize>("buffer").unwrap(), None);
        let error = query.finish().unwrap_err().to_string();
        assert!(error.contains("\"histroy\"") && error.contains("buffer, history"), "{error}");
    }

    #[test]
    fn a_near_miss_is_recognised() {
        let known = ["redis", "rediss", "history", "mode"];
        for (written, meant) in [("reids", "redis"), ("Redis", "redis"), ("redisss", "rediss"), ("histroy", "history")]
        {
            assert_eq!(did_you_mean(written, known), format!("; did you mean {meant:?}?"));
        }
        for written in ["http", "db", "", "ttl"] {
            assert_eq!(did_you_mean(written, known), "", "{written}");
        }
    }

    #[test]
    fn a_parameter_of_another_mode_is_said_to_be_one() {
        let params = Params::parse("stream=x").with_other_mode("mode=streams", &["stream", "history"]);
        let error = params.finish().unwrap_err().to_string();
        assert!(error.contains("\"stream\"; it is one of mode=streams"), "{error}");
        let mut params = Params::parse("history=on&history=on");
        assert!(params.take_lasting_history().unwrap_err().to_string().contains("more than once"));
        assert!(Params::parse("history=on").take_lasting_history().is_ok());
        assert!(Params::parse("history=off").take_lasting_history().unwrap_err().to_string().contains("always on"));
    }

    #[test]
    fn an_ill_typed_parameter_is_named_with_its_value_and_type() {
        let error = Params::parse("ttl=5x").take::<Duration>("ttl").unwrap_err().to_string();
        assert!(error.contains("\"ttl\"") && error.contains("\"5x\"") && error.contains("10s"), "{error}");
        let words = [("a", 1), ("b", 2)];
        let error = Params::parse("mode=c").take_word("mode", &words).unwrap_err().to_string();
        assert!(error.contains("one of a, b"), "{error}");
        assert_eq!(Params::parse("mode=b").take_word("mode", &words).unwrap(), Some(2));
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let error = Params::parse("a=1&a=2").take::<usize>("a").unwrap_err().to_string();
        assert!(error.contains("more than once"), "{error}");
    }

    #[test]
    fn addresses_are_mapped() {
        let map = AddressMap::parse("10.0.0.1:1=h:2,[::1]:3=h:4").unwrap();
        assert_eq!((map.reached("10.0.0.1:1"), map.reached("[::1]:3"), map.reached("h:9")), ("h:2", "h:4", "h:9"));
        for wrong in ["", "a:1", "a=b", "a:1=b"] {
            assert_eq!(AddressMap::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(Duration::parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(Duration::parse("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(Duration::parse("7"), None, "a time needs a unit");
        assert_eq!(Duration::parse("18446744073709551615s"), None, "no clock goes that far");
        assert_eq!(ByteSize::parse("64MiB"), Some(ByteSize(64 << 20)));
        assert_eq!(ByteSize::parse("99999999999999GiB"), None);
        assert_eq!(ByteSize::parse("MiB"), None);
    }

    #[test]
    fn a_field_keeps_its_value_unless_the_query_has_one() {
        let mut query = Params::parse("a=1s&b=4KiB&buckets=16");
        let (mut a, mut b, mut c, mut buckets) = (Duration::ZERO, 1, 2, Buckets::DEFAULT);
        query.read("a", &mut a).unwrap();
        query.read_bytes("b", &mut b).unwrap();
        query.read_bytes("c", &mut c).unwrap();
        query.read("buckets", &mut buckets).unwrap();
        assert_eq!((a, b, c, buckets.count()), (Duration::from_secs(1), 4096, 2, 16));
        let error = Params::parse("buckets=1024").read("buckets", &mut buckets).unwrap_err().to_string();
        assert!(error.contains("1 to 1023"), "{error}");
    }

    #[test]
    fn a_certificate_and_its_key_go_together() {
        let take = |query: &str| Params::parse(query).take_files("cert", "key");
        assert_eq!(take("cert=a&key=b").unwrap(), Some(("a".into(), "b".into())));
        assert_eq!(take("").unwrap(), None);
        let error = take("key=b").unwrap_err().to_string();
        assert!(error.contains("cert and key go together"), "{error}");
    }

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
        let address = |text| host_and_port(text, 7);
        assert_eq!(address("a:1").as_deref(), Some("a:1"));
        assert_eq!(address("a.b").as_deref(), Some("a.b:7"));
        assert_eq!(address("[::1]").as_deref(), Some("[::1]:7"));
        assert_eq!(address("[::1]:1").as_deref(), Some("[::1]:1"));
        for wrong in ["", ":1", "a:port", "a:65536", "::1", "[a]", "a/b", "a b", "u@a"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redact("redis://app:s3cret@host:1/0"), "redis://app:***@host:1/0");
        assert_eq!(redact("redis://app:p@ss/w@host?a=b"), "redis://app:***@host?a=b");
        assert_eq!(redact("nats://host?token=abc&x=1"), "nats://host?token=***&x=1");
        assert_eq!(
            redact("redis+unix:///s?pass=a&sentinel_password=b&db=1"),
            "redis+unix:///s?pass=***&sentinel_password=***&db=1"
        );
        assert_eq!(redact("memory://name"), "memory://name");
        assert_eq!(redact("redis://user@host"), "redis://user@host");
        assert_eq!(redact("nats://token@host"), "nats://***@host");
    }
}
