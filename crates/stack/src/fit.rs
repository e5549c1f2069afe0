//! Which components of a stack work together: one table, looked at when the stack is registered, not when it first runs.

use std::net::IpAddr;

use crate::{
    ArtifactStore, Component, ContainerRegistry, Flavor, OrchestratorFlavor, Provider, RemoteRegistry,
    RemoteStore, StoreFlavor,
};

/// Why components do not work together: what is wrong, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Misfit {
    sentence: String,
}

/// A stack whose orchestrator is elsewhere.
struct Pair<'a> {
    orchestrator: &'a Component,
    flavor: OrchestratorFlavor,
    registry: &'a ContainerRegistry,
    store: &'a ArtifactStore,
}

/// One rule: nothing if the stack keeps it, otherwise the sentence.
type Rule = fn(&Pair<'_>) -> Option<String>;

/// All rules. The first that is broken is told.
const RULES: [Rule; 9] = [
    embedded_registry,
    loopback_registry,
    local_store,
    sagemaker_registry,
    sagemaker_store,
    vertex_registry,
    vertex_store,
    azureml_registry,
    azureml_store,
];

/// Whether the components work together.
pub(crate) fn check(
    orchestrator: &Component,
    registry: Option<&Component>,
    store: Option<&Component>,
) -> Result<(), Misfit> {
    let Flavor::Orchestrator(flavor) = orchestrator.flavor() else {
        return match store.and_then(|store| store.artifact_store().ok().flatten()) {
            // Steps on this machine hand on their outputs in folders.
            Some(ArtifactStore::Remote(store)) => Err(Misfit {
                sentence: format!(
                    "orchestrator `{}` (flavor {}) keeps outputs in a folder of this machine, and artifact store `{}` is {}; \
                     leave --artifact-store out, or take an orchestrator of another flavor",
                    orchestrator.name,
                    orchestrator.flavor().as_str(),
                    store.name,
                    store.uri
                ),
            }),
            _ => Ok(()),
        };
    };
    // What is stored was valid; a URI that is not is told where it is used.
    let registry = registry.and_then(|registry| registry.container_registry().ok().flatten());
    let store = store.and_then(|store| store.artifact_store().ok().flatten());
    let (Some(registry), Some(store)) = (registry, store) else { return Ok(()) };
    let pair = Pair { orchestrator, flavor, registry: &registry, store: &store };
    match RULES.iter().find_map(|rule| rule(&pair)) {
        Some(sentence) => Err(Misfit { sentence }),
        None => Ok(()),
    }
}

impl Pair<'_> {
    /// `orchestrator `prod` (flavor kubernetes)`
    fn who(&self) -> String {
        format!("orchestrator `{}` (flavor {})", self.orchestrator.name, self.flavor.as_str())
    }

    /// Whether it runs on this machine.
    fn is_local(&self) -> bool {
        self.orchestrator.configuration.is_on("local")
    }

    fn remote(&self) -> Option<&RemoteRegistry> {
        match self.registry {
            ContainerRegistry::Remote(registry) => Some(registry),
            ContainerRegistry::Embedded => None,
        }
    }

    fn bucket(&self) -> Option<&RemoteStore> {
        match self.store {
            ArtifactStore::Remote(store) => Some(store),
            ArtifactStore::Local => None,
        }
    }

    /// The sentence for a registry of the wrong provider.
    fn wrong_registry(&self, pulls_from: &str, remedy: &str) -> Option<String> {
        let registry = self.remote()?;
        Some(format!(
            "{} pulls images from {pulls_from} only, and container registry `{}` is {}; {remedy}",
            self.who(),
            registry.name,
            registry.uri
        ))
    }

    /// The sentence for an artifact store of the wrong flavor.
    fn wrong_store(&self, right: StoreFlavor) -> Option<String> {
        let store = self.bucket().filter(|store| store.flavor != right)?;
        Some(format!(
            "{} hands its steps an identity for {}, and artifact store `{}` is {}; register one with `longshore \
             artifact-store register … --flavor {} --uri {}…`",
            self.who(),
            right.scheme().name(),
            store.name,
            store.uri,
            right.as_str(),
            right.scheme().prefix()
        ))
    }
}

fn embedded_registry(pair: &Pair<'_>) -> Option<String> {
    matches!(pair.registry, ContainerRegistry::Embedded).then(|| {
        format!(
            "{} cannot reach the embedded registry, which is in a folder of this machine; serve it where it can, with \
             `longshore registry serve --listen ADDRESS:PORT --insecure-anyone`, and register that address with `longshore \
             container-registry register … --flavor default --uri HOST:PORT`, or take another registry",
            pair.who()
        )
    })
}

