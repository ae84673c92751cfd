//! Names of tables.

use std::fmt;

use trunkline_backend::url::ParamValue;
use trunkline_core::{Error, ErrorKind, Result};

/// Name of a table, with or without its schema: `socket_io_attachments`, `app.socket_io_attachments`.
///
/// The official adapter puts the name into its SQL as it is, where PostgreSQL folds it to lower case. So does this
/// type, and quotes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(String);

impl Table {
    /// The table of this name.
    ///
    /// # Errors `Config` if it consists of anything but letters, digits, `_` and `$`, with at most one dot between, or
    /// of parts above 63 bytes.
    pub fn new(name: &str) -> Result<Self> {
        <Self as ParamValue>::parse(name)
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("table {name:?}; allowed is {}", Self::EXPECTED)))
    }

    pub(crate) fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name as an identifier in SQL.
    pub(crate) fn quoted(&self) -> String {
        let parts: Vec<_> = self.0.split('.').map(|part| format!("\"{part}\"")).collect();
        parts.join(".")
    }

    /// Key of the advisory lock that belongs to this table, the same on every node.
    pub(crate) fn lock_key(&self) -> i64 {
        crate::channel::hash(&format!("trunkline:{}", self.0)).cast_signed()
    }
}

impl ParamValue for Table {
    const EXPECTED: &'static str = "a table such as events or app.events, of letters, digits, _ and $";

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('.').collect();
        (parts.len() <= 2 && parts.iter().all(|part| is_identifier(part))).then(|| Self(text.to_ascii_lowercase()))
    }
}

fn is_identifier(part: &str) -> bool {
    let inside = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '$';
    part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && part.len() <= 63
        && part.chars().all(inside)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_and_quoted() {
        assert_eq!(Table::new("App.Socket_IO").unwrap().quoted(), "\"app\".\"socket_io\"");
        assert_eq!(Table::new("table").unwrap().quoted(), "\"table\"");
    }

    #[test]
    fn what_could_be_sql_is_refused() {
        for name in ["", "a b", "a\"b", "a;drop table b", "a.b.c", ".a", "1a", "é"] {
            assert!(Table::new(name).is_err(), "{name:?}");
        }
    }
}
