//! The handshake of a client, for fetched sockets.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use socketioxide::{adapter::Adapter, socket::Socket};
use trunkline_core::{Payload, Result};

/// A client's handshake as Socket.IO's documentation describes it: what other nodes, Node.js servers included, find in
/// `handshake` of a fetched socket. Set it by
/// [`NamespaceHandle::set_handshake`](crate::NamespaceHandle::set_handshake).
#[derive(Clone, Debug)]
#[must_use]
pub struct Handshake {
    headers: BTreeMap<String, String>,
    url: String,
    query: Vec<(String, String)>,
    cross_domain: bool,
    issued: Duration,
    address: String,
    secure: bool,
    auth: Option<Payload>,
}

impl Handshake {
    /// Reads headers, URL and query from the socket's request. The time is now.
    pub fn of<A: Adapter>(socket: &Socket<A>) -> Self {
        let request = socket.req_parts();
        let mut headers = BTreeMap::<_, String>::new();
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|values| *values = format!("{values}, {value}"))
                .or_insert_with(|| value.into_owned());
        }
        let query = form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self {
            cross_domain: headers.contains_key("origin"),
            headers,
            url: request.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            query,
            issued: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            address: String::new(),
            secure: false,
            auth: None,
        }
    }

    /// Sets the client's address; empty otherwise.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets whether the connection is encrypted; `false` otherwise.
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
            query: Query(&self.query),
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
    query: Query<'a>,
}

/// Serialized as a map, in the order of the URL.
struct Query<'a>(&'a [(String, String)]);

impl Serialize for Query<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

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
