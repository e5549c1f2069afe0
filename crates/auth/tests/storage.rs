//! Credentials for object stores, against stand-ins of the stores.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use jiff::Timestamp;
use kit::{config, connector, environment, hosts};
use longshore_auth::{
    connector::{Connector, ConnectorType},
    storage::{BlobContainer, GcsBucket, Lifetime, S3Bucket, Storage, StorageCredential},
};
use longshore_endpoint::Hosts;
use longshore_testkit::cloud::{BlobStorage, GoogleCloud, MicrosoftCloud, Moto};
use serde_json::json;

const KEYS: [(&str, &str); 2] = [("aws_access_key_id", "AKIAEXAMPLE"), ("aws_secret_access_key", "hunter2")];

fn keyed(moto: &Moto, method: &str, more: &[(&str, &str)]) -> Connector {
    let values = [&KEYS[..], &[("endpoint_url", moto.url())], more].concat();
    connector(config(ConnectorType::Aws, method, &values), Hosts::default(), environment([]))
}

fn bucket<'a>(moto: &'a Moto, name: &'a str) -> Storage<'a> {
    Storage::S3(S3Bucket { name, prefix: "ml/runs", region: None, endpoint: Some(moto.url()) })
}

/// For how many seconds from now on.
fn seconds(lifetime: Lifetime) -> i64 {
    let Lifetime::Until(until) = lifetime else { panic!("{lifetime:?}") };
    until.as_second() - Timestamp::now().as_second()
}

