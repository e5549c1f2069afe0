//! An image as its layers lie over each other.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    layer::{Content, LayerContents, Nature},
    owner::{Owners, PackageShare},
};

/// The files of an image that show, whose they are, and what is hidden below them.
#[derive(Clone, Debug)]
pub struct Anatomy {
    /// The layers, lowest first.
    pub layers: Vec<LayerShare>,
    /// What lower layers have that does not show, by the layers, lowest first.
    pub hidden: Vec<Hidden>,
    pub(super) files: BTreeMap<String, Shown>,
    pub(super) owners: Owners,
}

/// What a layer contributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerShare {
    /// The bytes of its files.
    pub files_size: u64,
    /// How many files it has.
    pub files: usize,
    /// The bytes of those of its files that do not show, because a layer above removes or replaces them.
    pub hidden: u64,
}

/// Files of one layer that another one removes or replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// The layer that has them, counted from 0.
    pub below: usize,
    /// The layer that hides them.
    pub above: usize,
    /// How many they are.
    pub files: usize,
    /// Their bytes.
    pub size: u64,
    /// The largest of them.
    pub largest: String,
    #[serde(skip)]
    largest_size: u64,
}

/// A file that shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) layer: usize,
    pub(super) size: u64,
    pub(super) hash: u128,
    pub(super) nature: Nature,
    /// Its own bytes, not a link.
    pub(super) regular: bool,
}

/// The layers of an image while they are laid over each other.
struct Stack {
    files: BTreeMap<String, Shown>,
    layers: Vec<LayerShare>,
    hidden: BTreeMap<(usize, usize), Hidden>,
}

impl Anatomy {
    /// Lays the layers over each other, lowest first.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a LayerContents>) -> Self {
        let mut stack = Stack { files: BTreeMap::new(), layers: Vec::new(), hidden: BTreeMap::new() };
        let (mut claims, mut debian) = (Vec::new(), Vec::new());
        for (index, layer) in layers.into_iter().enumerate() {
            stack.lay(layer);
            claims.extend(layer.claims.iter().map(|claim| (index, claim)));
            debian.extend(layer.debian.iter().map(|listed| (index, listed)));
        }
        let Stack { files, layers, hidden } = stack;
        let shows = |layer: usize, path: &str| files.get(path).is_some_and(|file| file.layer == layer);
        claims.retain(|(layer, claim)| shows(*layer, &claim.list));
        debian.retain(|(layer, (file, ..))| shows(*layer, file));
        let versions = debian.into_iter().map(|(_, (_, name, version))| (name.as_str(), version.as_str()));
        let owners = Owners::new(claims.into_iter().map(|(_, claim)| claim), &versions.collect());
        Self { layers, hidden: hidden.into_values().collect(), files, owners }
    }

    /// The bytes of the files that show.
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// Whether the image has a file or a link at a path without the first slash, links on the way not followed.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The names in a directory whose own files or links begin with `prefix`, e.g. `usr/bin/python3`.
    pub fn beginning_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.files
            .range(prefix.to_owned()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(prefix))
    }

    /// The version of a Debian package, if that is installed.
    pub fn debian_version(&self, name: &str) -> Option<&str> {
        self.owners.debian_version(name)
    }

    /// The bytes of each package, largest first; `code` is the folder of the image's own code, if it has one.
    pub fn packages(&self, code: Option<&str>) -> Vec<PackageShare> {
        let mut shares: BTreeMap<usize, PackageShare> = BTreeMap::new();
        let mut rest = [PackageShare::code(), PackageShare::rest()];
        let mut layers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let code = code.map(|code| format!("{}/", code.trim_matches('/')));
        for (path, file) in &self.files {
            let share = match self.owners.owner(path) {
                Some(owner) => {
                    layers.entry(owner).or_default().insert(file.layer);
                    shares.entry(owner).or_insert_with(|| self.owners.package(owner).clone())
                }
                None if code.as_ref().is_some_and(|code| path.starts_with(code)) => &mut rest[0],
                None => &mut rest[1],
            };
            share.size += file.size;
            share.files += 1;
            if super::extension(path) == Some("pyc") {
                share.bytecode += file.size;
            }
        }
        for (owner, layers) in layers {
            if let Some(share) = shares.get_mut(&owner) {
                share.layers = layers.into_iter().collect();
            }
        }
        let mut shares: Vec<_> = shares.into_values().chain(rest).filter(|share| share.files > 0).collect();
        shares.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
        shares
    }
}

impl Stack {
    fn lay(&mut self, layer: &LayerContents) {
        let this = self.layers.len();
        self.layers.push(LayerShare::default());
        for item in &layer.items {
            match &item.content {
                Content::Whiteout => self.hide(&item.path, this, this),
                Content::Opaque => self.hide_below(&item.path, this, this),
                // A directory over a directory adds to it.
                Content::Directory => self.hide_one(&item.path, this, this + 1),
                Content::File { size, hash, nature } => {
                    let (size, hash, nature) = (*size, *hash, *nature);
                    self.put(&item.path, Shown { layer: this, size, hash, nature, regular: true });
                }
                Content::Link { .. } | Content::HardLink { .. } | Content::Special => {
                    let nature = Nature::Plain;
                    self.put(&item.path, Shown { layer: this, size: 0, hash: 0, nature, regular: false });
                }
            }
        }
    }

    fn put(&mut self, path: &str, file: Shown) {
        let this = file.layer;
        self.hide(path, this, this + 1);
        self.layers[this].files_size += file.size;
        self.layers[this].files += 1;
        self.files.insert(path.to_owned(), file);
    }