fn loopback_registry(pair: &Pair<'_>) -> Option<String> {
    let registry = pair.remote().filter(|registry| is_loopback(registry.uri.host()))?;
    let remedy = match pair.orchestrator.configuration.flavor().field("local") {
        Some(_) => format!(
            "name it by an address that others reach, or, if the orchestrator runs on this machine and its nodes know {} as \
             a registry here, say so with `longshore orchestrator update {} --local=true`",
            registry.uri.host(),
            pair.orchestrator.name
        ),
        None => "name it by an address that others reach".to_owned(),
    };
    (!pair.is_local()).then(|| {
        format!(
            "{} cannot pull from container registry `{}`: {} is this machine to this machine only; {remedy}",
            pair.who(),
            registry.name,
            registry.uri.host()
        )
    })
}

fn local_store(pair: &Pair<'_>) -> Option<String> {
    matches!(pair.store, ArtifactStore::Local).then(|| {
        format!(
            "{} runs steps on other machines, which cannot reach the artifact store in a folder of this one; register one \
             with `longshore artifact-store register … --flavor s3|gcs|azure --uri …` and add --artifact-store",
            pair.who()
        )
    })
}

fn sagemaker_registry(pair: &Pair<'_>) -> Option<String> {
    if pair.flavor != OrchestratorFlavor::Sagemaker {
        return None;
    }
    let region = pair.orchestrator.values().get("region").map_or("", String::as_str);
    match pair.remote()?.uri.provider() {
        Some(Provider::Ecr(ecr)) if ecr.region == region => None,
        Some(Provider::Ecr(ecr)) => pair.wrong_registry(
            &format!("Amazon ECR in its own region, {region},"),
            &format!("register one there: SageMaker does not pull from {}", ecr.region),
        ),
        _ => pair.wrong_registry(
            "Amazon ECR",
            &format!(
                "register one with `longshore container-registry register … --flavor aws --uri \
                 ACCOUNT.dkr.ecr.{region}.amazonaws.com`"
            ),
        ),
    }
}

fn sagemaker_store(pair: &Pair<'_>) -> Option<String> {
    if pair.flavor == OrchestratorFlavor::Sagemaker { pair.wrong_store(StoreFlavor::S3) } else { None }
}

fn vertex_registry(pair: &Pair<'_>) -> Option<String> {
    if pair.flavor != OrchestratorFlavor::Vertex {
        return None;
    }
    match pair.remote()?.uri.provider() {
        Some(Provider::Gcr | Provider::ArtifactRegistry { .. }) => None,
        _ => pair.wrong_registry(
            "Google Artifact Registry",
            "register one with `longshore container-registry register … --flavor gcp --uri \
             LOCATION-docker.pkg.dev/PROJECT/REPOSITORY`",
        ),
    }
}

fn vertex_store(pair: &Pair<'_>) -> Option<String> {
    if pair.flavor == OrchestratorFlavor::Vertex { pair.wrong_store(StoreFlavor::Gcs) } else { None }
}

fn azureml_registry(pair: &Pair<'_>) -> Option<String> {
    if pair.flavor != OrchestratorFlavor::Azureml {
        return None;
    }
    match pair.remote()?.uri.provider() {
        Some(Provider::Azure { .. }) => None,
        _ => pair.wrong_registry(
            "Azure Container Registry, with the identity of its compute,",
            "register one with `longshore container-registry register … --flavor azure --uri REGISTRY.azurecr.io`",
        ),
    }
}

fn azureml_store(pair: &Pair<'_>) -> Option<String> {
    if pair.flavor == OrchestratorFlavor::Azureml { pair.wrong_store(StoreFlavor::Azure) } else { None }
}

