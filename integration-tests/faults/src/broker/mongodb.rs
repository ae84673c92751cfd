//! MongoDB. Fail points of the server stand for a full disk and for an administrator.

use std::{ops::Deref, time::Duration};

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use tokio::time::sleep;
use trunkline_brokers::Broker;

use super::{Action, Leftovers};
use crate::Failure;

/// The server's error code of a full disk.
const OUT_OF_DISK_SPACE: i32 = 14_031;

#[derive(Debug)]
pub(crate) struct MongoDb {
    server: trunkline_brokers::MongoDb,
    client: Client,
    admin: Database,
}

impl Deref for MongoDb {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.server
    }
}

impl MongoDb {
    pub(super) async fn start() -> Result<Self, Failure> {
        let options = trunkline_brokers::MongoDb::options().arguments(&["--setParameter", "enableTestCommands=1"]);
        let server = options.start().await?;
        let url = format!("{}&directConnection=true&appName=faults", server.url());
        let client = Client::with_uri_str(url).await?;
        let admin = client.database("admin");
        Ok(Self { server, client, admin })
    }

    pub(super) async fn perform(&self, action: Action) -> Result<(), Failure> {
        match action {
            Action::CloseConnections => {
                let commands = ["insert", "aggregate", "getMore", "ping"];
                self.fail(doc! { "closeConnection": true, "failCommands": commands.to_vec() }).await?;
                sleep(Duration::from_secs(1)).await;
                self.heal().await
            }
            Action::Fill => self.fail(doc! { "errorCode": OUT_OF_DISK_SPACE, "failCommands": ["insert"] }).await,
            // It is a secondary for so many seconds.
            Action::ForbidWrites => self.run(doc! { "replSetStepDown": 5, "force": true }).await,
            Action::DeleteData => self.delete().await,
            Action::RaiseAlarm => Ok(()),
            Action::Heal => {
                self.heal().await?;
                Ok(self.server.ready().await?)
            }
        }
    }

    async fn fail(&self, data: Document) -> Result<(), Failure> {
        self.run(doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data }).await
    }

    async fn heal(&self) -> Result<(), Failure> {
        self.run(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await
    }

    async fn delete(&self) -> Result<(), Failure> {
        let names = self.client.list_database_names().await?;
        for name in names.iter().filter(|name| !["admin", "config", "local"].contains(&name.as_str())) {
            self.client.database(name).drop().await?;
        }
        Ok(())
    }

    async fn run(&self, command: Document) -> Result<(), Failure> {
        self.admin.run_command(command).await?;
        Ok(())
    }

    pub(super) async fn leftovers(&self) -> Result<Leftovers, Failure> {
        // The server has connections to itself, and the administrator has some.
        let of_nodes =
            doc! { "appName": { "$ne": "faults" }, "clientMetadata.driver.name": { "$regex": "^mongo-rust" } };
        let every = doc! { "$currentOp": { "allUsers": true, "idleConnections": true } };
        let pipeline = vec![every, doc! { "$match": of_nodes }];
        let mut found = self.admin.aggregate(pipeline).await?;
        let mut connections = 0;
        while found.advance().await? {
            connections += 1;
        }
        Ok(Leftovers { connections, subscriptions: 0 })
    }
}
