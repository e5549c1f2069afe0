//! Google's credentials, against stand-ins that verify every signature, and next to Google's own SDK.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use kit::{config, connector, environment, lease, parts, python, target};
use longshore_auth::{
    CredentialSource, Environment, Found,
    connector::{Connector, ConnectorType, Proof},
};
use longshore_endpoint::Hosts;
use longshore_testkit::cloud::{GoogleCloud, KeyState};
use serde_json::{Value, json};

const HOST: &str = "us-central1-docker.pkg.dev";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

fn gcp(method: &str, values: &[(&str, &str)], environment: Environment) -> Connector {
    connector(config(ConnectorType::Gcp, method, values), Hosts::default(), environment)
}

fn keyed(cloud: &GoogleCloud) -> Connector {
    gcp("service-account", &[("service_account_json", &cloud.service_account_json())], environment([]))
}

/// The connector's token and the SDK's are the same, and are what they should be.
async fn agree(
    cloud: &GoogleCloud,
    connector: &Connector,
    variables: &[(&str, &str)],
    asked: &Value,
    grant: &str,
    account: &str,
) {
    let ours = lease(connector, HOST).await.unwrap();
    let (username, token) = parts(&ours);
    assert_eq!(username, "oauth2accesstoken");
    let described = (grant.to_owned(), account.to_owned(), CLOUD_PLATFORM.to_owned());
    assert_eq!(cloud.describe(&token), Some(described));
    assert!(ours.expires.unwrap().as_second() > cloud.clock().now() + 3000);
    let theirs = python("google_tokens.py", variables, asked);
    assert_eq!(theirs["token"], json!(token), "Google's SDK gets another token");
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_a_token_as_with_the_sdk() {
    let cloud = GoogleCloud::start().unwrap();
    let asked = json!({ "service_account": parsed(&cloud.service_account_json()) });
    let account = "builder@test-project.iam.gserviceaccount.com";
    let connector = keyed(&cloud);
    agree(&cloud, &connector, &[], &asked, "jwt-bearer", account).await;
    let identity = connector.verify(None).await.unwrap();
    assert_eq!((identity.account.as_str(), identity.proof), (account, Proof::Accepted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_login_gets_a_token_as_with_the_sdk() {
    let cloud = GoogleCloud::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adc.json");
    std::fs::write(&file, cloud.authorized_user_json()).unwrap();
    let variable = ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap());
    let connector = gcp("implicit", &[], environment([variable]));
    let asked = json!({ "authorized_user": parsed(&cloud.authorized_user_json()) });
    agree(&cloud, &connector, &[], &asked, "refresh_token", "someone@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_a_token_as_with_the_sdk() {
    let cloud = GoogleCloud::start().unwrap();
    let host = cloud.metadata_host();
    let connector = gcp("implicit", &[], environment([("GCE_METADATA_HOST", &host)]));
    let variables = [("GCE_METADATA_HOST", host.as_str()), ("GCE_METADATA_IP", host.as_str())];
    let account = "machine@test-project.iam.gserviceaccount.com";
    agree(&cloud, &connector, &variables, &json!({}), "metadata", account).await;
    assert_eq!(connector.verify(Some(target("gcr.io"))).await.unwrap().account, account);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_impersonated_as_with_the_sdk() {
    let cloud = GoogleCloud::start().unwrap();
    let principal = cloud.target_principal();
    let connector = gcp(
        "impersonation",
        &[
            ("service_account_json", &cloud.service_account_json()),
            ("target_principal", principal),
            ("iam_credentials_endpoint", &cloud.url()),
        ],
        environment([]),
    );
    let endpoint = format!("{}/v1/projects/-/serviceAccounts/{principal}:generateAccessToken", cloud.url());
    let asked = json!({
        "service_account": parsed(&cloud.service_account_json()), "impersonate": principal, "endpoint": endpoint,
    });
    let grant = "impersonated by builder@test-project.iam.gserviceaccount.com";
    agree(&cloud, &connector, &[], &asked, grant, principal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_providers_token_is_exchanged_as_with_the_sdk() {
    let cloud = GoogleCloud::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, cloud.subject_token(600)).unwrap();
    for (impersonate, grant, account) in [
        (false, "token-exchange", "repo:acme/app:ref:refs/heads/main"),
        (true, "impersonated by repo:acme/app:ref:refs/heads/main", cloud.target_principal()),
    ] {
        let json = cloud.external_account_json(&file, impersonate);
        let connector = gcp("external-account", &[("external_account_json", &json)], environment([]));
        let asked = json!({ "external_account": parsed(&json) });
        agree(&cloud, &connector, &[], &asked, grant, account).await;
    }
    std::fs::write(&file, cloud.subject_token(-600)).unwrap();
    let json = cloud.external_account_json(&file, false);
    let connector = gcp("external-account", &[("external_account_json", &json)], environment([]));
    let error = lease(&connector, HOST).await.unwrap_err().to_string();
    assert!(error.contains("has expired") && error.contains("token is fresh"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_once_until_it_is_refused() {
    let cloud = GoogleCloud::start().unwrap();
    let connector = keyed(&cloud);
    let hosts = ["gcr.io", "eu.gcr.io", HOST, "europe-docker.pkg.dev"];
    let leases = hosts.iter().cycle().take(20).map(|host| lease(&connector, host));
    assert!(futures::future::join_all(leases).await.iter().all(Result::is_ok));
    assert_eq!(cloud.tokens_given(), 1);
    connector.forget(target("gcr.io"));
    lease(&connector, "gcr.io").await.unwrap();
    assert_eq!(cloud.tokens_given(), 2);
    for host in ["docker.io", "evilgcr.io", "gcr.io.evil.com", "pkg.dev", "evilpkg.dev", "a.b.pkg.dev"] {
        assert!(!connector.serves(host));
        assert_eq!(connector.credential(target(host)).await.unwrap(), Found::Nothing, "{host}");
    }
    assert_eq!(cloud.tokens_given(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let cloud = GoogleCloud::start().unwrap();
    let connector = keyed(&cloud);
    let refused = async || lease(&connector, HOST).await.unwrap_err().to_string();
    cloud.set_key(KeyState::Deleted);
    let error = refused().await;
    assert!(
        error.contains("Invalid JWT Signature (invalid_grant)")
            && error.contains("gcloud iam service-accounts keys create"),
        "{error}"
    );
    assert!(error.starts_with("service connector test: cannot get a token for builder@"), "{error}");
    cloud.set_key(KeyState::AccountDeleted);
    let error = refused().await;
    assert!(error.contains("exists and is enabled"), "{error}");
    cloud.set_key(KeyState::Active);
    cloud.clock().set_ahead(7200);
    let error = refused().await;
    assert!(error.contains("the clock of this machine is 120 minutes slow"), "{error}");
    let foreign = GoogleCloud::start().unwrap();
    let mut key = parsed(&cloud.service_account_json());
    key["token_uri"] = json!(format!("{}/token", foreign.url()));
    let connector = gcp("service-account", &[("service_account_json", &key.to_string())], environment([]));
    let error = lease(&connector, HOST).await.unwrap_err().to_string();
    assert!(error.contains("Invalid JWT Signature"), "a key that is not the account's: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_credentials_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let connector = gcp("implicit", &[], environment([("GCE_METADATA_HOST", &free)]));
    let error = lease(&connector, HOST).await.unwrap_err().to_string();
    assert!(
        error.contains("no application default credentials")
            && error.contains("gcloud auth application-default login"),
        "{error}"
    );
    // Another cloud's metadata service, at the same address.
    let amazon = longshore_testkit::cloud::AmazonMachine::start().unwrap();
    let host = amazon.url().replace("http://", "");
    let connector = gcp("implicit", &[], environment([("GCE_METADATA_HOST", &host)]));
    let error = lease(&connector, HOST).await.unwrap_err().to_string();
    assert!(error.contains("is not Google's metadata server"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_and_repositories_are_listed() {
    let cloud = GoogleCloud::start().unwrap();
    let key = cloud.service_account_json();
    let listed = |project: &'static str| {
        let values = [
            ("service_account_json", key.as_str()),
            ("artifact_registry_endpoint", &cloud.url()),
            ("project_id", project),
        ];
        let connector = gcp("service-account", &values, environment([]));
        async move { connector.resources().await }
    };
    let found: Vec<_> = listed("test-project")
        .await
        .unwrap()
        .into_iter()
        .map(|found| (found.registry, found.repositories))
        .collect();
    let of = |registry: &str, repository: &str| (registry.to_owned(), vec![repository.to_owned()]);
    assert_eq!(found, [of("gcr.io", "test-project"), of(HOST, "test-project/images")]);
    let error = listed("someone-elses").await.unwrap_err().to_string();
    assert!(
        error.contains("PERMISSION_DENIED") && error.contains("roles/artifactregistry.reader"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_apis_are_asked_with_the_same_token_and_no_other_host_is() {
    let cloud = GoogleCloud::start().unwrap();
    let connector = keyed(&cloud);
    let token = connector.google_access_token("us-central1-aiplatform.googleapis.com").await.unwrap();
    let account = "builder@test-project.iam.gserviceaccount.com";
    let described = ("jwt-bearer".to_owned(), account.to_owned(), CLOUD_PLATFORM.to_owned());
    assert_eq!(cloud.describe(token.expose()), Some(described));
    for host in ["googleapis.com.example.com", "evilgoogleapis.com", "example.com", "googleapis.com"] {
        let error = connector.google_access_token(host).await.unwrap_err().to_string();
        assert!(error.contains(&format!("not for {host}")), "{error}");
    }
    connector.google_access_token("logging.googleapis.com").await.unwrap();
    assert_eq!(cloud.tokens_given(), 1);
    connector.forget_google_access_token();
    connector.google_access_token("logging.googleapis.com").await.unwrap();
    assert_eq!(cloud.tokens_given(), 2);
}
