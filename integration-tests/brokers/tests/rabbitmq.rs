//! Private RabbitMQ servers.

use trunkline_brokers::RabbitMq;

#[tokio::test]
async fn it_comes_back_on_the_same_port() {
    let rabbit = RabbitMq::start().await.unwrap();
    assert_eq!(rabbit.url(), format!("amqp://guest:guest@127.0.0.1:{}", rabbit.port()));
    rabbit.ctl(&["add_vhost", "kept"]).await.unwrap();
    rabbit.kill().await.unwrap();
    rabbit.restart().await.unwrap();
    assert!(rabbit.ctl(&["list_vhosts"]).await.unwrap().contains("kept"));
    rabbit.stop().await.unwrap();
}

#[tokio::test]
async fn it_can_have_a_user_and_tls() {
    let rabbit = RabbitMq::options().user("app", "s3cret").tls().start().await.unwrap();
    assert!(rabbit.url().starts_with("amqps://app:s3cret@localhost:"), "{}", rabbit.url());
    assert!(rabbit.certificates().is_some_and(|tls| tls.authority().is_file()));
    assert!(rabbit.ctl(&["authenticate_user", "app", "s3cret"]).await.is_ok());
    assert!(rabbit.ctl(&["authenticate_user", "app", "wrong"]).await.is_err());
}
