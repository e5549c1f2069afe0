//! Images that are used as they are.

use longshore_oci::{Arch, Reference};
use longshore_pipeline::DockerSettings;
use serde_json::json;

use crate::{BuildError, Builder, Built, Event, Observer, Request, parent::Reading, plan::PlannedParent};

impl Builder {
    /// The parent image in the place of one that is built: found in its registry, known by its digest.
    pub(crate) async fn used(&self, request: &Request, observer: Observer<'_>) -> Result<Built, BuildError> {
        let arch = Arch::host().ok_or(BuildError::Machine)?;
        let name = request.settings.parent_image.as_deref().ok_or(BuildError::NothingToUse)?;
        let image = Reference { digest: None, ..name.parse()? };
        // Nothing is added to it, whatever other levels of the settings say.
        let settings = DockerSettings { apt_packages: None, ..request.settings.clone() };
        let request = Request { settings, ..request.clone() };
        let PlannedParent::Ready(parent) =
            self.plan_parent(&request, arch, Reading::Manifests, observer).await?
        else {
            return Err(BuildError::NothingToUse);
        };
        observer(Event::ImageUsed { image: image.at(parent.digest) });
        Ok(Built {
            image,
            digest: parent.digest,
            inputs: json!({
                "parent": {"name": parent.name, "digest": parent.digest}, "settings": request.settings,
                "longshore": env!("CARGO_PKG_VERSION"),
            }),
            manifest: parent.manifest,
            config: parent.config,
            platforms: Vec::new(),
        })
    }
}
