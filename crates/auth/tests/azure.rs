//! Azure's credentials, against stand-ins written from the published protocols, and next to Microsoft's own SDKs.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use kit::{config, connector, environment, hosts, lease, parts, python, target};
use longshore_auth::{
    AzureApi, Credential, CredentialSource, Environment, Found,
    connector::{Connector, ConnectorType, Resource},
};
use longshore_testkit::cloud::MicrosoftCloud;
use serde_json::{Value, json};

const HOST: &str = "myregistry.azurecr.io";
const REGISTRIES: &str = "https://containerregistry.azure.net";

fn azure(
    cloud: &MicrosoftCloud,
    method: &str,
    values: &[(&str, &str)],
    environment: Environment,
) -> Connector {
    connector(config(ConnectorType::Azure, method, values), hosts(HOST, &cloud.url()), environment)
}

fn principal(cloud: &MicrosoftCloud, more: &[(&str, &str)]) -> Connector {
    let secrets = cloud.secrets();
    let url = cloud.url();
    let values = [
        ("tenant_id", secrets.tenant),
        ("client_id", secrets.client),
        ("client_secret", secrets.secret),
        ("authority", url.as_str()),
    ];
    azure(cloud, "service-principal", &[&values, more].concat(), environment([]))
}

/// What the SDKs get: the resource and the application that the token is for.
fn sdk(cloud: &MicrosoftCloud, variables: &[(&str, &str)], more: &Value) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, cloud.certificate()).unwrap();
    let secrets = cloud.secrets();
    let mut asked = json!({
        "scope": format!("{REGISTRIES}/.default"), "certificate": certificate, "authority": cloud.secure_url(),
        "tenant": secrets.tenant, "client": secrets.client, "secret": secrets.secret,
    });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = python("azure_tokens.py", variables, &asked);
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    cloud.describe(token).unwrap()
}

