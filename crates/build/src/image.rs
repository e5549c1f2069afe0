//! The image itself: its configuration and manifest, from the parent's and the layers.

use longshore_oci::{Descriptor, ImageConfig, Manifest, MediaType, annotation};
use longshore_pipeline::DockerSettings;

use crate::{layer::LayerRecord, parent::Parent};

/// Where the code is in an image (DESIGN §5, "Image layout").
pub(crate) const APP: &str = "/app";
/// Where the virtual environment is in an image.
pub(crate) const VENV: &str = "/opt/venv";
/// What Docker takes for `PATH` where an image has none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layer of the image, with its line in the image's history.
#[derive(Clone, Debug)]
pub(crate) struct ImageLayer {
    /// The layer.
    pub(crate) record: LayerRecord,
    /// What it holds.
    pub(crate) title: String,
}

/// Assembles an image: the parent's layers below `layers`. A pure function, so the same parts give the same digest;
/// `created` is the one time in it (RFC 3339, from SOURCE_DATE_EPOCH).
pub(crate) fn assemble(
    parent: &Parent,
    layers: &[ImageLayer],
    settings: &DockerSettings,
    created: &str,
) -> (ImageConfig, Manifest) {
    let mut config = parent.config.clone();
    config.created = Some(created.to_owned());
    let process = &mut config.config;
    let path = process.env("PATH").unwrap_or(DEFAULT_PATH).to_owned();
    process.set_env("PATH", &format!("{VENV}/bin:{path}"));
    process.set_env("VIRTUAL_ENV", VENV);
    process.set_env("PYTHONPATH", APP);
    for (name, value) in settings.environment.iter().flatten() {
        process.set_env(name, value);
    }
    process.working_dir = Some(APP.to_owned());
    if let Some(user) = &settings.user {
        process.user = Some(user.clone());
    }
    // An OCI manifest with Docker's media types in it is refused by some registries; the bytes are the same.
    let mut descriptors: Vec<_> = parent
        .manifest
        .layers
        .iter()
        .map(|layer| Descriptor { media_type: layer.media_type.to_oci(), ..layer.clone() })
        .collect();
    for layer in layers {
        config.push_layer(layer.record.diff_id, format!("longshore: {}", layer.title));
        descriptors.push(layer.record.descriptor());
    }
    let mut manifest = Manifest::image(Descriptor::of(MediaType::Config, &config.to_bytes()), descriptors);
    manifest.annotations.insert(annotation::CREATED.to_owned(), created.to_owned());
    manifest.annotations.insert(annotation::BASE_DIGEST.to_owned(), parent.digest.to_string());
    manifest.annotations.insert(annotation::BASE_NAME.to_owned(), parent.name.clone());
    (config, manifest)
}
