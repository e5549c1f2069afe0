//! AWS's credentials and ECR's API, against moto and next to AWS's own SDK.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use kit::{config, connector, environment, lease, parts, python, target};
use longshore_auth::{
    CredentialSource, Environment, Found,
    aws::{AmazonApi, AmazonCall, Created, Immutability, RepositorySettings, ScanOnPush},
    connector::{Connector, ConnectorType},
};
use longshore_endpoint::Hosts;
use longshore_testkit::cloud::{AmazonMachine, Moto};
use serde_json::{Value, json};

const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const KEYS: [(&str, &str); 2] = [("aws_access_key_id", "AKIAEXAMPLE"), ("aws_secret_access_key", "secret")];
const SDK_KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];

fn aws(method: &str, values: &[(&str, &str)], environment: Environment) -> Connector {
    connector(config(ConnectorType::Aws, method, values), Hosts::default(), environment)
}

/// A connector with an access key, whose APIs are moto's.
fn keyed(moto: &Moto, method: &str, more: &[(&str, &str)]) -> Connector {
    let values = [&KEYS[..], &[("endpoint_url", moto.url())], more].concat();
    aws(method, &values, environment([]))
}

/// Calls of the SDK, with its keys and endpoint from the environment.
fn sdk(variables: &[(&str, &str)], calls: &Value) -> Value {
    python("aws_calls.py", variables, &json!({ "region": "eu-central-1", "calls": calls }))
}

