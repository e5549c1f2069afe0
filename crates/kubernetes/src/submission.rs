//! Submitting: the owner, suspended, then all that it owns.

use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt as _, api::ListParams};
use longshore_auth::storage::Lifetime;
use longshore_orchestrator::{Purpose, Term};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use crate::{Cluster, Error, Manifests, diagnosis::timestamp, label};

/// A submission that has not ended for so long was given up, and is taken away by the next.
const ABANDONED: SignedDuration = SignedDuration::from_mins(15);

/// Makes the owner, suspended, then all that it owns, and lets it go. If anything fails, the owner is deleted, and with it what
/// was made.
pub(crate) async fn submit_all<K>(cluster: &Cluster, manifests: &Manifests, mut owner: K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let token = Uuid::now_v7().simple().to_string();
    owner.labels_mut().insert(label::SUBMITTING.to_owned(), token.clone());
    let foreign = || Error::Foreign {
        run: manifests.name.clone(),
        object: format!("{} {}", K::kind(&()), manifests.name),
    };
    let made = if let Some(made) = cluster.create(&owner).await? {
        made
    } else {
        // The answer to an earlier try may have been lost.
        let found: Option<K> = cluster.get(&manifests.name).await?;
        found.filter(|found| found.labels().get(label::SUBMITTING) == Some(&token)).ok_or_else(foreign)?
    };
    let submitted = async {
        submit_owned(cluster, manifests, &made).await?;
        let change = json!({"metadata": {"labels": {label::SUBMITTING: null}}, "spec": {"suspend": false}});
        cluster.change::<K>(&manifests.name, &change).await
    };
    if let Err(error) = submitted.await {
        if let Err(other) = cluster.delete::<K>(&manifests.name).await {
            tracing::warn!(error = %other, name = manifests.name, "what was submitted stays; the next submission takes it away");
        }
        return Err(error);
    }
    Ok(())
}

async fn submit_owned<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    manifests: &Manifests,
    owner: &K,
) -> Result<(), Error> {
    let owner = OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: manifests.name.clone(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let plan = manifests.plan_map(Some(&owner));
    let secrets: Vec<_> = manifests.secrets(Some(&owner)).collect();
    let rights = async {
        let Some((account, role, binding)) = manifests.rights(&owner) else { return Ok(()) };
        let (account, role) = futures::join!(cluster.create(&account), cluster.create(&role));
        account?;
        role?;
        // What a binding grants is compared with what its maker has, so its role has to be there.
        cluster.create(&binding).await.map(|_| ())
    };
    // All are waited for, also when one fails: what is under way then would come after the owner's deletion.
    let (plan, secrets, rights) = futures::join!(
        cluster.create(&plan),
        futures::future::join_all(secrets.iter().map(|secret| cluster.create(secret))),
        rights,
    );
    plan?;
    secrets.into_iter().collect::<Result<Vec<_>, Error>>()?;
    rights
}

/// Takes away what submissions left that were given up half way. What cannot be taken away now is by the next.
pub(crate) async fn sweep<K>(cluster: &Cluster)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let now = Timestamp::now();
    let submitting = ListParams::default().labels(label::SUBMITTING);
    let found = cluster.list::<K>(&submitting).await.unwrap_or_default();
    for object in found {
        let created = object.meta().creation_timestamp.as_ref().map(timestamp);
        let is_abandoned = created.is_some_and(|created| now.duration_since(created) > ABANDONED);
        if is_abandoned && let Err(error) = cluster.delete::<K>(&object.name_any()).await {
            tracing::debug!(%error, "an abandoned submission stays");
        }
    }
}

/// Credentials that expire cannot be renewed for runs that begin when nobody watches.
pub fn refuse_expiring<'a>(terms: impl IntoIterator<Item = &'a Term>) -> Result<(), Error> {
    let Some(term) = terms.into_iter().find(|term| !term.is_lasting()) else { return Ok(()) };
    let expires = match term.lifetime {
        Lifetime::Until(expires) => Some(expires.to_string()),
        Lifetime::Unlimited | Lifetime::Unknown => None,
    };
    let (object, origin) = (term.object.clone(), term.origin.clone());
    Err(match term.purpose {
        Purpose::Artifacts => Error::ExpiringStoreCredentials { store: object, origin, expires },
        Purpose::Images => {
            Error::ExpiringCredentials { host: object, origin, expires: expires.unwrap_or_default() }
        }
    })
}