    /// Hides what layers below `limit` have at a path and below it.
    fn hide(&mut self, path: &str, by: usize, limit: usize) {
        self.hide_one(path, by, limit);
        self.hide_below(path, by, limit);
    }

    fn hide_one(&mut self, path: &str, by: usize, limit: usize) {
        if self.files.get(path).is_some_and(|file| file.layer < limit)
            && let Some(file) = self.files.remove(path)
        {
            self.note(path, &file, by);
        }
    }

    fn hide_below(&mut self, path: &str, by: usize, limit: usize) {
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        let found = self.files.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
        let found: Vec<String> =
            found.filter(|(_, file)| file.layer < limit).map(|(path, _)| path.clone()).collect();
        for path in found {
            self.hide_one(&path, by, limit);
        }
    }

    fn note(&mut self, path: &str, file: &Shown, by: usize) {
        self.layers[file.layer].hidden += file.size;
        let hidden = self.hidden.entry((file.layer, by)).or_insert_with(|| Hidden {
            below: file.layer,
            above: by,
            files: 0,
            size: 0,
            largest: String::new(),
            largest_size: 0,
        });
        hidden.files += 1;
        hidden.size += file.size;
        if file.size >= hidden.largest_size {
            hidden.largest_size = file.size;
            path.clone_into(&mut hidden.largest);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::contents::{Claim, Item};
    use longshore_oci::Digest;

    pub(crate) fn file(path: &str, size: u64) -> Item {
        Item {
            path: path.to_owned(),
            content: Content::File { size, hash: u128::from(size), nature: Nature::Plain },
        }
    }

    pub(crate) fn layer(items: Vec<Item>, claims: Vec<Claim>) -> LayerContents {
        LayerContents { diff_id: Digest::of([]), uncompressed_size: 0, items, claims, debian: Vec::new() }
    }

    fn item(path: &str, content: Content) -> Item {
        Item { path: path.to_owned(), content }
    }

    #[test]
    fn what_upper_layers_remove_and_replace_is_hidden_and_counted() {
        let lower = layer(
            vec![
                file("a/one", 1),
                file("a/two", 20),
                file("a-more", 300),
                file("b/x", 4000),
                file("c", 50_000),
            ],
            vec![],
        );
        let upper = layer(
            vec![item("a", Content::Whiteout), file("b", 7), item("c", Content::Directory), file("c/d", 8)],
            vec![],
        );
        let anatomy = Anatomy::of([&lower, &upper]);
        assert_eq!(anatomy.files.keys().collect::<Vec<_>>(), ["a-more", "b", "c/d"]);
        assert_eq!((anatomy.layers[0].hidden, anatomy.layers[1].hidden), (54_021, 0));
        assert_eq!(anatomy.size(), 315);
        let [hidden] = &anatomy.hidden[..] else { panic!("{:?}", anatomy.hidden) };
        assert_eq!((hidden.below, hidden.above, hidden.files, hidden.size), (0, 1, 4, 54_021));
        assert_eq!(hidden.largest, "c");
    }

    #[test]
    fn an_opaque_directory_keeps_its_own_layers_files() {
        let lower = layer(vec![file("d/old", 5), file("e", 1)], vec![]);
        let upper = layer(vec![file("d/new", 6), item("d", Content::Opaque)], vec![]);
        let anatomy = Anatomy::of([&lower, &upper]);
        assert_eq!(anatomy.files.keys().collect::<Vec<_>>(), ["d/new", "e"]);
        let root = layer(vec![item("", Content::Opaque), file("f", 1)], vec![]);
        assert_eq!(Anatomy::of([&lower, &upper, &root]).files.keys().collect::<Vec<_>>(), ["f"]);
    }

    #[test]
    fn every_byte_that_shows_belongs_to_one_package() {
        let site = "opt/venv/lib/python3.11/site-packages";
        let claim = Claim {
            list: format!("{site}/a_b-1.2.dist-info/RECORD"),
            package: "a_b-1.2".to_owned(),
            directories: vec![format!("{site}/a"), format!("{site}/a_b-1.2.dist-info")],
            files: vec![format!("{site}/six.py"), "opt/venv/bin/tool".to_owned()],
        };
        let gone = Claim { list: "nowhere/RECORD".to_owned(), package: "gone-1".to_owned(), ..claim.clone() };
        let wheel = layer(
            vec![
                file(&format!("{site}/a/x.py"), 10),
                file(&format!("{site}/six.py"), 20),
                file(&format!("{site}/a_b-1.2.dist-info/RECORD"), 5),
                file("opt/venv/bin/tool", 40),
                file("app/train.py", 100),
                file("etc/passwd", 1000),
            ],
            vec![claim, gone],
        );
        let bytecode = layer(
            vec![
                file(&format!("{site}/a/__pycache__/x.cpython-311.pyc"), 7),
                file(&format!("{site}/__pycache__/six.cpython-311.pyc"), 8),
            ],
            vec![],
        );
        let anatomy = Anatomy::of([&wheel, &bytecode]);
        let packages = anatomy.packages(Some("/app"));
        let found: Vec<_> = packages.iter().map(|it| (it.name.as_str(), it.size)).collect();
        assert_eq!(found, [("other files", 1000), ("code", 100), ("a-b", 90)]);
        let wheel = packages.iter().find(|it| it.name == "a-b").unwrap();
        assert_eq!(
            (wheel.version.as_deref(), wheel.bytecode, &wheel.layers[..]),
            (Some("1.2"), 15, &[0, 1][..])
        );
        assert_eq!(packages.iter().map(|it| it.size).sum::<u64>(), anatomy.size());
    }
}
