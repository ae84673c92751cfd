//! Private MongoDB servers.

use trunkline_brokers::{ClientCertificate, MongoDb};

#[tokio::test]
async fn it_is_primary_again_after_a_crash() {
    let mongodb = MongoDb::start().await.unwrap();
    assert_eq!(mongodb.url(), format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", mongodb.port()));
    mongodb.kill().await.unwrap();
    mongodb.restart().await.unwrap();
    mongodb.stop().await.unwrap();
}

#[tokio::test]
async fn it_can_have_a_user_and_tls() {
    let options = MongoDb::options().user("app", "s3cret").tls(ClientCertificate::Required);
    let mongodb = options.start().await.unwrap();
    assert!(mongodb.certificates().is_some_and(|tls| tls.client_key().is_file()));
    mongodb.restart().await.unwrap();
}
