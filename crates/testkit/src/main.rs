//! The stand-ins as a program, for tests in other languages: prints one line of JSON that says where they are, and
//! serves until its standard input ends.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use longshore_testkit::{
    HostileConfig, HostileRegistry, TokenConfig, TokenServer,
    cloud::{GoogleCloud, KubeflowApi, MicrosoftCloud},
    kubernetes::FakeKubernetes,
};
use serde_json::{Value, json};

#[derive(Debug, Parser)]
#[command(name = "longshore-testkit", about)]
struct Arguments {
    #[command(subcommand)]
    standin: Standin,
}

#[derive(Debug, Subcommand)]
enum Standin {
    /// A token service for registries. Prints `realm`, `service`, `issuer` and `certificate` (PEM).
    TokenServer {
        /// A file of JSON with the accounts and what they may do.
        #[arg(long)]
        config: PathBuf,
    },
    /// The hostile registry, with nothing in it. Prints `host`.
    HostileRegistry {
        /// A file of JSON with what is to go wrong; without one nothing does. `{"rules": [{"operation": "upload-put",
        /// "times": 1, "fault": {"refused": {"status": 503}}}]}`
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Google's token services. Prints `url`, `metadata_host`, `service_account` and `authorized_user` (their files).
    Google,
    /// Kubeflow Pipelines' API. Prints `url`.
    Kubeflow,
    /// An API server of Kubernetes, whose pods succeed. Prints `url` and `kubeconfig`.
    Kubernetes,
    /// Microsoft's token services, and a registry of that name. Prints `url`, `secure_url`, `certificate` (PEM) and what
    /// its application proves who it is with.
    Microsoft {
        /// The registry's host, as image references have it.
        #[arg(long, default_value = "myregistry.azurecr.io")]
        registry: String,
    },
}

fn main() -> io::Result<()> {
    match Arguments::parse().standin {
        Standin::TokenServer { config } => {
            let config: TokenConfig = serde_json::from_reader(File::open(config)?)?;
            let server = TokenServer::start(config)?;
            let authority = server.authority();
            until_input_ends(&json!({
                "realm": server.realm(),
                "service": authority.service(),
                "issuer": authority.issuer(),
                "certificate": authority.certificate(),
            }))
        }
        Standin::HostileRegistry { config } => {
            let config: HostileConfig = match config {
                Some(path) => serde_json::from_reader(File::open(path)?)?,
                None => HostileConfig::default(),
            };
            let registry = HostileRegistry::start(config)?;
            until_input_ends(&json!({ "host": registry.host() }))
        }
        Standin::Google => {
            let cloud = GoogleCloud::start()?;
            until_input_ends(&json!({
                "url": cloud.url(),
                "metadata_host": cloud.metadata_host(),
                "service_account": serde_json::from_str::<Value>(&cloud.service_account_json())?,
                "authorized_user": serde_json::from_str::<Value>(&cloud.authorized_user_json())?,
            }))
        }
        Standin::Kubeflow => {
            let api = KubeflowApi::start(None)?;
            until_input_ends(&json!({ "url": api.url() }))
        }
        Standin::Kubernetes => {
            let server = FakeKubernetes::start()?;
            let kubeconfig: Value = serde_json::from_str(&server.kubeconfig())?;
            until_input_ends(&json!({ "url": server.url(), "kubeconfig": kubeconfig }))
        }
        Standin::Microsoft { registry } => {
            let cloud = MicrosoftCloud::start(&registry)?;
            let secrets = cloud.secrets();
            until_input_ends(&json!({
                "url": cloud.url(),
                "secure_url": cloud.secure_url(),
                "certificate": cloud.certificate(),
                "registry": registry,
                "tenant_id": secrets.tenant,
                "client_id": secrets.client,
                "client_secret": secrets.secret,
                "subscription_id": secrets.subscription,
            }))
        }
    }
}

fn until_input_ends(what: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{what}")?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
