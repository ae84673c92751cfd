//! NATS. The server has no commands for an administrator: it reads its configuration anew instead.

use std::{ops::Deref, time::Duration};

use async_nats::jetstream;
use futures_util::TryStreamExt;
use tokio::time::sleep;
use trunkline_brokers::Broker;

use super::{Action, Leftovers};
use crate::Failure;

/// Connections that the server takes as a rule.
const MANY: u32 = 10_000;

#[derive(Debug)]
pub(crate) struct Nats(trunkline_brokers::Nats);

impl Deref for Nats {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}

impl Nats {
    pub(super) async fn start() -> Result<Self, Failure> {
        let options = trunkline_brokers::Nats::options().monitored().configuration(&configuration(MANY));
        Ok(Self(options.start().await?))
    }

    pub(super) async fn perform(&self, action: Action) -> Result<(), Failure> {
        match action {
            Action::CloseConnections => {
                // Those beyond the limit are closed; who connects meanwhile is refused.
                self.reconfigure(1)?;
                sleep(Duration::from_millis(500)).await;
                self.reconfigure(MANY)
            }
            Action::DeleteData => self.delete_streams().await,
            Action::Fill | Action::RaiseAlarm | Action::ForbidWrites | Action::Heal => Ok(()),
        }
    }

    fn reconfigure(&self, connections: u32) -> Result<(), Failure> {
        Ok(self.0.reconfigure(&configuration(connections))?)
    }

    async fn delete_streams(&self) -> Result<(), Failure> {
        let context = jetstream::new(async_nats::connect(self.url()).await?);
        let names: Vec<String> = context.stream_names().try_collect().await?;
        for name in names {
            context.delete_stream(name).await?;
        }
        Ok(())
    }

    pub(super) async fn leftovers(&self) -> Result<Leftovers, Failure> {
        let connections = field(&self.0.page("/connz").await?, "num_connections")?;
        let consumers = field(&self.0.page("/jsz").await?, "consumers")?;
        Ok(Leftovers { connections, subscriptions: consumers })
    }
}

fn configuration(connections: u32) -> String {
    format!("max_connections: {connections}\n")
}

fn field(page: &str, name: &str) -> Result<usize, Failure> {
    let page: serde_json::Value = serde_json::from_str(page)?;
    Ok(page[name].as_u64().unwrap_or_default().try_into()?)
}
