//! The commands of the page on container registries, with nothing added: registries and clouds are stood in for by
//! `hosts.toml`, by the variables that the clouds' own programs honour, and by the connectors' endpoint settings.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{fs, path::PathBuf};

use assert_cmd::Command;
use longshore_testkit::{
    DockerRegistry, Login,
    cloud::{GoogleCloud, MicrosoftCloud, Moto},
};
use serde_json::Value;

const PASSWORD: &str = "hunter2-of-the-page";

/// A user's machine, and the registry that serves the hosts of the page there.
struct Machine {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Machine {
    fn new(hosts: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("longshore/config");
        fs::create_dir_all(&config).unwrap();
        let hosts = hosts.iter().map(|(host, url)| format!("[\"{host}\"]\nserver = \"{url}\"\n"));
        fs::write(config.join("hosts.toml"), hosts.collect::<String>()).unwrap();
        Self { folder, variables: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("longshore")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::cargo_bin("longshore").unwrap();
        command.env_clear().env("LONGSHORE_HOME", self.home()).env("HOME", self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value.as_str())));
        command.args(line.split_whitespace());
        command
    }

    /// Runs commands that succeed, one a line, `\` at the end of those that go on. What they print.
    fn run(&self, page: &str) -> String {
        let mut said = String::new();
        for line in page.replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
            let line = line.trim().strip_prefix("longshore ").unwrap();
            let output = self.command(line).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{line}: {error}");
            said.push_str(&String::from_utf8(output.stdout).unwrap());
            assert_eq!(error, "", "{line}");
        }
        said
    }

    fn refused(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        assert!(!output.status.success(), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn listed(&self, noun: &str) -> Vec<String> {
        let listed: Value =
            serde_json::from_str(&self.run(&format!("longshore {noun} list -o json"))).unwrap();
        listed.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The docker configuration's entry for a registry.
    fn docker(&self, host: &str) -> Value {
        let text = fs::read(self.folder.path().join(".docker/config.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["auths"][host].clone()
    }

    /// Whether a text is anywhere in what is kept of the user's.
    fn keeps(&self, text: &str) -> bool {
        fs::read_dir(self.home().join("data")).unwrap().any(|entry| {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

fn private_registry() -> (DockerRegistry, String) {
    let registry = DockerRegistry::start(Login::Basic { username: "me", password: PASSWORD }).unwrap();
    let url = format!("http://{}", registry.host());
    (registry, url)
}

#[test]
fn any_registry() {
    let machine = Machine::new(&[]);
    machine.run(
        "longshore container-registry register default_registry --flavor=default \\
           --uri=registry.example.com/team
         longshore container-registry register dockerhub_registry --flavor=default \\
           --uri=docker.io/myusername",
    );
    assert_eq!(machine.listed("container-registry"), ["embedded", "default_registry", "dockerhub_registry"]);
}

#[test]
fn docker_hub() {
    let (_registry, url) = private_registry();
    let hosts = [("docker.io", url)];
    Machine::new(&hosts).run(
        "longshore container-registry register dockerhub --flavor=dockerhub \\
           --uri=docker.io/myusername",
    );
    let machine = Machine::new(&hosts);
    let said = machine.run(&format!(
        "longshore service-connector register dockerhub_connector --type docker \\
           --auth-method=password \\
           --username=me \\
           --password={PASSWORD}
         longshore container-registry register dockerhub --flavor=dockerhub \\
           --uri=docker.io/myusername \\
           --connector dockerhub_connector"
    ));
    assert!(said.contains("verified at docker.io as me"), "{said}");
    assert!(!machine.keeps(PASSWORD));
}

#[test]
fn docker_hub_with_a_wrong_password() {
    let (_registry, url) = private_registry();
    let machine = Machine::new(&[("docker.io", url)]);
    let register = "service-connector register dockerhub_connector --type docker --auth-method=password --username=me \
                    --password=wrong";
    for registry in ["", " --registry=docker.io"] {
        let said = machine.refused(&format!("{register}{registry}"));
        assert!(said.contains("cannot log in to docker.io as me"), "{said}");
    }
    assert!(machine.listed("service-connector").is_empty());
    machine.run(&format!("longshore {register} --no-verify"));
    let said = machine.refused(
        "container-registry register dockerhub --flavor=dockerhub --uri=docker.io/myusername --connector \
         dockerhub_connector",
    );
    assert!(said.contains("cannot log in to docker.io as me"), "{said}");
    assert_eq!(machine.listed("container-registry"), ["embedded"]);
}

#[test]
fn google() {
    let cloud = GoogleCloud::start().unwrap();
    let machine = Machine::new(&[]);
    let key = machine.folder.path().join("key.json");
    fs::write(&key, cloud.service_account_json()).unwrap();
    let said = machine.run(&format!(
        "longshore integration install gcp
         longshore container-registry register without --flavor=gcp \\
           --uri=gcr.io/my-project
         longshore container-registry register gar --flavor=gcp \\
           --uri=us-central1-docker.pkg.dev/my-project/my-repo
         longshore service-connector register gcp_connector --type gcp \\
           --auth-method=service-account \\
           --service_account_json=@{}
         longshore container-registry register gcr --flavor=gcp \\
           --uri=gcr.io/my-project \\
           --connector gcp_connector
         longshore service-connector login gcp_connector",
        key.display()
    ));
    assert!(said.contains("verified at gcr.io as builder@test-project.iam.gserviceaccount.com"), "{said}");
    assert!(said.contains("good until 20"), "{said}");
    assert!(machine.docker("gcr.io")["auth"].is_string());
    assert!(!machine.keeps("PRIVATE KEY"));
    assert!(
        machine
            .run("longshore service-connector describe gcp_connector")
            .contains("service_account_json  ***")
    );
}

#[test]
fn google_with_a_key_that_was_deleted() {
    let cloud = GoogleCloud::start().unwrap();
    cloud.set_key(longshore_testkit::cloud::KeyState::Deleted);
    let machine = Machine::new(&[]);
    let key = machine.folder.path().join("key.json");
    fs::write(&key, cloud.service_account_json()).unwrap();
    let said = machine.refused(&format!(
        "service-connector register gcp_connector --type gcp --auth-method=service-account --service_account_json=@{}",
        key.display()
    ));
    assert!(said.starts_with("error: service connector gcp_connector: "), "{said}");
    assert!(machine.listed("service-connector").is_empty());
}

#[test]
fn microsoft() {
    let cloud = MicrosoftCloud::start("myregistry.azurecr.io").unwrap();
    let machine =
        Machine::new(&[("myregistry.azurecr.io", cloud.url())]).with("AZURE_AUTHORITY_HOST", cloud.url());
    let secrets = cloud.secrets();
    let said = machine.run(&format!(
        "longshore integration install azure
         longshore container-registry register without --flavor=azure \\
           --uri=myregistry.azurecr.io
         longshore service-connector register azure_connector --type azure \\
           --auth-method=service-principal \\
           --tenant_id={} \\
           --client_id={} \\
           --client_secret={} \\
           --authority={}
         longshore container-registry register acr --flavor=azure \\
           --uri=myregistry.azurecr.io \\
           --connector azure_connector
         longshore service-connector login azure_connector",
        secrets.tenant,
        secrets.client,
        secrets.secret,
        cloud.url()
    ));
    assert!(said.contains("verified at myregistry.azurecr.io"), "{said}");
    // The registry's own refresh token is written, never the application's secret.
    let entry = machine.docker("myregistry.azurecr.io");
    assert!(cloud.is_refresh_token(entry["identitytoken"].as_str().unwrap()), "{entry}");
    assert!(!machine.keeps(secrets.secret));
}

#[test]
fn amazon() {
    let moto = Moto::start().unwrap();
    let machine = Machine::new(&[]).with("AWS_ENDPOINT_URL", moto.url());
    let secret = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
    let said = machine.run(&format!(
        "longshore integration install aws
         longshore container-registry register without --flavor=aws \\
           --uri=123456789012.dkr.ecr.us-east-1.amazonaws.com
         longshore service-connector register aws_connector --type aws \\
           --auth-method=secret-key \\
           --aws_access_key_id=AKIAIOSFODNN7EXAMPLE \\
           --aws_secret_access_key={secret}
         longshore container-registry register ecr --flavor=aws \\
           --uri=123456789012.dkr.ecr.us-east-1.amazonaws.com \\
           --connector aws_connector
         longshore service-connector login aws_connector"
    ));
    assert!(said.contains("verified at 123456789012.dkr.ecr.us-east-1.amazonaws.com as arn:aws:"), "{said}");
    assert!(machine.docker("123456789012.dkr.ecr.us-east-1.amazonaws.com")["auth"].is_string());
    assert!(!machine.keeps(secret));
}

#[test]
fn github() {
    let (_registry, url) = private_registry();
    let machine = Machine::new(&[("ghcr.io", url)]);
    let said = machine.run(&format!(
        "longshore service-connector register github_connector --type docker \\
           --auth-method=password \\
           --username=me \\
           --password={PASSWORD}
         longshore container-registry register ghcr --flavor=github \\
           --uri=ghcr.io/myusername \\
           --connector github_connector
         longshore integration install kaniko"
    ));
    assert!(said.contains("verified at ghcr.io as me"), "{said}");
    assert!(said.contains("kaniko: nothing to install"), "{said}");
}
