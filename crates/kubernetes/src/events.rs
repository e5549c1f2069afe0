//! What the cluster reports of what waits: often the only place where the reason is.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::{ResourceExt, api::ListParams};

use crate::{Cluster, Plan, label};

/// For how many steps that wait it is asked why.
const ASKED: usize = 8;

/// What the cluster reported of steps that wait, by the step; of the controller by the empty name.
pub(crate) struct Events(pub(crate) BTreeMap<String, Vec<Event>>);

impl Events {
    pub(crate) async fn of(
        cluster: &Cluster,
        own: &Job,
        controllers: &[Pod],
        plan: &Plan,
        run: &str,
        jobs: &BTreeMap<String, Job>,
        pods: &[Pod],
    ) -> Self {
        let waits = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, None | Some("Pending"))
        };
        let mut objects: Vec<(String, String)> = Vec::new();
        if own.status.as_ref().is_none_or(|status| status.active.is_none())
            || controllers.iter().any(|pod| waits(&pod))
        {
            let names = controllers.iter().filter(waits).map(ResourceExt::name_any);
            objects.extend(names.chain([own.name_any()]).map(|name| (String::new(), name)));
        }
        let made = plan.steps.iter().filter_map(|step| Some((step, jobs.get(&step.job_name(run))?)));
        let waiting = made.filter(|(_, job)| {
            job.status
                .as_ref()
                .is_none_or(|status| status.succeeded.is_none() && status.ready.unwrap_or(0) == 0)
        });
        for (step, job) in waiting.take(ASKED) {
            let of_step = |pod: &&Pod| pod.labels().get(label::STEP) == Some(&step.part);
            let names = pods.iter().filter(of_step).filter(waits).map(ResourceExt::name_any);
            objects.extend(names.chain([job.name_any()]).map(|name| (step.name.clone(), name)));
        }
        let asked = objects.into_iter().map(|(step, object)| async move {
            let of_object = ListParams::default().fields(&format!("involvedObject.name={object}"));
            // They make sentences better; without the right to read them, there are none.
            (step, cluster.list::<Event>(&of_object).await.unwrap_or_default())
        });
        let mut events: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for (step, of_object) in futures::future::join_all(asked).await {
            events.entry(step).or_default().extend(of_object);
        }
        for of_step in events.values_mut() {
            of_step.sort_by_key(|event| event.last_timestamp.clone());
        }
        Self(events)
    }
}
