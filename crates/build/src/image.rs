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
    if let Some(labels) = settings.labels.as_ref().filter(|labels| !labels.is_empty()) {
        process.labels.get_or_insert_default().extend(labels.clone());
    }
    // After all else, so that nothing here takes its place: whoever runs the image sees it, and no one before.
    for (name, value) in settings.runtime_environment.iter().flatten() {
        process.set_env(name, value);
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

#[cfg(test)]
mod tests {
    use longshore_oci::Digest;
    use longshore_python::target::Glibc;
    use serde_json::json;

    use super::*;
    use crate::parent::{Facts, PythonFacts};

    fn parent() -> Parent {
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Env": ["PATH=/bin", "B=parent"], "Labels": {"maintainer": "us", "a": "old"}},
        });
        let config = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
        Parent {
            name: "parent:1".to_owned(),
            title: "parent:1".to_owned(),
            digest: Digest::of(b"parent"),
            manifest: Manifest::image(Descriptor::of(MediaType::Config, &config.to_bytes()), Vec::new()),
            config,
            python: PythonFacts {
                version: "3.11.2".parse().unwrap(),
                executable: "/usr/bin/python3".to_owned(),
                glibc: Glibc { major: 2, minor: 36 },
            },
            distributions: Vec::new(),
            facts: Facts::Known,
            source: None,
            tag: None,
            debian: None,
        }
    }

    #[test]
    fn labels_are_added_and_the_environment_of_containers_comes_last() {
        let texts = |entries: &[(&str, &str)]| {
            Some(entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let settings = DockerSettings {
            environment: texts(&[("A", "build"), ("B", "build"), ("C", "build")]),
            runtime_environment: texts(&[("C", "run"), ("PYTHONPATH", "/mine")]),
            labels: texts(&[("a", "new"), ("b", "new")]),
            ..DockerSettings::default()
        };
        let (config, _) = assemble(&parent(), &[], &settings, "1970-01-01T00:00:00Z");
        let process = &config.config;
        let values = ["A", "B", "C", "PYTHONPATH", "PATH"].map(|name| process.env(name).unwrap());
        assert_eq!(values, ["build", "build", "run", "/mine", "/opt/venv/bin:/bin"]);
        let labels: Vec<_> = process.labels.as_ref().unwrap().iter().collect();
        assert_eq!(format!("{labels:?}"), r#"[("a", "new"), ("b", "new"), ("maintainer", "us")]"#);
        let (config, _) = assemble(&parent(), &[], &DockerSettings::default(), "1970-01-01T00:00:00Z");
        assert_eq!(config.config.labels, parent().config.config.labels);
    }
}
