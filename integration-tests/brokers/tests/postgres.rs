//! Private PostgreSQL servers.

use std::time::Duration;

use tokio::time::timeout;
use trunkline_brokers::Postgres;

#[tokio::test]
async fn it_comes_back_on_the_same_port_with_its_data() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.url().to_owned();
    postgres.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)").await.unwrap();
    postgres.kill().await.unwrap();
    assert!(postgres.sql("SELECT 1").await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(postgres.url(), url);
    assert_eq!(postgres.sql("SELECT n FROM t ORDER BY n").await.unwrap(), "1\n2");
    postgres.stop().await.unwrap();
    assert_eq!(postgres.pid(), None);
}

#[tokio::test]
async fn a_frozen_server_serves_no_connection() {
    let postgres = Postgres::start().await.unwrap();
    let mut sleeping = Box::pin(postgres.sql("SELECT pg_sleep(1)"));
    let served = async {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1)'";
        while postgres.sql(query).await.unwrap() != "1" {}
    };
    tokio::select! {
        () = served => {}
        _ = &mut sleeping => panic!("the query ended before it was seen"),
    }
    postgres.freeze().unwrap();
    assert!(timeout(Duration::from_millis(1_500), &mut sleeping).await.is_err());
    postgres.thaw().unwrap();
    sleeping.await.unwrap();
}

#[tokio::test]
async fn it_can_have_a_password_and_tls() {
    let postgres = Postgres::options().user("app", "s3cret").tls().start().await.unwrap();
    assert_eq!(postgres.url(), format!("postgres://app:s3cret@localhost:{}/postgres", postgres.port()));
    let used = postgres.sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await.unwrap();
    assert_eq!(used, "t");
}
