//! Asking a cluster.

use std::{fmt::Debug, future::Future, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use longshore_endpoint::{Pauses, Stage, Tries};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Access, Config, Error};

/// The name under which longshore owns fields of objects.
const MANAGER: &str = "longshore";
/// How long a connection to the cluster may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    /// As messages name it.
    address: String,
}

impl Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// A right that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource if one is meant: `pods/log`.
    pub resource: &'static str,
    /// What is to be done.
    pub verb: &'static str,
}

impl Cluster {
    /// Makes a client for a cluster. Nothing is asked yet.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let mut access = match &config.access {
            Access::InCluster => kube::Config::incluster().map_err(|error| Error::Access {
                reason: causes(&error),
                remedy: "in_cluster is for processes in a pod that has its service account's token"
                    .to_owned(),
            })?,
            Access::Kubeconfig { file, context } => {
                let unusable = |error: &dyn std::error::Error| {
                    Error::Access {
                    reason: causes(error),
                    remedy: "check the file, the context and what they refer to: `kubectl config get-contexts` shows them"
                        .to_owned(),
                }
                };
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                match file {
                    Some(file) => {
                        let read = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
                        kube::Config::from_custom_kubeconfig(read, &options).await
                    }
                    None => kube::Config::from_kubeconfig(&options).await,
                }
                .map_err(|error| unusable(&error))?
            }
        };
        access.connect_timeout = Some(CONNECT);
        let namespace = config.namespace.clone().unwrap_or_else(|| access.default_namespace.clone());
        let address = address(&access.cluster_url.to_string());
        let client = Client::try_from(access).map_err(|error| Error::Access {
            reason: causes(&error),
            remedy: "check the certificates, keys and programs that the user of the context names".to_owned(),
        })?;
        Ok(Self { client, namespace, address })
    }

    /// A cluster that a client is there for already.
    pub fn new(client: Client, namespace: impl Into<String>, address: impl Into<String>) -> Self {
        Self { client, namespace: namespace.into(), address: address.into() }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Asks until there is an answer that will not be another one later; `kube` itself tries again what a busy server refuses.
    pub(crate) async fn ask<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let mut tries = Tries::new(Pauses::default());
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let stage = match &error {
                kube::Error::Api(status) if matches!(status.code, 500 | 502) => Stage::Connected,
                kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => Stage::Connected,
                kube::Error::Service(_) => Stage::Connecting,
                _ => return Err(self.explain(what, &error)),
            };
            let Some(pause) = tries.failed(stage, None) else { return Err(self.explain(what, &error)) };
            tracing::debug!(error = %causes(&error), ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// An object, if it exists.
    pub(crate) async fn get<K>(&self, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api = self.api::<K>();
        self.ask(&format!("read {} {name}", noun::<K>()), || api.get_opt(name)).await
    }

    /// Objects of a kind.
    pub(crate) async fn list<K>(&self, parameters: &ListParams) -> Result<Vec<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api = self.api::<K>();
        let what = format!("list {}", K::plural(&()));
        Ok(self.ask(&what, || api.list(parameters)).await?.items)
    }

    /// Makes an object. One of the name that is there already is answered with `None`.
    pub(crate) async fn create<K>(&self, object: &K) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api = self.api::<K>();
        let name = object.meta().name.as_deref().unwrap_or_default();
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let create = || async {
            match api.create(&parameters, object).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
                other => other.map(Some),
            }
        };
        self.ask(&format!("create {} {name}", noun::<K>()), create).await
    }

    /// Makes an object, or brings one of the name to what is wanted (server-side apply).
    pub(crate) async fn apply<K>(&self, object: &K) -> Result<K, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api = self.api::<K>();
        let name = object.meta().name.as_deref().unwrap_or_default();
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(object);
        let apply = || api.patch(name, &parameters, &patch);
        self.ask(&format!("write {} {name}", noun::<K>()), apply).await
    }

    /// Changes fields of an object (RFC 7386).
    pub(crate) async fn change<K>(&self, name: &str, change: &serde_json::Value) -> Result<K, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api = self.api::<K>();
        let patch = Patch::Merge(change);
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.ask(&format!("change {} {name}", noun::<K>()), || api.patch(name, &parameters, &patch)).await
    }

    /// Deletes an object with all that it owns; one that does not exist is deleted already.
    pub(crate) async fn delete<K>(&self, name: &str) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api = self.api::<K>();
        let delete = || async {
            match api.delete(name, &DeleteParams::foreground()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                other => other.map(|_| ()),
            }
        };
        self.ask(&format!("delete {} {name}", noun::<K>()), delete).await
    }

    /// Fails unless all of these rights are there, with all that are missing.
    pub(crate) async fn check(&self, rights: &[Right]) -> Result<(), Error> {
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let reviews = rights.iter().map(|right| {
            let (resource, subresource) = match right.resource.split_once('/') {
                Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
                None => (right.resource, None),
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        namespace: Some(self.namespace.clone()),
                        verb: Some(right.verb.to_owned()),
                        group: Some(right.group.to_owned()),
                        resource: Some(resource.to_owned()),
                        subresource,
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let api = &api;
            async move {
                let parameters = PostParams::default();
                self.ask("check what may be done in the cluster", || api.create(&parameters, &review)).await
            }
        });
        let mut missing = Vec::new();
        for (right, answer) in rights.iter().zip(futures::future::join_all(reviews).await) {
            match answer {
                Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {}
                Ok(_) => missing.push(*right),
                // Where nobody may ask, what is missing shows when it is needed.
                Err(Error::Forbidden { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = missing.iter().map(|right| format!("{} {}", right.verb, right.named())).collect();
        Err(Error::MissingRights {
            namespace: self.namespace.clone(),
            missing: list.join(", "),
            remedy: grant(&missing, &self.namespace, None),
        })
    }

    /// What an error means.
    pub(crate) fn explain(&self, what: &str, error: &kube::Error) -> Error {
        let (what, cluster) = (what.to_owned(), self.address.clone());
        match error {
            kube::Error::Api(status) => self.explain_status(what, status),
            kube::Error::Auth(error) => Error::Access {
                reason: causes(error),
                remedy: "log in to the cluster again, or check the program that the kubeconfig names for it"
                    .to_owned(),
            },
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
                Error::Unreachable { what, cluster, reason: root(error) }
            }
            other => Error::Refused { what, cluster, reason: causes(other) },
        }
    }

    fn explain_status(&self, what: String, status: &Status) -> Error {
        let (cluster, namespace) = (self.address.clone(), self.namespace.clone());
        let reason = status.message.trim().trim_end_matches('.').to_owned();
        if reason.contains("exceeded quota") {
            return Error::Quota { what, namespace, reason };
        }
        let is_rule =
            ["admission webhook", "denied the request", "violates PodSecurity", "ValidatingAdmissionPolicy"];
        if is_rule.iter().any(|words| reason.contains(words)) {
            return Error::Admission { what, reason };
        }
        match status.code {
            401 => Error::Unauthenticated { what, cluster, reason },
            403 => forbidden(what, &reason, namespace).unwrap_or_else(|what| Error::Refused {
                what,
                cluster,
                reason,
            }),
            404 if reason.starts_with("namespaces ") => Error::NoNamespace { what, namespace },
            429 | 500..=599 => {
                let reason = if reason.is_empty() { status.code.to_string() } else { reason };
                Error::Unavailable { what, cluster, reason }
            }
            _ => Error::Refused { what, cluster, reason },
        }
    }
}

impl Right {
    fn named(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// A kind in a sentence.
fn noun<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}

/// A URL without a path of `/`.
fn address(url: &str) -> String {
    format!("the cluster at {}", url.trim_end_matches('/'))
}

/// Reads what a server says that refuses: `jobs.batch "x" is forbidden: User "u" cannot create resource "jobs" in API group "batch"
/// in the namespace "n"`.
fn forbidden(what: String, message: &str, namespace: String) -> Result<Error, String> {
    let quoted = |after: &str| {
        let (_, rest) = message.split_once(after)?;
        let (text, _) = rest.split_once('"')?;
        Some(text.to_owned())
    };
    if message.contains("attempting to grant RBAC permissions not currently held") {
        return Ok(Error::Forbidden {
            what: what.into(),
            subject: quoted("user \"").unwrap_or_else(|| "the user".to_owned()).into(),
            verb: "grant".into(),
            resource: "rights that it does not have itself".into(),
            namespace: namespace.into(),
            remedy: "register the orchestrator with --service_account=NAME, one that has the rights that docs/kubernetes.md lists".into(),
        });
    }
    let (Some(verb), Some(resource)) = (
        message.split_once(" cannot ").and_then(|(_, rest)| rest.split_whitespace().next()),
        quoted("resource \""),
    ) else {
        return Err(what);
    };
    let user = quoted("User \"");
    let group = quoted("API group \"").filter(|group| !group.is_empty());
    let named = group.map_or_else(|| resource.clone(), |group| format!("{resource}.{group}"));
    let remedy =
        grant_command(&[verb], std::slice::from_ref(&named), &namespace, user.as_deref(), "longshore");
    Ok(Error::Forbidden {
        what: what.into(),
        subject: user.unwrap_or_else(|| "the user".to_owned()).into(),
        verb: verb.into(),
        resource: named.into(),
        namespace: namespace.into(),
        remedy: remedy.into(),
    })
}

/// The commands that grant rights: one role for each set of verbs.
fn grant(rights: &[Right], namespace: &str, user: Option<&str>) -> String {
    let mut by_resource: std::collections::BTreeMap<String, Vec<&str>> = std::collections::BTreeMap::new();
    for right in rights {
        by_resource.entry(right.named()).or_default().push(right.verb);
    }
    let mut by_verbs: std::collections::BTreeMap<Vec<&str>, Vec<String>> = std::collections::BTreeMap::new();
    for (resource, verbs) in by_resource {
        by_verbs.entry(verbs).or_default().push(resource);
    }
    let commands = by_verbs.iter().enumerate().map(|(index, (verbs, resources))| {
        let name = if index == 0 { "longshore".to_owned() } else { format!("longshore-{}", index + 1) };
        grant_command(verbs, resources, namespace, user, &name)
    });
    commands.collect::<Vec<_>>().join("; ")
}

fn grant_command(
    verbs: &[&str],
    resources: &[String],
    namespace: &str,
    user: Option<&str>,
    name: &str,
) -> String {
    let subject = match user {
        Some(user) => match user.strip_prefix("system:serviceaccount:") {
            Some(account) => format!("--serviceaccount={account}"),
            None => format!("--user={user}"),
        },
        None => "--user=USER".to_owned(),
    };
    format!(
        "kubectl create role {name} --namespace={namespace} --verb={} --resource={} && kubectl create rolebinding {name} \
         --namespace={namespace} --role={name} {subject}",
        verbs.join(","),
        resources.join(",")
    )
}

/// An error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

/// The innermost cause, which says most.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str) -> String {
        forbidden("create Job r".to_owned(), message, "ml".to_owned()).unwrap().to_string()
    }

    #[test]
    fn a_missing_right_comes_with_the_command_that_grants_it() {
        let text = refusal(
            "jobs.batch is forbidden: User \"eve\" cannot create resource \"jobs\" in API group \"batch\" in the namespace \"ml\"",
        );
        assert_eq!(
            text,
            "cannot create Job r: eve may not create jobs.batch in namespace ml; whoever looks after the cluster grants it with: \
             kubectl create role longshore --namespace=ml --verb=create --resource=jobs.batch && kubectl create rolebinding \
             longshore --namespace=ml --role=longshore --user=eve"
        );
        let text = refusal(
            "pods is forbidden: User \"system:serviceaccount:ml:runner\" cannot list resource \"pods\" in API group \"\" in the \
             namespace \"ml\"",
        );
        assert!(
            text.contains("list pods in namespace ml") && text.ends_with("--serviceaccount=ml:runner"),
            "{text}"
        );
    }

    #[test]
    fn rights_with_the_same_verbs_share_a_role() {
        let right = |resource, verb| Right { group: "", resource, verb };
        let rights = [right("pods", "list"), right("events", "list"), right("secrets", "create")];
        let text = grant(&rights, "ml", None);
        assert_eq!(text.matches("create rolebinding").count(), 2, "{text}");
        assert!(text.contains("--verb=list --resource=events,pods "), "{text}");
    }

    #[test]
    fn what_is_no_missing_right_is_told_as_it_is() {
        assert!(forbidden(String::new(), "account locked", "ml".to_owned()).is_err());
    }
}
