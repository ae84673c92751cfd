//! The handshake of a client, for fetched sockets.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{Extensions, HeaderMap};
use serde::{Serialize, Serializer};
use socketioxide::{adapter::Adapter, socket::Socket};
use trunkline_core::{Payload, Result};

/// A client's handshake as Socket.IO's documentation describes it: what other nodes, Node.js servers included, find in
/// `handshake` of a fetched socket. After [`Cluster::attach`](crate::Cluster::attach) they find that of the socket's
/// request; [`NamespaceHandle::set_handshake`](crate::NamespaceHandle::set_handshake) sets another.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Handshake {
    headers: BTreeMap<String, String>,
    url: String,
    query: Query,
    cross_domain: bool,
    issued: Duration,
    address: String,
    secure: bool,
    auth: Option<Payload>,
}

impl Handshake {
    /// Reads headers, URL, query and address from the socket's request. The time is now.
    ///
    /// The address is known if the request has it as an extension: as `SocketAddr`, or with the feature `axum` as what
    /// `into_make_service_with_connect_info` adds. Of headers, the first 16 KiB count, which is all that a Node.js server
    /// accepts.
    pub fn of<A: Adapter>(socket: &Socket<A>) -> Self {
        let request = socket.req_parts();
        let headers = headers(&request.headers);
        Self {
            cross_domain: headers.contains_key("origin"),
            headers,
            url: request.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            query: query(request.uri.query().unwrap_or_default()),
            address: address(&request.extensions).map(|address| address.to_string()).unwrap_or_default(),
            secure: request.uri.scheme_str() == Some("https"),
            ..Self::unknown()
        }
    }

    /// Of a client of which nothing is known. The time is now.
    pub(crate) fn unknown() -> Self {
        Self { issued: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), ..Self::default() }
    }

    /// Sets the client's address, in place of that of the request.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets whether the connection is encrypted, in place of what the request says, which is `false` where something else
    /// ends TLS.
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Sets the `auth` object of the client, without what other nodes must not see.
    ///
    /// # Errors
    /// `Malformed` if it cannot be encoded.
    pub fn auth<T: Serialize + ?Sized>(mut self, auth: &T) -> Result<Self> {
        self.auth = Some(Payload::value(auth)?);
        Ok(self)
    }

    /// The object, with its keys in the order of the Node.js server.
    pub(crate) fn payload(&self) -> Result<Payload> {
        let fields = Fields {
            headers: &self.headers,
            time: js_date(self.issued.as_secs()),
            address: &self.address,
            xdomain: self.cross_domain,
            secure: self.secure,
            issued: u64::try_from(self.issued.as_millis()).unwrap_or(u64::MAX),
            url: &self.url,
            query: &self.query,
        };
        let head = Payload::value(&fields)?.to_json();
        let auth = self.auth.as_ref().map_or_else(|| "{}".into(), Payload::to_json_plain);
        let fields = head.text.strip_suffix('}').unwrap_or(&head.text);
        Ok(Payload::from_trusted_json(format!("{fields},\"auth\":{auth}}}"), Vec::new()))
    }
}

#[derive(Serialize)]
struct Fields<'a> {
    headers: &'a BTreeMap<String, String>,
    time: String,
    address: &'a str,
    xdomain: bool,
    secure: bool,
    issued: u64,
    url: &'a str,
    #[serde(serialize_with = "as_map")]
    query: &'a Query,
}

fn as_map<S: Serializer>(query: &Query, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(query.iter().map(|(name, value)| (name, value)))
}

/// Header fields by name; several of one name are one list, as HTTP has it.
fn headers(fields: &HeaderMap) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::<_, String>::new();
    let mut bytes = 0;
    for (name, value) in fields {
        bytes += name.as_str().len() + value.len();
        if bytes > MAX_HEADER_BYTES {
            break;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|values| *values = format!("{values}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    headers
}

/// The parameters of a URL in their order. One that is repeated is an array, as on Node.js servers.
type Query = Vec<(String, Parameter)>;

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Parameter {
    One(String),
    Several(Vec<String>),
}

fn query(text: &str) -> Query {
    let mut query = Query::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()).into_owned() {
        match query.iter_mut().find(|(other, _)| *other == name) {
            None => query.push((name, Parameter::One(value))),
            Some((_, Parameter::Several(values))) => values.push(value),
            Some((_, parameter @ Parameter::One(_))) => {
                let Parameter::One(first) = std::mem::replace(parameter, Parameter::Several(Vec::new())) else {
                    continue;
                };
                *parameter = Parameter::Several(vec![first, value]);
            }
        }
    }
    query
}

fn address(extensions: &Extensions) -> Option<IpAddr> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(address)) = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>() {
        return Some(address.ip());
    }
    extensions.get::<SocketAddr>().map(SocketAddr::ip)
}

/// What Node.js servers accept by default.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A moment as JavaScript prints it in UTC: `Fri Nov 20 2026 22:47:45 GMT+0000 (Coordinated Universal Time)`.
fn js_date(seconds: u64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = WEEKDAYS[(days % 7) as usize];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{weekday} {} {day:02} {year} ", MONTHS[month]);
    // Writing to text does not fail.
    let _ = write!(text, "{hour:02}:{minute:02}:{second:02} GMT+0000 (Coordinated Universal Time)");
    text
}

/// Year, month from 0, and day of the month, for days since 1970-01-01 in the Gregorian calendar.
fn civil(days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970 + days / 146_097 * 400;
    let mut day = days % 146_097;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_parameter_is_an_array() {
        let query = serde_json::to_value(Shown(&query("a=1&b=%C3%A4&a=2&a=3"))).unwrap();
        assert_eq!(query, serde_json::json!({ "a": ["1", "2", "3"], "b": "ä" }));
    }

    #[derive(Serialize)]
    struct Shown<'a>(#[serde(serialize_with = "as_map")] &'a Query);

    #[test]
    fn headers_are_bounded() {
        let mut fields = HeaderMap::new();
        fields.append("a", http::HeaderValue::from_static("1"));
        fields.append("a", http::HeaderValue::from_static("2"));
        fields.insert("b", "x".repeat(MAX_HEADER_BYTES).parse().unwrap());
        assert_eq!(headers(&fields), BTreeMap::from([("a".to_owned(), "1, 2".to_owned())]));
    }

    #[test]
    fn dates_look_as_in_javascript() {
        let known = [
            (0, "Thu Jan 01 1970 00:00:00"),
            (951_782_400, "Tue Feb 29 2000 00:00:00"),
            (1_795_214_865, "Fri Nov 20 2026 22:47:45"),
            (4_107_542_399, "Sun Feb 28 2100 23:59:59"),
            (4_107_542_400, "Mon Mar 01 2100 00:00:00"),
        ];
        for (seconds, text) in known {
            assert_eq!(js_date(seconds), format!("{text} GMT+0000 (Coordinated Universal Time)"));
        }
    }
}