/// Whether a host, with its port if it has one, is this machine to whoever asks.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{ComponentKind, Configuration, Origin, Values};

    const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    fn component(kind: ComponentKind, flavor: &str, values: &[(&str, &str)]) -> Component {
        let flavor = Flavor::named(kind, flavor).unwrap();
        let values: Values =
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let built_in = matches!(flavor, Flavor::EmbeddedRegistry);
        let configuration = if built_in {
            Configuration::stored(flavor, values)
        } else {
            Configuration::new(flavor, &values).unwrap()
        };
        let now = Timestamp::UNIX_EPOCH;
        let name = "it".parse().unwrap();
        Component {
            name,
            configuration,
            connector: None,
            origin: Origin::Registered,
            created: now,
            updated: now,
        }
    }

    fn orchestrator(flavor: &str) -> Component {
        let values: &[_] = match flavor {
            "kubeflow" => &[("host", "https://kfp.example.com")],
            "vertex" => &[("project", "p"), ("location", "europe-west4")],
            "sagemaker" => &[("role", "arn:aws:iam::123456789012:role/r"), ("region", "eu-west-1")],
            "azureml" => &[("subscription_id", "s"), ("resource_group", "g"), ("workspace", "w")],
            "airflow" => &[("dags", "/dags")],
            _ => &[],
        };
        component(ComponentKind::Orchestrator, flavor, values)
    }

    fn registry(uri: &str) -> Component {
        if uri == "embedded" {
            return component(ComponentKind::ContainerRegistry, "embedded", &[]);
        }
        component(ComponentKind::ContainerRegistry, "default", &[("uri", uri)])
    }

    fn store(flavor: &str) -> Component {
        let values: &[_] = match flavor {
            "s3" => &[("uri", "s3://b/p")],
            "gcs" => &[("uri", "gs://b/p")],
            "azure" => &[("uri", "az://c/p"), ("account", "a")],
            _ => &[],
        };
        component(ComponentKind::ArtifactStore, flavor, values)
    }

    fn said(orchestrator_flavor: &str, uri: &str, of_store: &str) -> String {
        let found = check(&orchestrator(orchestrator_flavor), Some(&registry(uri)), Some(&store(of_store)));
        found.map_or_else(|misfit| misfit.to_string(), |()| String::new())
    }

    #[test]
    fn the_embedded_registry_is_on_this_machine() {
        for flavor in OrchestratorFlavor::ALL {
            let text = said(flavor.as_str(), "embedded", "s3");
            assert!(text.contains("cannot reach the embedded registry"), "{text}");
            assert!(text.contains("longshore registry serve --listen"), "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for host in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "0.0.0.0:5000", "a.localhost:80"] {
            let text = said("kubernetes", host, "s3");
            assert!(text.contains("is this machine to this machine only"), "{text}");
            assert!(text.contains("--local=true"), "{text}");
        }
        assert_eq!(said("kubernetes", "10.0.0.7:5000", "s3"), "");
        let here = component(ComponentKind::Orchestrator, "kubernetes", &[("local", "true")]);
        assert_eq!(check(&here, Some(&registry("localhost:5001")), Some(&store("s3"))), Ok(()));
    }

    #[test]
    fn a_folder_of_this_machine_is_no_store_for_others() {
        for flavor in ["kubernetes", "kubeflow", "airflow"] {
            assert!(said(flavor, "ghcr.io/o", "local").contains("--flavor s3|gcs|azure"));
        }
    }

    #[test]
    fn outputs_of_steps_here_stay_here() {
        let found = check(&orchestrator("local_container"), Some(&registry("ghcr.io/o")), Some(&store("s3")));
        assert!(found.unwrap_err().to_string().contains("keeps outputs in a folder of this machine"));
    }

    #[test]
    fn sagemaker_pulls_from_ecr() {
        assert!(
            said("sagemaker", "ghcr.io/o", "s3").contains("--flavor aws --uri ACCOUNT.dkr.ecr.eu-west-1")
        );
        assert_eq!(said("sagemaker", ECR, "s3"), "");
    }

    #[test]
    fn sagemaker_pulls_from_its_own_region() {
        let text = said("sagemaker", &ECR.replace("eu-west-1", "us-east-1"), "s3");
        assert!(text.contains("in its own region, eu-west-1, only"), "{text}");
    }

    #[test]
    fn sagemaker_reads_and_writes_s3() {
        assert!(said("sagemaker", ECR, "gcs").contains("--flavor s3 --uri s3://"));
    }

    #[test]
    fn vertex_pulls_from_google() {
        assert!(said("vertex", "ghcr.io/o", "gcs").contains("--flavor gcp"));
        for uri in ["gcr.io/p", "europe-west4-docker.pkg.dev/p/r"] {
            assert_eq!(said("vertex", uri, "gcs"), "");
        }
    }

    #[test]
    fn vertex_reads_and_writes_gcs() {
        assert!(said("vertex", "gcr.io/p", "s3").contains("--flavor gcs --uri gs://"));
    }

    #[test]
    fn azureml_pulls_from_azure() {
        assert!(said("azureml", "ghcr.io/o", "azure").contains("--flavor azure --uri REGISTRY.azurecr.io"));
        assert_eq!(said("azureml", "r.azurecr.io", "azure"), "");
    }

    #[test]
    fn azureml_reads_and_writes_azure() {
        assert!(said("azureml", "r.azurecr.io", "s3").contains("--flavor azure --uri az://"));
    }
}
