//! Private NATS servers.

use trunkline_brokers::{ClientCertificate, Nats, NatsCluster};

#[tokio::test]
async fn it_comes_back_on_the_same_port() {
    let nats = Nats::start().await.unwrap();
    let url = nats.url().to_owned();
    nats.kill().await.unwrap();
    nats.restart().await.unwrap();
    assert_eq!(nats.url(), url);
    nats.freeze().unwrap();
    nats.thaw().unwrap();
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn it_can_have_users_tokens_and_tls() {
    let nats = Nats::options().user("app", "s3cret").tls(ClientCertificate::Required).start().await.unwrap();
    assert_eq!(nats.url(), format!("tls://app:s3cret@localhost:{}", nats.port()));
    assert!(nats.certificates().is_some_and(|tls| tls.client_key().is_file()));
    let nats = Nats::options().token("t0ken").start().await.unwrap();
    assert_eq!(nats.url(), format!("nats://t0ken@127.0.0.1:{}", nats.port()));
}

#[tokio::test]
async fn a_cluster_is_whole_again_after_a_crash() {
    let cluster = NatsCluster::start().await.unwrap();
    assert_eq!(cluster.url().split(',').count(), 3);
    cluster.nodes()[1].kill().await.unwrap();
    cluster.nodes()[1].restart().await.unwrap();
    cluster.ready().await.unwrap();
}

#[tokio::test]
async fn a_server_that_reads_its_configuration_anew_keeps_jetstream() {
    let nats = Nats::options().monitored().configuration("max_connections: 10\n").start().await.unwrap();
    for connections in [1, 10] {
        nats.reconfigure(&format!("max_connections: {connections}\n")).unwrap();
        while !nats.page("/varz").await.unwrap().contains(&format!("\"max_connections\": {connections},")) {
            tokio::task::yield_now().await;
        }
        assert!(!nats.page("/jsz").await.unwrap().contains("\"disabled\": true"));
    }
}
