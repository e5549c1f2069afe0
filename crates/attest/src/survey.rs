//! The packages of an image that anybody made, found by reading its layers.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
};

use longshore_layer::{
    EntryPath, Kind,
    read::{Change, Compression, LayerReader},
};
use longshore_oci::{Descriptor, Digest, ImageConfig, Manifest};
use longshore_python::distribution::{Part, Place};
use serde::{Deserialize, Serialize};

use crate::{AttestError, OsRelease, Package, dpkg, metadata};

/// The most that is read of `os-release`.
const LARGEST_OS_RELEASE: u64 = 64 << 10;
/// The most packages that an image may list; large ones have some thousands.
pub(crate) const MOST_PACKAGES: usize = 1 << 17;
/// The longest name or version, in bytes; what has a longer one is no package.
pub(crate) const LONGEST: usize = 512;

/// Reads an image's layers one by one, lowest first, and keeps the packages that are left of them.
///
/// Of each file only one that lists packages is looked into; what an upper layer replaces or hides does not count.
#[derive(Debug, Default)]
pub struct Survey {
    /// What the files say, by path, and the layer that they are of.
    files: BTreeMap<String, (usize, Listed)>,
    layers: usize,
    /// How many packages were listed, in all layers.
    listed: usize,
}

/// What was found in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// Its distribution.
    pub os: Option<OsRelease>,
    /// Its packages.
    pub packages: Vec<Package>,
}

/// What a file says.
#[derive(Clone, Debug)]
enum Listed {
    Packages(Vec<Package>),
    Os(OsRelease),
}

/// The files that are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Dpkg,
    Metadata,
    OsRelease,
}

impl Source {
    fn of(path: &str) -> Option<Self> {
        match path {
            "var/lib/dpkg/status" => return Some(Self::Dpkg),
            "etc/os-release" | "usr/lib/os-release" => return Some(Self::OsRelease),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("var/lib/dpkg/status.d/") {
            let is_list = !name.contains('/') && !name.ends_with(".md5sums");
            return is_list.then_some(Self::Dpkg);
        }
        let place = Place::of(path).filter(|place| place.part == Part::Metadata);
        place.map(|_| Self::Metadata)
    }
}

impl Survey {
    /// Reads a whole image; `open` gives the bytes of a layer. Every layer is compared with the configuration.
    pub fn image<R: Read>(
        manifest: &Manifest,
        config: &ImageConfig,
        mut open: impl FnMut(&Descriptor) -> Result<R, AttestError>,
    ) -> Result<Surveyed, AttestError> {
        let mut survey = Self::default();
        for (layer, diff_id) in layers(manifest, config)? {
            survey.layer(layer, &diff_id, open(layer)?)?;
        }
        Ok(survey.finish())
    }

    /// Reads the next layer, to its end, and compares it with its diff_id.
    pub fn layer(
        &mut self,
        layer: &Descriptor,
        diff_id: &Digest,
        bytes: impl Read,
    ) -> Result<(), AttestError> {
        let media_type = &layer.media_type;
        let compression = Compression::of(media_type).ok_or_else(|| AttestError::LayerType {
            layer: layer.digest,
            media_type: media_type.to_string(),
        })?;
        let found = self.read(layer.digest, bytes, compression)?;
        if found != *diff_id {
            return Err(AttestError::DiffId { layer: layer.digest, expected: *diff_id, found });
        }
        Ok(())
    }

