//! What the tests share.

use std::{process::Command, time::Duration};

use trunkline_brokers::Postgres as Server;
use trunkline_conformance::{
    Setup,
    kit::{Failure, TestCluster, TestSocket, eventually},
};
use trunkline_core::{Backend, Payload, Result};
use trunkline_postgres::{Config, connect};

/// How long to wait for what has to come.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A server that a test breaks.
pub(crate) async fn server() -> Server {
    Server::start().await.unwrap()
}

/// Crashes the server and starts it again. Its processes must all have noticed the crash before the next start
/// succeeds.
pub(crate) async fn restart(server: &Server) {
    server.kill().await.unwrap();
    until("the server starts", async || server.restart().await.is_ok()).await;
}

/// Starts the server again as a standby. A primary does not become one while it runs.
pub(crate) async fn demote(server: &Server) {
    server.stop().await.unwrap();
    std::fs::write(server.folder().join("data/standby.signal"), "").unwrap();
    server.restart().await.unwrap();
}

/// `url` with more parameters.
pub(crate) fn with(url: &str, parameters: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    if parameters.is_empty() { url.to_owned() } else { format!("{url}{mark}{parameters}") }
}

/// A configuration that notices faults soon, as far as the parameters leave that open.
pub(crate) fn config(url: &str, parameters: &str) -> Config {
    let mut url = with(url, parameters);
    for quick in ["ping_interval=200ms", "ping_timeout=2s", "response_timeout=4s", "connect_timeout=2s"] {
        let (name, _) = quick.split_once('=').unwrap();
        if !url.contains(name) {
            url = with(&url, quick);
        }
    }
    Config::from_url(&url).unwrap()
}

/// A cluster that has the server for itself.
pub(crate) fn cluster(url: &str, parameters: &str) -> TestCluster {
    let (url, parameters) = (url.to_owned(), parameters.to_owned());
    TestCluster::new(&Setup::new(move |_| {
        let config = config(&url, &parameters);
        async move { connect(config).await }
    }))
}

/// A backend whose connections have a name of their own at the server.
pub(crate) async fn named(url: &str, name: &str, parameters: &str) -> Result<Backend> {
    connect(config(&with(url, &format!("application_name={name}")), parameters)).await
}

/// Ends connections at the server: those with this name whose last statement matches this. Returns how many.
pub(crate) async fn terminate(server: &Server, name: &str, statement: &str) -> usize {
    let statement = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE application_name = '{name}' AND query ~ '{statement}'"
    );
    server.sql(&statement).await.unwrap().trim().parse().unwrap()
}

/// Makes the server behave as on a full disk for a publisher of rows. Each refusal advances the sequence `refusals`.
pub(crate) async fn fill_disk(server: &Server) {
    let statements = "CREATE SEQUENCE IF NOT EXISTS refusals;
        CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM nextval('refusals'); RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON socket_io_attachments EXECUTE FUNCTION full_disk()";
    server.sql(statements).await.unwrap();
}

/// Ends what [`fill_disk`] began.
pub(crate) async fn free_disk(server: &Server) {
    server.sql("DROP TRIGGER full_disk ON socket_io_attachments").await.unwrap();
}

/// What the listening connection did last.
pub(crate) const LISTENS: &str = "^LISTEN|trunkline-probe";

/// What the publishing connection may have done last.
pub(crate) const PUBLISHES: &str = "last_statement|publishing";

/// What the connection for queries may have done last.
pub(crate) const QUERIES: &str = "^SELECT payload|querying";

/// Stops the server's process of the connection with this name whose last statement matches this: it is half-open.
pub(crate) async fn stop_process(server: &Server, name: &str, statement: &str) -> StoppedProcess {
    let pids = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND query ~ '{statement}'");
    until("there is the process", async || server.sql(&pids).await.unwrap().trim().parse::<u32>().is_ok()).await;
    let pid = server.sql(&pids).await.unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    StoppedProcess(pid)
}

/// A process that goes on when this is dropped.
pub(crate) struct StoppedProcess(String);

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0]).status();
    }
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    eventually(TIMEOUT, || what.into(), condition).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// An event with a number, and text of this size.
pub(crate) fn numbered(number: usize, bytes: usize) -> Payload {
    Payload::event("n", &(number, "x".repeat(bytes))).unwrap()
}

/// The numbers that a client got so far.
pub(crate) fn numbers(socket: &TestSocket) -> Vec<usize> {
    socket.packets().iter().map(|packet| packet.payload.arguments::<(usize, String)>().unwrap().0).collect()
}

/// Waits for so many packets, and checks that they are numbered without holes, repeats or disorder.
pub(crate) async fn expect_numbers(socket: &TestSocket, count: usize) -> Result<(), Failure> {
    socket.wait_for(count).await?;
    let numbers = numbers(socket);
    let first_wrong = numbers.iter().enumerate().find(|(index, number)| index != *number);
    assert_eq!((numbers.len(), first_wrong), (count, None));
    Ok(())
}