async fn with_bucket() -> Moto {
    let moto = Moto::start().unwrap();
    let made = kit::web().client().unwrap().put(format!("{}/team", moto.url())).send().await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    moto
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_amazons_is_given_as_it_is_and_sessions_instead_of_keys() {
    let moto = with_bucket().await;
    let team = bucket(&moto, "team");
    let lease = keyed(&moto, "secret-key", &[]).verified_storage(&team).await.unwrap();
    assert_eq!((lease.lifetime, lease.origin.as_str()), (Lifetime::Unlimited, "service connector test"));
    assert!(!format!("{lease:?}").contains("hunter2"));
    let StorageCredential::Amazon { id, secret, session: None } = lease.credential else { panic!("a key") };
    assert_eq!((id.as_str(), secret.expose()), ("AKIAEXAMPLE", "hunter2"));
    let role = ("role_arn", "arn:aws:iam::123456789012:role/runner");
    for (method, more, lasts) in [
        ("session-token", &[][..], 43_200),
        ("federation-token", &[("duration_seconds", "7200")], 7200),
        ("iam-role", &[role], 3600),
    ] {
        let lease = keyed(&moto, method, more).verified_storage(&team).await.unwrap();
        assert!((lasts - 60..=lasts + 60).contains(&seconds(lease.lifetime)), "{method}: {lease:?}");
        let StorageCredential::Amazon { id, secret, session: Some(_) } = lease.credential else {
            panic!("{method}: no session")
        };
        assert!(id != "AKIAEXAMPLE" && secret.expose() != "hunter2", "{method}");
    }
    let given = keyed(&moto, "sts-token", &[("aws_session_token", "t")]).storage(&team).await.unwrap();
    assert_eq!(given.lifetime, Lifetime::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_amazons_that_does_not_answer_is_a_sentence() {
    let moto = with_bucket().await;
    let connector = keyed(&moto, "secret-key", &[]);
    let error = connector.verified_storage(&bucket(&moto, "nobodys")).await.unwrap_err().to_string();
    assert!(error.starts_with("service connector test: cannot list the bucket nobodys: "), "{error}");
    assert!(error.contains("NoSuchBucket"), "{error}");
    assert!(error.ends_with("create the bucket, or correct the URI of the artifact store"), "{error}");
    let wrong = Storage::Gcs(GcsBucket { name: "team", prefix: "", endpoint: None });
    let error = connector.storage(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("it has no credentials for gs://team: it is of type aws"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_and_rights_are_judged_by_the_bucket() {
    // What makes the users is not judged, what comes then is.
    let moto = Moto::start_judging_after(5).unwrap();
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": "*" },
    ] });
    let calls = json!([
        ["s3", "create_bucket", { "Bucket": "team" }],
        ["iam", "create_user", { "UserName": "may" }],
        ["iam", "put_user_policy", { "UserName": "may", "PolicyName": "p", "PolicyDocument": policy.to_string() }],
        ["iam", "create_access_key", { "UserName": "may" }],
        ["iam", "create_access_key", { "UserName": "may" }],
    ]);
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL", moto.url()),
    ];
    let made = kit::python("aws_calls.py", &variables, &json!({ "region": "us-east-1", "calls": calls }));
    let key = |index: usize, part: &str| made[index]["AccessKey"][part].as_str().unwrap().to_owned();
    let with = |id: String, secret: String| {
        let values = [("aws_access_key_id", id.as_str()), ("aws_secret_access_key", secret.as_str())];
        connector(config(ConnectorType::Aws, "secret-key", &values), Hosts::default(), environment([]))
    };
    let team = bucket(&moto, "team");
    let right = with(key(3, "AccessKeyId"), key(3, "SecretAccessKey"));
    right.verified_storage(&team).await.unwrap();
    let mixed = with(key(3, "AccessKeyId"), key(4, "SecretAccessKey"));
    let error = mixed.verified_storage(&team).await.unwrap_err().to_string();
    assert!(error.contains("SignatureDoesNotMatch") && error.contains("does not belong"), "{error}");
    let nobody = with("AKIANOBODY".to_owned(), "secret".to_owned());
    let error = nobody.verified_storage(&team).await.unwrap_err().to_string();
    assert!(error.contains("does not exist or is not active"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_googles_gets_a_token() {
    let cloud = GoogleCloud::start().unwrap();
    let key = cloud.service_account_json();
    let config = config(ConnectorType::Gcp, "service-account", &[("service_account_json", &key)]);
    let connector = connector(config, Hosts::default(), environment([]));
    let url = cloud.url();
    let bucket = |name| Storage::Gcs(GcsBucket { name, prefix: "runs", endpoint: Some(&url) });
    let lease = connector.verified_storage(&bucket("team")).await.unwrap();
    assert!(seconds(lease.lifetime) > 3500, "{lease:?}");
    let StorageCredential::Google(token) = lease.credential else { panic!("a token") };
    assert!(cloud.describe(token.expose()).is_some());
    let error = connector.verified_storage(&bucket("other")).await.unwrap_err().to_string();
    assert!(error.contains("cannot list the bucket other: The specified bucket does not exist"), "{error}");
    // Each grant is good for all of its time.
    let before = cloud.tokens_given();
    connector.storage(&bucket("team")).await.unwrap();
    assert_eq!(cloud.tokens_given(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azures_gets_a_signature() {
    let cloud = MicrosoftCloud::start("myregistry.azurecr.io").unwrap();
    let account = BlobStorage::start(&cloud).unwrap();
    let (secrets, url) = (cloud.secrets(), cloud.url());
    let values = [
        ("tenant_id", secrets.tenant),
        ("client_id", secrets.client),
        ("client_secret", secrets.secret),
        ("authority", url.as_str()),
    ];
    let principal = config(ConnectorType::Azure, "service-principal", &values);
    let azure =
        |config| connector(config, hosts("team.blob.core.windows.net", &account.url()), environment([]));
    let principal = azure(principal);
    let container = |name| Storage::Azure(BlobContainer { account: "team", name, prefix: "ml" });
    let lease = principal.verified_storage(&container("runs")).await.unwrap();
    assert!((86_000..=86_400).contains(&seconds(lease.lifetime)), "a day: {lease:?}");
    let StorageCredential::Azure { signature, host: None } = lease.credential else { panic!("a signature") };
    let text = signature.expose();
    for part in ["sp=racwdl", "sr=c", "spr=https", "skoid=11111111-", "sktid=22222222-", "sig="] {
        assert!(text.contains(part), "{part}");
    }
    let error = principal.verified_storage(&container("other")).await.unwrap_err().to_string();
    assert!(error.contains("The specified container does not exist (ContainerNotFound)"), "{error}");
    let elsewhere = Storage::Azure(BlobContainer { account: "team.evil.example/", name: "runs", prefix: "" });
    let error = principal.storage(&elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("`team.evil.example/` is not a storage account"), "{error}");
    let token = config(ConnectorType::Azure, "access-token", &[("token", "eyJ.a.b")]);
    let error = azure(token).storage(&container("runs")).await.unwrap_err().to_string();
    assert!(error.contains("its access token is for Azure Resource Manager"), "{error}");
}
