//! PostgreSQL.

use trunkline_brokers::Postgres;

use super::{Action, Leftovers};
use crate::Failure;

const CLIENTS: &str = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

pub(super) async fn perform(server: &Postgres, action: Action) -> Result<(), Failure> {
    let statements: &[&str] = match action {
        Action::CloseConnections => &[&format!("SELECT pg_terminate_backend(pid) {CLIENTS}")],
        Action::ForbidWrites => &["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
        Action::DeleteData => &["DROP SCHEMA public CASCADE; CREATE SCHEMA public"],
        Action::Fill | Action::RaiseAlarm => &[],
        Action::Heal => &["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
    };
    for statement in statements {
        server.sql(statement).await?;
    }
    Ok(())
}

pub(super) async fn leftovers(server: &Postgres) -> Result<Leftovers, Failure> {
    let connections = server.sql(&format!("SELECT count(*) {CLIENTS}")).await?.parse()?;
    Ok(Leftovers { connections, subscriptions: 0 })
}