/// Our connector gets a refresh token of the registry; who it is for is what the SDKs say, too.
async fn agree(cloud: &MicrosoftCloud, connector: &Connector, account: &str) {
    let ours = lease(connector, HOST).await.unwrap();
    assert!(matches!(ours.credential, Credential::IdentityToken { .. }));
    let (username, token) = parts(&ours);
    assert_eq!(username, "00000000-0000-0000-0000-000000000000");
    assert!(cloud.is_refresh_token(&token));
    let lives = ours.expires.unwrap().as_second() - cloud.clock().now();
    assert!((10_700..=10_800).contains(&lives), "the token's own three hours: {lives}");
    assert_eq!(connector.verify(Some(target(HOST))).await.unwrap().account, account);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gets_a_token_as_with_the_sdks() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let client = cloud.secrets().client;
    agree(&cloud, &principal(&cloud, &[]), &format!("application {client}")).await;
    let described = (REGISTRIES.to_owned(), client.to_owned());
    assert_eq!(sdk(&cloud, &[], &json!({ "way": "secret" })), described);
    assert_eq!(sdk(&cloud, &[], &json!({ "way": "msal" })), described);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_gets_a_token_as_with_the_sdk() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let secrets = cloud.secrets();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, cloud.federated_token(600)).unwrap();
    let account = format!("application {}", secrets.client);
    let url = cloud.url();
    let variables = [
        ("AZURE_TENANT_ID", secrets.tenant),
        ("AZURE_CLIENT_ID", secrets.client),
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_AUTHORITY_HOST", url.as_str()),
    ];
    let named = [
        ("tenant_id", secrets.tenant),
        ("client_id", secrets.client),
        ("federated_token_file", file.to_str().unwrap()),
        ("authority", url.as_str()),
    ];
    agree(&cloud, &azure(&cloud, "workload-identity", &named, environment([])), &account).await;
    agree(&cloud, &azure(&cloud, "workload-identity", &[], environment(variables)), &account).await;
    agree(&cloud, &azure(&cloud, "implicit", &[], environment(variables)), &account).await;
    let described = (REGISTRIES.to_owned(), secrets.client.to_owned());
    assert_eq!(sdk(&cloud, &[], &json!({ "way": "workload", "file": file })), described);
    std::fs::write(&file, cloud.federated_token(-60)).unwrap();
    let connector = azure(&cloud, "workload-identity", &named, environment([]));
    let error = lease(&connector, HOST).await.unwrap_err().to_string();
    assert!(error.contains("AADSTS700024") && error.contains("is renewed"), "{error}");
    let error =
        lease(&azure(&cloud, "workload-identity", &[], environment([])), HOST).await.unwrap_err().to_string();
    assert!(error.contains("AZURE_TENANT_ID is set") && error.contains("--tenant_id"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_a_token_as_with_the_sdk() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let secrets = cloud.secrets();
    let url = cloud.url();
    let described = (REGISTRIES.to_owned(), secrets.identity.to_owned());
    let machine = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", url.as_str())];
    let assigned = format!("managed identity {}", secrets.identity);
    let only = "the managed identity of this machine";
    agree(&cloud, &azure(&cloud, "implicit", &[], environment(machine)), only).await;
    let named = azure(&cloud, "implicit", &[("client_id", secrets.identity)], environment(machine));
    agree(&cloud, &named, &assigned).await;
    assert_eq!(sdk(&cloud, &machine, &json!({ "way": "machine", "client": secrets.identity })), described);
    let endpoint = format!("{url}/msi/token");
    let service = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", secrets.app_service_header)];
    agree(&cloud, &azure(&cloud, "implicit", &[], environment(service)), only).await;
    assert_eq!(sdk(&cloud, &service, &json!({ "way": "machine", "client": secrets.identity })), described);
    let stranger = azure(&cloud, "implicit", &[("client_id", secrets.client)], environment(machine));
    let error = lease(&stranger, HOST).await.unwrap_err().to_string();
    assert!(error.contains("Identity not found") && error.contains("--client_id"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_secret_is_implicit() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let (secrets, url) = (cloud.secrets(), cloud.url());
    let variables = [
        ("AZURE_TENANT_ID", secrets.tenant),
        ("AZURE_CLIENT_ID", secrets.client),
        ("AZURE_CLIENT_SECRET", secrets.secret),
        ("AZURE_AUTHORITY_HOST", url.as_str()),
    ];
    let connector = azure(&cloud, "implicit", &[], environment(variables));
    agree(&cloud, &connector, &format!("application {}", secrets.client)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_someone_has_is_exchanged_until_it_expires() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let secrets = cloud.secrets();
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, cloud.certificate()).unwrap();
    let asked = json!({
        "way": "secret", "scope": format!("{REGISTRIES}/.default"), "certificate": certificate,
        "authority": cloud.secure_url(), "tenant": secrets.tenant, "client": secrets.client, "secret": secrets.secret,
    });
    let token = || python("azure_tokens.py", &[], &asked)["access_token"].as_str().unwrap().to_owned();
    let connector = azure(&cloud, "access-token", &[("token", &token())], environment([]));
    agree(&cloud, &connector, &format!("application {}", secrets.client)).await;
    cloud.clock().set_ahead(-7200);
    let connector = azure(&cloud, "access-token", &[("token", &token())], environment([]));
    let error = lease(&connector, HOST).await.unwrap_err().to_string();
    assert!(error.contains("it has expired") && error.contains("az account get-access-token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_show_no_secret() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let (secrets, url) = (cloud.secrets(), cloud.url());
    let refused = async |tenant: &str, client: &str, secret: &str| {
        let values = [
            ("tenant_id", tenant),
            ("client_id", client),
            ("client_secret", secret),
            ("authority", url.as_str()),
        ];
        let connector = azure(&cloud, "service-principal", &values, environment([]));
        let error = connector.verify(None).await.unwrap_err().to_string();
        assert!(!error.contains(secret) && !error.contains("Trace ID"), "{error}");
        error
    };
    let error = refused(secrets.tenant, secrets.client, "wrong~secret").await;
    assert!(error.contains("AADSTS7000215") && error.contains("not its ID; if it is lost"), "{error}");
    let error = refused(secrets.tenant, secrets.subscription, secrets.secret).await;
    assert!(error.contains("AADSTS700016") && error.contains("exists in the tenant"), "{error}");
    let error = refused(secrets.subscription, secrets.client, secrets.secret).await;
    assert!(error.contains("AADSTS90002") && error.contains("in this cloud"), "{error}");
    cloud.expire_secret();
    let error = refused(secrets.tenant, secrets.client, secrets.secret).await;
    assert!(error.contains("AADSTS7000222") && error.contains("create a new one"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_another_tenant_refuses_the_exchange() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let other = MicrosoftCloud::start(HOST).unwrap();
    let (secrets, url) = (cloud.secrets(), cloud.url());
    let values = [
        ("tenant_id", secrets.tenant),
        ("client_id", secrets.client),
        ("client_secret", secrets.secret),
        ("authority", url.as_str()),
    ];
    let config = config(ConnectorType::Azure, "service-principal", &values);
    let connector = connector(config, hosts(HOST, &other.url()), environment([]));
    connector.verify(None).await.unwrap();
    let error = connector.verify(Some(target(HOST))).await.unwrap_err().to_string();
    assert!(error.contains("UNAUTHORIZED") && error.contains("AcrPush"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_exchange_serves_until_it_is_refused_and_look_alikes_get_nothing() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let connector = principal(&cloud, &[]);
    let leases = futures::future::join_all((0..20).map(|_| lease(&connector, HOST))).await;
    assert!(leases.iter().all(|got| got.as_ref().unwrap() == leases[0].as_ref().unwrap()));
    assert_eq!(cloud.tokens_given(), 1);
    connector.forget(target(HOST));
    lease(&connector, HOST).await.unwrap();
    assert_eq!(cloud.tokens_given(), 2);
    for host in ["evilazurecr.io", "azurecr.io", "myregistry.azurecr.io.evil.com", "a.myregistry.azurecr.io"]
    {
        assert!(!connector.serves(host));
        assert_eq!(connector.credential(target(host)).await.unwrap(), Found::Nothing, "{host}");
        assert!(connector.verify(Some(target(host))).await.is_err());
    }
    for host in ["other.azurecr.cn", "other.azurecr.us"] {
        assert!(connector.serves(host), "{host}");
    }
    assert_eq!(cloud.tokens_given(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_and_repositories_are_listed() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let (subscription, url) = (cloud.secrets().subscription, cloud.url());
    let found =
        Resource { registry: HOST.to_owned(), repositories: vec!["app".to_owned(), "team/tool".to_owned()] };
    let listed = principal(&cloud, &[("subscription_id", subscription), ("resource_manager", &url)]);
    assert_eq!(listed.resources().await.unwrap(), std::slice::from_ref(&found));
    assert_eq!(principal(&cloud, &[]).bound_to(HOST).resources().await.unwrap(), [found]);
    let error = principal(&cloud, &[]).resources().await.unwrap_err().to_string();
    assert!(error.contains("--subscription_id"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_apis_have_tokens_of_their_own_and_regions_are_known_by_name() {
    let cloud = MicrosoftCloud::start(HOST).unwrap();
    let connector = principal(&cloud, &[]);
    for (api, resource) in [
        (AzureApi::ResourceManager, "https://management.azure.com"),
        (AzureApi::MachineLearning, "https://ml.azure.com"),
    ] {
        let token = connector.azure_access_token(api).await.unwrap();
        let client = cloud.secrets().client.to_owned();
        assert_eq!(cloud.describe(token.expose()), Some((resource.to_owned(), client)));
        connector.azure_access_token(api).await.unwrap();
    }
    assert_eq!(cloud.tokens_given(), 2);
    connector.forget_azure_access_tokens();
    connector.azure_access_token(AzureApi::ResourceManager).await.unwrap();
    assert_eq!(cloud.tokens_given(), 3);
    assert_eq!(connector.azure_resource_manager(), Some("https://management.azure.com"));
    assert!(connector.serves_azure_machine_learning("westeurope.api.azureml.ms"));
    for host in
        ["api.azureml.ms", "a.api.azureml.ms.example.com", "chinaeast2.api.ml.azure.cn", "example.com"]
    {
        assert!(!connector.serves_azure_machine_learning(host), "{host}");
    }
}