    fn read(
        &mut self,
        digest: Digest,
        bytes: impl Read,
        compression: Compression,
    ) -> Result<Digest, AttestError> {
        let wrong = |source| AttestError::Layer { layer: digest, source };
        self.layers += 1;
        let mut reader = LayerReader::new(bytes, compression).map_err(wrong)?;
        while let Some(mut entry) = reader.next_entry().map_err(wrong)? {
            match entry.change().clone() {
                Change::Whiteout(path) => self.hide(Some(&path), Reach::Below),
                Change::Opaque(path) => self.hide(path.as_ref(), Reach::Below),
                Change::Put(put) => {
                    let path = put.path.as_str();
                    match &put.kind {
                        Kind::Directory => {
                            self.files.remove(path);
                        }
                        Kind::File => {
                            self.hide(Some(&put.path), Reach::All);
                            if let Some(source) = Source::of(path) {
                                let listed = read(&mut entry, source, path)?;
                                self.count(&listed, path)?;
                                self.files.insert(path.to_owned(), (self.layers, listed));
                            }
                        }
                        Kind::HardLink { target } => {
                            let listed = self.files.get(target.as_str()).cloned();
                            self.hide(Some(&put.path), Reach::All);
                            if let (Some(listed), Some(_)) = (listed, Source::of(path)) {
                                self.files.insert(path.to_owned(), listed);
                            }
                        }
                        _ => self.hide(Some(&put.path), Reach::All),
                    }
                }
            }
        }
        Ok(reader.finish().map_err(wrong)?.diff_id)
    }

    /// Keeps an image that lists packages without end from filling the memory.
    fn count(&mut self, listed: &Listed, path: &str) -> Result<(), AttestError> {
        if let Listed::Packages(packages) = listed {
            self.listed += packages.len();
        }
        if self.listed > MOST_PACKAGES {
            let why = format!("with it, the image lists more than {MOST_PACKAGES} packages");
            return Err(AttestError::File { path: format!("/{path}"), why });
        }
        Ok(())
    }

    /// Forgets what is at a path, and below it: in layers below this one, or in this one too.
    fn hide(&mut self, path: Option<&EntryPath>, reach: Reach) {
        let this = self.layers;
        let gone = |layer: usize| reach == Reach::All || layer < this;
        let Some(path) = path.map(EntryPath::as_str) else {
            self.files.retain(|_, (layer, _)| !gone(*layer));
            return;
        };
        let below = format!("{path}/");
        let places = self.files.range(path.to_owned()..);
        // Between a path and what is below it, others such as `path-more` may stand.
        let places = places.take_while(|(place, _)| place.starts_with(path));
        let places = places.filter(|(place, (layer, _))| {
            gone(*layer) && (place.as_str() == path || place.starts_with(&below))
        });
        let places: Vec<String> = places.map(|(place, _)| place.clone()).collect();
        for place in places {
            self.files.remove(&place);
        }
    }

    /// What is left when all layers are read.
    pub fn finish(self) -> Surveyed {
        let mut surveyed = Surveyed::default();
        for (_, (_, listed)) in self.files {
            match listed {
                Listed::Packages(packages) => surveyed.packages.extend(packages),
                // `etc` comes first, and is what the administrator says.
                Listed::Os(os) => {
                    surveyed.os.get_or_insert(os);
                }
            }
        }
        surveyed.packages.sort();
        surveyed
    }
}

/// The layers of an image with their diff_ids, lowest first.
pub fn layers<'a>(
    manifest: &'a Manifest,
    config: &ImageConfig,
) -> Result<Vec<(&'a Descriptor, Digest)>, AttestError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(AttestError::LayerCount { layers: manifest.layers.len(), diff_ids: diff_ids.len() });
    }
    Ok(manifest.layers.iter().zip(diff_ids.iter().copied()).collect())
}

/// Of which layers something is hidden.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Of those below.
    Below,
    /// Of this one too: a path stands for its last entry.
    All,
}