fn with_moto(moto: &Moto, calls: &Value) -> Value {
    sdk(&[&SDK_KEYS, &[("AWS_ENDPOINT_URL", moto.url())][..]].concat(), calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_the_one_that_the_sdk_gets() {
    let moto = Moto::start().unwrap();
    let connector = keyed(&moto, "secret-key", &[]);
    let ours = lease(&connector, HOST).await.unwrap();
    let theirs = with_moto(&moto, &json!([["ecr", "get_authorization_token", {}]]));
    let theirs = &theirs[0]["authorizationData"][0];
    let (username, password) = parts(&ours);
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    assert_eq!(theirs["authorizationToken"], json!(STANDARD.encode(format!("{username}:{password}"))));
    assert_eq!(username, "AWS");
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are compared")]
    let expires = theirs["expiresAt"].as_f64().unwrap() as i64;
    assert!((ours.expires.unwrap().as_second() - expires).abs() < 60, "the token's own expiry");
    for host in [
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.com",
        "evil.dkr.ecr.x.amazonaws.com",
        "ghcr.io",
    ] {
        assert!(!connector.serves(host));
        assert_eq!(connector.credential(target(host)).await.unwrap(), Found::Nothing, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_make_the_sdk_sees_and_the_reverse() {
    let moto = Moto::start().unwrap();
    let connector = keyed(&moto, "secret-key", &[("region", "eu-central-1")]);
    let ecr = connector.ecr(HOST).unwrap();
    let settings = RepositorySettings {
        immutability: Immutability::Immutable,
        scan_on_push: ScanOnPush::On,
        kms_key: Some("alias/images".to_owned()),
        tags: [("team".to_owned(), "vision".to_owned())].into(),
    };
    assert_eq!(ecr.create_repository("team/ours", &settings).await.unwrap(), Created::New);
    assert_eq!(
        ecr.create_repository("team/ours", &RepositorySettings::default()).await.unwrap(),
        Created::Existed
    );
    let seen = with_moto(
        &moto,
        &json!([
            ["ecr", "describe_repositories", { "repositoryNames": ["team/ours"] }],
            ["ecr", "list_tags_for_resource", { "resourceArn": "arn:aws:ecr:eu-central-1:123456789012:repository/team/ours" }],
            ["ecr", "create_repository", { "repositoryName": "theirs" }],
        ]),
    );
    let repository = &seen[0]["repositories"][0];
    assert_eq!(repository["imageTagMutability"], "IMMUTABLE");
    assert_eq!(repository["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(repository["encryptionConfiguration"]["encryptionType"], "KMS");
    assert_eq!(repository["encryptionConfiguration"]["kmsKey"], "alias/images");
    assert_eq!(seen[1]["tags"], json!([{ "Key": "team", "Value": "vision" }]));
    let ours = ecr.describe_repositories().await.unwrap();
    let mut names: Vec<_> = ours.iter().map(|repository| repository.repository_name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["team/ours", "theirs"]);
    assert!(
        ours.iter()
            .any(|made| made.repository_uri == seen[2]["repository"]["repositoryUri"].as_str().unwrap())
    );
    let mut resources = connector.resources().await.unwrap();
    resources[0].repositories.sort_unstable();
    assert_eq!(resources[0].registry, HOST);
    assert_eq!(resources[0].repositories, ["team/ours", "theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_of_whom_the_sdk_says() {
    let moto = Moto::start().unwrap();
    let role = "arn:aws:iam::123456789012:role/pusher";
    let assumed =
        keyed(&moto, "iam-role", &[("role_arn", role), ("session_name", "us"), ("external_id", "extern")]);
    let identity = assumed.verify(Some(target(HOST))).await.unwrap();
    let theirs = with_moto(
        &moto,
        &json!([
            ["sts", "assume_role", { "RoleArn": role, "RoleSessionName": "us", "ExternalId": "extern" }],
            ["sts", "get_caller_identity", { "client": {
                "aws_access_key_id": "$0.Credentials.AccessKeyId",
                "aws_secret_access_key": "$0.Credentials.SecretAccessKey",
                "aws_session_token": "$0.Credentials.SessionToken",
            } }],
        ]),
    );
    assert_eq!(json!(identity.account), theirs[1]["Arn"]);
    assert_eq!(identity.account, "arn:aws:sts::123456789012:assumed-role/pusher/us");
    for (method, more) in [
        ("session-token", &[("duration_seconds", "900")][..]),
        ("federation-token", &[("session_name", "me")]),
        ("sts-token", &[("aws_session_token", "t")]),
    ] {
        let connector = keyed(&moto, method, more);
        let identity = connector.verify(None).await.unwrap();
        assert!(identity.account.starts_with("arn:aws:sts::123456789012:"), "{method}: {}", identity.account);
        assert_eq!(identity.expires.is_some(), method != "sts-token", "{method}");
        assert_eq!(parts(&lease(&connector, HOST).await.unwrap()).0, "AWS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_verified_and_wrong_keys_are_told_apart() {
    let moto = Moto::start_judging_after(3).unwrap();
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:CreateRepository"], "Resource": "*" },
    ] });
    let made = with_moto(
        &moto,
        &json!([
            ["iam", "create_user", { "UserName": "u" }],
            ["iam", "put_user_policy", { "UserName": "u", "PolicyName": "p", "PolicyDocument": policy.to_string() }],
            ["iam", "create_access_key", { "UserName": "u" }],
        ]),
    );
    let key = &made[2]["AccessKey"];
    let with = |id: &str, secret: &str| {
        let values =
            [("aws_access_key_id", id), ("aws_secret_access_key", secret), ("endpoint_url", moto.url())];
        aws("secret-key", &values, environment([]))
    };
    let (id, secret) = (key["AccessKeyId"].as_str().unwrap(), key["SecretAccessKey"].as_str().unwrap());
    let right = with(id, secret);
    lease(&right, HOST).await.unwrap();
    let ecr = right.ecr(HOST).unwrap();
    assert_eq!(ecr.create_repository("a/b", &RepositorySettings::default()).await.unwrap(), Created::New);
    let error = ecr.describe_repositories().await.unwrap_err().to_string();
    assert!(error.contains("AccessDenied") && error.contains("allow ecr:DescribeRepositories"), "{error}");
    let error = lease(&with(id, "wrong"), HOST).await.unwrap_err().to_string();
    assert!(error.contains("does not belong to the access key ID") && !error.contains("wrong"), "{error}");
    let error = lease(&with("AKIANOBODY", "wrong"), HOST).await.unwrap_err().to_string();
    assert!(error.contains("does not exist or is not active"), "{error}");
}

/// Which key our connector and the SDK use in an environment: both ask who they are.
async fn same_key(machine: &AmazonMachine, variables: &[(&str, &str)], values: &[(&str, &str)], key: &str) {
    let url = machine.url();
    let all: Vec<_> =
        [variables, &[("AWS_ENDPOINT_URL_STS", url.as_str()), ("AWS_ENDPOINT_URL_SSO", &url)]].concat();
    let search = ("PATH", std::env::var("PATH").unwrap());
    let environment = all.iter().copied().chain([(search.0, search.1.as_str())]).collect();
    let ours = aws("implicit", values, environment).verify(None).await.unwrap().account;
    let session = match values {
        [("profile_name", name)] => json!({ "profile_name": name }),
        _ => json!({}),
    };
    let asked =
        json!({ "region": "us-east-1", "session": session, "calls": [["sts", "get_caller_identity", {}]] });
    let theirs = python("aws_calls.py", &all, &asked);
    assert_eq!(json!(ours), theirs[0]["Arn"], "{key}");
    assert!(ours.ends_with(&format!("/{key}")), "{ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_keys_are_found_where_the_sdk_finds_them() {
    let machine = AmazonMachine::start().unwrap();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".aws");
    fs::create_dir_all(folder.join("sso/cache")).unwrap();
    let at_home = ("HOME", home.path().to_str().unwrap());
    let endpoint = machine.url();
    let instance = [at_home, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str())];
    same_key(&machine, &instance, &[], "instance-session/ASIAINSTANCE").await;
    let url = format!("{endpoint}/container");
    let container = [
        &instance[..],
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", machine.container_token()),
        ],
    ]
    .concat();
    same_key(&machine, &container, &[], "container-session/ASIACONTAINER").await;
    let program = folder.join("program");
    write_program(
        &program,
        r#"echo '{"Version":1,"AccessKeyId":"AKIAPROGRAM","SecretAccessKey":"s","SessionToken":"p"}'"#,
    );
    fs::write(
        folder.join("config"),
        format!(
            "[profile files]\naws_access_key_id = AKIACONFIG\naws_secret_access_key = s\n\
             [profile program]\ncredential_process = {} --some argument\n\
             [profile signon]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n\
             [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n",
            program.display()
        ),
    )
    .unwrap();
    fs::write(
        folder.join("credentials"),
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
         [files]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n",
    )
    .unwrap();
    same_key(&machine, &container, &[], "none/AKIADEFAULT").await;
    same_key(&machine, &container, &[("profile_name", "files")], "none/AKIAFILE").await;
    same_key(&machine, &[at_home, ("AWS_PROFILE", "program")], &[], "p/AKIAPROGRAM").await;
    // The file is named after the SHA-1 of the session's name, as `aws sso login` does it.
    let cached = json!({
        "startUrl": "https://corp.awsapps.com/start", "region": "us-east-1", "accessToken": machine.sign_on_token(),
        "expiresAt": "2099-01-01T00:00:00Z",
    });
    let name = python("sha1.py", &[], &json!("corp"));
    let file = folder.join("sso/cache").join(format!("{}.json", name.as_str().unwrap()));
    fs::write(&file, cached.to_string()).unwrap();
    same_key(&machine, &[at_home, ("AWS_PROFILE", "signon")], &[], "sign-on-session/ASIASIGNON").await;
    let keys = [&container[..], &SDK_KEYS].concat();
    same_key(&machine, &keys, &[], "none/AKIAEXAMPLE").await;
    fs::remove_file(&file).unwrap();
    let signon = aws("implicit", &[("profile_name", "signon")], environment([at_home]));
    let error = lease(&signon, HOST).await.unwrap_err().to_string();
    assert!(error.contains("aws sso login --profile signon"), "{error}");
}

/// Made by another process: a program that this one had open for writing cannot be run as long as any child that was
/// started meanwhile has it open too.
fn write_program(path: &Path, script: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\"", "sh", script])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_roles_are_assumed_as_by_the_sdk() {
    let moto = Moto::start().unwrap();
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    fs::write(
        home.path().join(".aws/config"),
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
         [profile inner]\nrole_arn = arn:aws:iam::123456789012:role/inner\nsource_profile = default\n\
         [profile outer]\nrole_arn = arn:aws:iam::123456789012:role/outer\nsource_profile = inner\nrole_session_name = out\n",
    )
    .unwrap();
    let token = home.path().join("web-token");
    fs::write(&token, "a.web.token\n").unwrap();
    let base = [("HOME", home.path().to_str().unwrap()), ("AWS_ENDPOINT_URL", moto.url())];
    for (more, arn) in [
        (&[("AWS_PROFILE", "outer")][..], "arn:aws:sts::123456789012:assumed-role/outer/out"),
        (
            &[
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
                ("AWS_ROLE_SESSION_NAME", "web"),
            ],
            "arn:aws:sts::123456789012:assumed-role/web/web",
        ),
    ] {
        // With both, the SDK asks the web identity first if no profile is named, as here.
        let home_only = tempfile::tempdir().unwrap();
        let mut variables = [&base[..], more].concat();
        if arn.contains("/web/") {
            variables[0].1 = home_only.path().to_str().unwrap();
        }
        let ours =
            aws("implicit", &[], variables.iter().copied().collect()).verify(None).await.unwrap().account;
        let theirs = sdk(&variables, &json!([["sts", "get_caller_identity", {}]]));
        assert_eq!(json!(ours), theirs[0]["Arn"]);
        assert_eq!(ours, arn);
    }
    let connector =
        aws("implicit", &[("role_arn", "arn:aws:iam::123456789012:role/third")], base.into_iter().collect());
    let account = connector.verify(Some(target(HOST))).await.unwrap().account;
    assert_eq!(account, "arn:aws:sts::123456789012:assumed-role/third/longshore");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_credentials_says_so() {
    let home = tempfile::tempdir().unwrap();
    let free =
        format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let base =
        [("HOME", home.path().to_str().unwrap()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", free.as_str())];
    let error = lease(&aws("implicit", &[], environment(base)), HOST).await.unwrap_err().to_string();
    assert!(
        error.contains("no AWS credentials on this machine") && error.contains("aws configure"),
        "{error}"
    );
    let named = aws("implicit", &[("profile_name", "absent")], environment(base));
    let error = lease(&named, HOST).await.unwrap_err().to_string();
    assert!(error.contains("there is no profile 'absent'"), "{error}");
    let foreign = [("HOME", base[0].1), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/keys")];
    let error = lease(&aws("implicit", &[], environment(foreign)), HOST).await.unwrap_err().to_string();
    assert!(error.contains("neither https nor"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_registry_has_an_api_of_its_own() {
    let machine = AmazonMachine::start().unwrap();
    let url = machine.url();
    let connector = aws("secret-key", &[&KEYS[..], &[("endpoint_url", &url)]].concat(), environment([]));
    let ours = lease(&connector, "public.ecr.aws").await.unwrap();
    assert_eq!(parts(&ours), ("AWS".to_owned(), "public-password".to_owned()));
    let variables = [&SDK_KEYS[..], &[("AWS_ENDPOINT_URL", &url)]].concat();
    let theirs = sdk(&variables, &json!([["ecr-public", "get_authorization_token", {}]]));
    let theirs = &theirs[0]["authorizationData"];
    assert_eq!(theirs["authorizationToken"], "QVdTOnB1YmxpYy1wYXNzd29yZA==");
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are compared")]
    let expires = theirs["expiresAt"].as_f64().unwrap() as i64;
    assert_eq!(ours.expires.unwrap().as_second(), expires);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_read_to_their_last_page() {
    let machine = AmazonMachine::start().unwrap();
    let url = machine.url();
    let values = [&KEYS[..], &[("endpoint_url", &url)]].concat();
    let resources = aws("secret-key", &values, environment([])).bound_to(HOST).resources().await.unwrap();
    assert_eq!(resources.len(), 1);
    assert_eq!(resources[0].registry, HOST);
    assert_eq!(resources[0].repositories, ["first", "second", "third"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_once_until_it_is_refused() {
    let moto = Moto::start().unwrap();
    let connector = keyed(&moto, "iam-role", &[("role_arn", "arn:aws:iam::123456789012:role/pusher")]);
    let leases = futures::future::join_all((0..20).map(|_| lease(&connector, HOST))).await;
    assert!(leases.iter().all(|got| got.as_ref().unwrap() == leases[0].as_ref().unwrap()));
    connector.forget(target(HOST));
    assert_eq!(parts(&lease(&connector, HOST).await.unwrap()).0, "AWS");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_apis_are_called_in_regions_only() {
    let moto = Moto::start().unwrap();
    let connector = keyed(&moto, "secret-key", &[]);
    let input = json!({ "PipelineName": "missing" });
    let call = AmazonCall {
        what: "look at a pipeline",
        api: AmazonApi::SageMaker,
        region: "eu-central-1",
        action: "DescribePipeline",
        input: &input,
    };
    let refusal = connector.call_amazon(&call).await.unwrap().unwrap_err();
    assert!(refusal.message.contains("missing"), "{refusal:?}");
    let listed = AmazonCall { action: "ListPipelines", input: &json!({}), ..call };
    assert_eq!(connector.call_amazon(&listed).await.unwrap().unwrap()["PipelineSummaries"], json!([]));
    let evil = AmazonCall { region: "evil.example.com/", ..call };
    let error = connector.call_amazon(&evil).await.unwrap_err().to_string();
    assert!(error.contains("`evil.example.com/` is not a region"), "{error}");
}
