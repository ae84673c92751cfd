//! The tables: created by one node at a time, or by hand.

use tokio_postgres::types::Type;
use trunkline_backend::ConnectFailure;
use trunkline_core::{Error, ErrorKind, Result};

use super::PgConnection;
use crate::{SCHEMA, config::Config, error::Failure, query::Values, table::Table};

/// Marks the part of the schema that only a history needs.
const HISTORY: &str = "-- history:";

/// Creates the tables that are missing, or names the first one that is, or that the user may not use.
pub(crate) async fn prepare(connection: &mut PgConnection, config: &Config) -> Result<()> {
    let failed = |failure: Failure| failure.into_error("look for tables");
    let Some(name) = missing(connection, config).await.map_err(failed)? else {
        let Some(name) = forbidden(connection, config).await.map_err(failed)? else { return Ok(()) };
        let reason = format!("permission denied: SELECT and INSERT on table {name}");
        return Err(ConnectFailure::Rights.at("the server").with_source(reason));
    };
    if !config.create_tables {
        let context =
            format!("table {name} does not exist and create_tables is off: run schema.sql of trunkline-postgres");
        return Err(Error::new(ErrorKind::Config, context));
    }
    let created = connection.execute(&script(config)).await;
    created.map_err(|failure| failure.into_error(format!("create table {name}")))
}

/// The first table that does not exist. Looked for before creating: a user who may not create tables may well use
/// existing ones.
async fn missing(connection: &mut PgConnection, config: &Config) -> Result<Option<Table>, Failure> {
    first_table(connection, config, "SELECT to_regclass($1) IS NULL").await
}

/// The first table that the user may not read and write.
async fn forbidden(connection: &mut PgConnection, config: &Config) -> Result<Option<Table>, Failure> {
    let query = "SELECT NOT (has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'INSERT'))";
    first_table(connection, config, query).await
}

/// The first table for which a query is true.
async fn first_table(
    PgConnection { client, driver }: &mut PgConnection,
    config: &Config,
    query: &str,
) -> Result<Option<Table>, Failure> {
    for table in config.tables() {
        let name = table.quoted();
        let values: Values<'_> = &[(&name, Type::TEXT)];
        let row = driver.drive(client.query_typed_one(query, values)).await?;
        if row.try_get(0)? {
            return Ok(Some(table.clone()));
        }
    }
    Ok(None)
}

/// The statements, for one node after the other: `IF NOT EXISTS` alone fails when two create a table at the same
/// moment.
fn script(config: &Config) -> String {
    let (attachments, history) = SCHEMA.split_once(HISTORY).unwrap_or((SCHEMA, ""));
    let mut statements = attachments.replace("socket_io_attachments", &config.attachments.quoted());
    if let Some(tables) = &config.history {
        statements += "--";
        statements += &history
            .replace("socket_io_events", &tables.events.quoted())
            .replace("socket_io_sessions", &tables.sessions.quoted());
    }
    let lock = config.attachments.lock_key();
    format!("BEGIN; SELECT pg_advisory_xact_lock({lock}); {statements}; COMMIT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HistoryConfig;

    fn config() -> Config {
        Config::from_url("postgres://localhost?table=app.attachments").unwrap()
    }

    #[test]
    fn the_tables_of_a_history_are_created_only_with_history() {
        let without = script(&config());
        assert!(without.contains("\"app\".\"attachments\""), "{without}");
        assert!(!without.contains("socket_io_events"), "{without}");
        let with = script(&Config { history: Some(HistoryConfig::default()), ..config() });
        assert!(with.contains("pg_get_serial_sequence('\"socket_io_events\"', 'id')"), "{with}");
        assert!(with.contains("\"socket_io_sessions\""), "{with}");
    }
}