fn read(entry: &mut impl BufRead, source: Source, path: &str) -> Result<Listed, AttestError> {
    let wrong =
        |error: std::io::Error| AttestError::File { path: format!("/{path}"), why: error.to_string() };
    Ok(match source {
        Source::Dpkg => Listed::Packages(dpkg::packages(entry, path).map_err(wrong)?),
        Source::Metadata => {
            Listed::Packages(metadata::package(entry, path).map_err(wrong)?.into_iter().collect())
        }
        Source::OsRelease => {
            let mut text = Vec::new();
            entry.take(LARGEST_OS_RELEASE).read_to_end(&mut text).map_err(wrong)?;
            Listed::Os(OsRelease::parse(&String::from_utf8_lossy(&text)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_layer::{Entry, LayerWriter};
    use longshore_oci::MediaType;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn metadata(name: &str) -> (String, Vec<u8>) {
        let text = format!("Name: {name}\nVersion: 1.0\n\n");
        (format!("venv/{name}-1.0.dist-info/METADATA"), text.into_bytes())
    }

    fn read(survey: &mut Survey, write: impl FnOnce(&mut LayerWriter<Vec<u8>>)) {
        let mut writer = LayerWriter::new(Vec::new());
        write(&mut writer);
        let (layer, summary) = writer.finish().unwrap();
        let descriptor = Descriptor::of(MediaType::LayerGzip, &layer);
        survey.layer(&descriptor, &summary.diff_id, &layer[..]).unwrap();
    }

    fn files(survey: &mut Survey, files: &[(String, Vec<u8>)]) {
        read(survey, |writer| {
            for (name, content) in files {
                writer.file(&Entry::file(path(name), 0o644), content).unwrap();
            }
        });
    }

    fn names(survey: Survey) -> Vec<String> {
        survey.finish().packages.into_iter().map(|package| package.name).collect()
    }

    fn three() -> Survey {
        let mut survey = Survey::default();
        files(&mut survey, &[metadata("a"), metadata("b"), metadata("c")]);
        survey
    }

    #[test]
    fn a_whiteout_hides_a_package_and_nothing_beside_it() {
        let mut survey = three();
        read(&mut survey, |writer| writer.whiteout(&path("venv/b-1.0.dist-info")).unwrap());
        assert_eq!(names(survey), ["a", "c"]);
        let mut survey = three();
        read(&mut survey, |writer| writer.whiteout(&path("ven")).unwrap());
        assert_eq!(names(survey), ["a", "b", "c"]);
    }

    #[test]
    fn an_opaque_directory_keeps_what_its_own_layer_has() {
        let mut survey = three();
        read(&mut survey, |writer| {
            writer.opaque(Some(&path("venv"))).unwrap();
            let (name, content) = metadata("d");
            writer.file(&Entry::file(path(&name), 0o644), &content).unwrap();
        });
        assert_eq!(names(survey), ["d"]);
    }

    #[test]
    fn what_replaces_a_directory_takes_its_packages_away() {
        let mut survey = three();
        read(&mut survey, |writer| {
            writer.file(&Entry::file(path("venv/a-1.0.dist-info"), 0o644), b"").unwrap();
        });
        assert_eq!(names(survey), ["b", "c"]);
    }

    #[test]
    fn a_layer_that_is_not_the_images_is_refused() {
        let (layer, _) = LayerWriter::new(Vec::new()).finish().unwrap();
        let descriptor = Descriptor::of(MediaType::LayerGzip, &layer);
        let error = Survey::default().layer(&descriptor, &Digest::of("another"), &layer[..]).unwrap_err();
        assert!(matches!(error, AttestError::DiffId { .. }), "{error}");
    }

    #[test]
    fn the_upper_layers_list_holds() {
        let status = |name: &str| {
            let text =
                format!("Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n");
            ("var/lib/dpkg/status".to_owned(), text.into_bytes())
        };
        let mut survey = Survey::default();
        files(&mut survey, &[status("old")]);
        files(
            &mut survey,
            &[("usr/lib/os-release".to_owned(), b"ID=debian\nVERSION_ID=12\n".to_vec()), status("new")],
        );
        let found = survey.finish();
        assert_eq!(found.packages.len(), 1);
        assert_eq!(found.packages[0].name, "new");
        assert_eq!(found.os.unwrap().distro().as_deref(), Some("debian-12"));
    }
}
