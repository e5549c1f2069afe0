//! No secret is in a log, at any level, in an error or in what is printed for debugging.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use std::{
    io,
    sync::{Arc, Mutex},
};

use kit::{config, connector, environment, hosts, lease, parts, target};
use longshore_auth::{
    Credential, CredentialSource, DockerConfig, Lease, Renewal, Secret,
    connector::{Connector, ConnectorType},
};
use longshore_endpoint::Hosts;
use longshore_testkit::{
    DockerRegistry, Login, TokenConfig, TokenServer, User,
    cloud::{GoogleCloud, KeyState, MicrosoftCloud, Moto},
};

const AZURE_HOST: &str = "myregistry.azurecr.io";
const AWS_HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was seen, and what must not be in it.
#[derive(Default)]
struct Watch {
    seen: Vec<String>,
    secrets: Vec<String>,
}

impl Watch {
    /// Gets a credential, then is refused one; all that can be seen of both is noted.
    async fn connector(&mut self, connector: &Connector, host: &str, refuse: impl FnOnce()) {
        self.seen.push(format!("{connector:?}"));
        let lease = lease(connector, host).await.unwrap();
        self.seen.push(format!("{lease:?}"));
        self.secrets.push(parts(&lease).1);
        self.secrets.extend(connector.config().secrets().values().flat_map(|secret| lines(secret.expose())));
        self.seen.push(format!("{:?}", connector.verify(Some(target(host))).await));
        self.seen.push(format!("{:?}", connector.config()));
        refuse();
        connector.forget(target(host));
        if let Err(error) = connector.credential(target(host)).await {
            self.seen.push(format!("{error} {error:?}"));
        }
    }
}

/// The lines of a secret, so that a part of it would be found too.
fn lines(secret: &str) -> Vec<String> {
    secret.split("\\n").flat_map(str::lines).filter(|line| line.len() > 5).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_can_be_seen_has_a_secret() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let mut watch = Watch::default();

    let google = GoogleCloud::start().unwrap();
    let key = google.service_account_json();
    let values = [("service_account_json", key.as_str())];
    let gcp =
        connector(config(ConnectorType::Gcp, "service-account", &values), Hosts::default(), environment([]));
    watch.connector(&gcp, "gcr.io", || google.set_key(KeyState::Deleted)).await;

    let microsoft = MicrosoftCloud::start(AZURE_HOST).unwrap();
    let (secrets, url) = (microsoft.secrets(), microsoft.url());
    let values = [
        ("tenant_id", secrets.tenant),
        ("client_id", secrets.client),
        ("client_secret", secrets.secret),
        ("authority", url.as_str()),
    ];
    let azure = config(ConnectorType::Azure, "service-principal", &values);
    let azure = connector(azure, hosts(AZURE_HOST, &url), environment([]));
    watch.connector(&azure, AZURE_HOST, || microsoft.expire_secret()).await;

    let moto = Moto::start().unwrap();
    let values = [
        ("aws_access_key_id", "AKIAEXAMPLE"),
        ("aws_secret_access_key", "aws~secret~access~key"),
        ("aws_session_token", "aws~session~token"),
        ("endpoint_url", moto.url()),
    ];
    let aws = connector(config(ConnectorType::Aws, "sts-token", &values), Hosts::default(), environment([]));
    watch.connector(&aws, AWS_HOST, || ()).await;

    let users = vec![User::new("me", "docker~password", "pull,push")];
    let server = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&server)).unwrap();
    let (host, values) = (registry.host(), [("username", "me"), ("password", "docker~password")]);
    let docker =
        connector(config(ConnectorType::Docker, "password", &values), Hosts::default(), environment([]));
    let docker = docker.bound_to(&host);
    watch.connector(&docker, &host, || server.set_password("me", "another")).await;
    watch.seen.push(docker.verify(Some(target(&host))).await.unwrap_err().to_string());

    let home = tempfile::tempdir().unwrap();
    let files = DockerConfig::discover(&environment([("HOME", home.path().to_str().unwrap())])).unwrap();
    let credential = Credential::Basic { username: "me".to_owned(), password: Secret::new("file~password") };
    let kept = Lease { credential, expires: None, renewal: Renewal::ByHand, origin: "test".to_owned() };
    files.store("ghcr.io", &kept).await.unwrap();
    watch.seen.push(format!("{files:?} {:?}", lease(&files, "ghcr.io").await));
    watch.secrets.push("file~password".to_owned());

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        logged.contains("canonical_request"),
        "what signs requests logs them, so that there is something to look into"
    );
    watch.seen.push(logged);
    assert!(watch.secrets.len() > 20, "the lines of a key are among them");
    for secret in &watch.secrets {
        for seen in &watch.seen {
            assert!(!seen.contains(secret.as_str()), "{secret} is in {seen}");
        }
    }
}
