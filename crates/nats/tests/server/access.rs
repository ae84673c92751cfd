//! Who is let in: certificates, passwords, tokens, NKeys and credentials files.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use nkeys::KeyPair;
use serde_json::{Value, json};
use trunkline_brokers::{ClientCertificate, Nats};
use trunkline_core::{ErrorKind, Target};
use trunkline_nats::connect;

use crate::member::{Member, config};

/// A message gets from one node to another.
async fn works(url: &str) {
    let (sender, mut receiver) = (Member::join(config(url)).await, Member::join(config(url)).await);
    sender.emit(Target::all(), 1).await.unwrap();
    assert_eq!(receiver.number().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_a_client_certificate_and_a_password() {
    let server = Nats::options().user("app", "s3cret").tls(ClientCertificate::Required).start().await.unwrap();
    let certificates = server.certificates().unwrap();
    let (ca, certificate, key) = (certificates.authority(), certificates.client(), certificates.client_key());
    let url = format!(
        "{}?tls_ca={}&tls_cert={}&tls_key={}",
        server.url(),
        ca.display(),
        certificate.display(),
        key.display()
    );
    let (sender, mut receiver) = (Member::join(config(&url)).await, Member::join(config(&url)).await);
    sender.emit(Target::all(), 1).await.unwrap();
    assert_eq!(receiver.number().await, 1);
    let wrong = connect(config(&url.replace("s3cret", "wrong"))).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Config);
    assert!(!format!("{wrong:?}").contains("wrong@"), "{wrong:?}");
    assert!(connect(config(server.url())).await.is_err(), "an unknown authority");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_enough_where_it_is_asked_for() {
    let server = Nats::options().token("t0ken").start().await.unwrap();
    Member::join(config(server.url())).await;
    let error = connect(config(&format!("nats://127.0.0.1:{}", server.port()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_is_enough_where_it_is_asked_for() {
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users = [ {{ nkey: {} }} ] }}", known.public_key());
    let server = Nats::options().configuration(&users).start().await.unwrap();
    let url = |key: &KeyPair, name: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, key.seed().unwrap()).unwrap();
        format!("{}?nkey_file={}", server.url(), path.display())
    };
    works(&url(&known, "known.nk")).await;
    let error = connect(config(&url(&unknown, "unknown.nk"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_is_enough_where_it_is_asked_for() {
    let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
    let (account, system) = (KeyPair::new_account(), KeyPair::new_account());
    let operators = token(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let member = json!({ "type": "account", "version": 2, "limits": limits });
    let (accounts, systems) = (token(&operator, &account, &member), token(&operator, &system, &member));
    let users = token(&account, &user, &json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }));
    let configuration = format!(
        "operator: {operators}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {systems}, {}: {accounts} }}\n",
        system.public_key(),
        system.public_key(),
        account.public_key()
    );
    let server = Nats::options().configuration(&configuration).start().await.unwrap();
    let path = server.folder().join("user.creds");
    let seed = user.seed().unwrap();
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{users}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&path, file).unwrap();
    works(&format!("{}?credentials_file={}", server.url(), path.display())).await;
    let error = connect(config(server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// A token that says, in the name of `issuer`, what `subject` is:
/// <https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt>.
fn token(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let claims = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test", "sub": subject.public_key(), "nats": nats,
    });
    let part = |value: &Value| BASE64.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}
