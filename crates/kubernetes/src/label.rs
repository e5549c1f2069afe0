//! The labels and annotations by which longshore finds its objects again.

use std::collections::BTreeMap;

/// The run that an object belongs to.
pub const RUN: &str = "longshore.dev/run";
/// The step that a Job or pod carries out, made valid. The name as it is in the pipeline is an annotation of the same key.
pub const STEP: &str = "longshore.dev/step";
/// The pipeline, made valid. The name as it is in the SDK is an annotation of the same key.
pub const PIPELINE: &str = "longshore.dev/pipeline";
/// What an object does.
pub const ROLE: &str = "longshore.dev/role";
/// The role of the Job that looks after a run.
pub const CONTROLLER: &str = "controller";
/// The role of a step's Job and pods.
pub const STEP_ROLE: &str = "step";
/// On the controller's Job, while what it needs is still being submitted.
pub const SUBMITTING: &str = "longshore.dev/submitting";
/// An annotation of the controller's Job: when somebody wished the run to end.
pub const CANCELLED: &str = "longshore.dev/cancelled";
/// An annotation of a pull secret and of the controller's Job: when the credential with which images are pulled expires.
pub const EXPIRES: &str = "longshore.dev/expires";
/// An annotation of the controller's Job: when that expires with which the steps reach their artifact store.
pub const STORE_EXPIRES: &str = "longshore.dev/store-expires";
/// An annotation: where outputs are kept.
pub const STORE: &str = "longshore.dev/artifact-store";
/// Who made an object, as the Kubernetes documentation recommends to say it.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "longshore");

/// Labels of an object with this role.
pub(crate) fn labels(role: &str, pipeline: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY.0, MANAGED_BY.1), (ROLE, role), (PIPELINE, pipeline)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
