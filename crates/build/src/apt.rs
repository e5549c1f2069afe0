//! `apt_packages`: a layer of Debian packages on top of the parent, whoever made that.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Seek as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use longshore_debian::{
    Event as Making, Sources,
    addition::{self, Addition, Owners, System, Tool, Way},
};
use longshore_fetch::Fetcher;
use longshore_layer::{EntryPath, LayerSummary, LayerWriter, read::Compression};
use longshore_oci::{Arch, Digest, Digester, ImageConfig, Manifest, Repository};
use longshore_python::distribution::{self, Distribution, Maker, Metadata, Part, Place};
use longshore_sandbox::{Access, Container, Privilege, Process, Sandbox, Streams};
use longshore_store::BlobWriter;
use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Builder, Event, LayerRecord, Observer, Request, Upgrade,
    event::{AptReport, LayerTitle},
    layer::{Lane, Layers, Made, format_of},
    parent::{Parent, PythonFacts},
    plan::{Content, PlannedLayer, PlannedParent},
};

/// The row of the table that has what is added to a parent.
pub(crate) const PLAN: &str = "apt-plan";
/// For how long a suite's release file is current without asking: Debian's archive is updated every six hours.
const FRESHNESS: Duration = Duration::from_hours(4);
/// Where the packages are in the sandbox.
const DEBS: &str = "/run/longshore";
/// What tells packages in the sandbox that no service is to be started (`invoke-rc.d`).
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// So many lines of what a program said are told if it fails.
const LINES_TOLD: usize = 20;
/// What an ordinary user can do about files that are to belong to somebody else.
const OWNERS: &str = "\nSome of the packages give files to other users than root, which needs a range of user identifiers: have the \
administrator install `uidmap` and give you one (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535`), or build as root";

/// Installs `/run/longshore/*.deb`, in this order, with no network and no questions.
const APT_GET: &str = "\
exec apt-get -qq --yes --no-install-recommends --no-remove \
-o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null \
-o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confdef \
-o Dpkg::Options::=--force-confold install \"$@\"";
/// The same by dpkg alone. Each argument is a round: what a package needs configured before it is unpacked came in an earlier one. An
/// image without apt may also lack programs that dpkg looks for and only sometimes uses.
const DPKG: &str = "\
dpkg() { command dpkg --force-unsafe-io --force-confdef --force-confold --force-bad-path --auto-deconfigure \"$@\"; }
while [ $# -gt 0 ]; do
  dpkg --unpack $1
  shift
  if [ $# -gt 0 ]; then dpkg --configure --pending || true; else dpkg --configure --pending; fi
done";

/// What is added to a parent, and how.
#[derive(Clone, Debug)]
pub(crate) struct AptLayer {
    addition: Arc<Addition>,
    way: Arc<Way>,
    /// The distributions that they bring, whoever's they are.
    distributions: Arc<Vec<Distribution>>,
    /// The layers below, by what they hold.
    below: Digest,
}

/// The version of what is remembered of a choice of packages.
const ROW: u32 = 2;

/// What the choice of packages depends on, while nobody asks for updates. The sources are in it by digest: the URL of a mirror
/// can have a password.
#[derive(Serialize)]
struct PlanKey<'a> {
    row: u32,
    layout: u32,
    arch: Arch,
    below: Digest,
    packages: &'a [String],
    machine: Digest,
}

#[derive(Serialize, Deserialize)]
struct PlanRow {
    addition: Addition,
    way: Way,
    distributions: Vec<Distribution>,
}

impl PlanRow {
    fn layer(self, below: Digest) -> AptLayer {
        let Self { addition, way, distributions } = self;
        let (addition, way) = (Arc::new(addition), Arc::new(way));
        AptLayer { addition, way, distributions: Arc::new(distributions), below }
    }
}

/// What the layer depends on, and nothing else: the same packages from another mirror have the same key.
#[derive(Serialize)]
pub(crate) struct AptKey<'a> {
    apt: u32,
    below: Digest,
    packages: Vec<(&'a str, Digest)>,
    by: &'static str,
}

impl AptLayer {
    pub(crate) fn key(&self) -> AptKey<'_> {
        let packages = self.addition.packages.iter().map(|package| (package.name.as_str(), package.sha256));
        AptKey {
            apt: addition::LAYOUT_VERSION,
            below: self.below,
            packages: packages.collect(),
            by: match &*self.way {
                Way::Native => "native",
                Way::Sandbox { tool: Tool::AptGet, .. } => "apt-get",
                Way::Sandbox { tool: Tool::Dpkg, .. } => "dpkg",
            },
        }
    }

    pub(crate) fn addition(&self) -> &Addition {
        &self.addition
    }

    /// What the parent's interpreter has installed with the packages, if it had `before` without them.
    pub(crate) fn distributions(&self, before: &[Distribution], python: &PythonFacts) -> Vec<Distribution> {
        // Under this name, an image with dpkg has Debian's.
        let is_debians = python.executable.starts_with("/usr/bin/");
        let maker = if is_debians { Maker::Debian } else { Maker::Other };
        let folders = distribution::folders(&python.executable, python.version, maker);
        with(before, &self.distributions, &folders)
    }

    /// How much work it is, in bytes of input.
    pub(crate) fn weight(&self) -> u64 {
        self.addition.download_size()
    }

    pub(crate) fn report(&self) -> AptReport {
        let packages = self.addition.packages.iter();
        AptReport {
            packages: packages.map(|package| format!("{} {}", package.name, package.version)).collect(),
            bytes: self.addition.download_size(),
            upgraded: self.addition.upgraded.clone(),
            way: (*self.way).clone(),
        }
    }

    pub(crate) fn title(&self) -> LayerTitle {
        let names: Vec<&str> = self.addition.packages.iter().map(|package| package.name.as_str()).collect();
        let verb = match &*self.way {
            Way::Native => "unpacked",
            Way::Sandbox { tool: Tool::AptGet, .. } => "installed by apt-get",
            Way::Sandbox { tool: Tool::Dpkg, .. } => "installed by dpkg",
        };
        LayerTitle { title: format!("Debian packages: {}", names.join(", ")), verb }
    }
}

/// The digest of what an image's layers hold: the same for one that was compressed again.
fn content_of(config: &ImageConfig) -> Digest {
    let mut digester = Digester::new();
    for diff_id in &config.rootfs.diff_ids {
        digester.update(format!("{diff_id}\n").as_bytes());
    }
    digester.finish()
}

impl Builder {
    /// Plans the layer of `apt_packages`; none if the parent has them all. The parent is made if it is not there yet: what is
    /// to be added is found out from its files.
    pub(crate) async fn plan_apt(
        &self,
        parent: PlannedParent,
        request: &Request,
        arch: Arch,
        observer: Observer<'_>,
    ) -> Result<(PlannedParent, Option<PlannedLayer>), BuildError> {
        let packages = request.settings.apt_packages.as_deref().unwrap_or_default();
        if packages.is_empty() {
            return Ok((parent, None));
        }
        let parent = match parent {
            PlannedParent::Ready(parent) => parent,
            PlannedParent::Debian(debian) => Box::new(self.make_debian(&debian, None, observer).await?),
        };
        let (parent, layer) = self.addition(parent, request, arch, observer).await?;
        if layer.addition.packages.is_empty() {
            return Ok((PlannedParent::Ready(parent), None));
        }
        observer(Event::AptPlanned(layer.report()));
        let planned = PlannedLayer {
            title: layer.title(),
            known: self.layers_of(request, format_of(&request.settings)?).known(&layer.key())?,
            content: Content::Apt(layer),
        };
        Ok((PlannedParent::Ready(parent), Some(planned)))
    }

    async fn addition(
        &self,
        parent: Box<Parent>,
        request: &Request,
        arch: Arch,
        observer: Observer<'_>,
    ) -> Result<(Box<Parent>, AptLayer), BuildError> {
        let packages = request.settings.apt_packages.as_deref().unwrap_or_default();
        let machine = Sources::from_system().ok();
        let digest = Digest::of(serde_json::to_vec(&machine).map_err(|error| BuildError::Io {
            doing: "reading apt's configuration".to_owned(),
            source: error.into(),
        })?);
        let below = content_of(&parent.config);
        let key =
            PlanKey { row: ROW, layout: addition::LAYOUT_VERSION, arch, below, packages, machine: digest };
        let known = self.table.get::<PlanRow>(PLAN, &key).filter(|_| request.upgrade == Upgrade::No);
        if let Some(row) = known {
            return Ok((parent, row.layer(below)));
        }
        observer(Event::AptStarted);
        let parent = self.whole(parent, &request.repository, observer).await?;
        let minor = parent.python.version.minor;
        let look = async {
            let system = Arc::new(self.system_of(&parent.manifest).await?);
            let fetcher = fetcher(machine.as_ref());
            let mut all = packages.to_vec();
            loop {
                let wanted = addition::Request {
                    system: &system,
                    arch,
                    packages: &all,
                    machine: machine.as_ref(),
                    now: Timestamp::now(),
                    freshness: FRESHNESS,
                };
                let planned =
                    addition::plan(&wanted, &fetcher, &self.downloads, &self.table, &|_| {}).await?;
                // What scripts there are, only the packages themselves say.
                self.fetch_addition(&planned, &fetcher, observer).await?;
                let (system, debs, addition) = (Arc::clone(&system), self.downloads.clone(), planned.clone());
                let choose = move || {
                    let way = addition::choose_way(&system, &addition, &debs, &|_| {})?;
                    let is_said = |path: &EntryPath| Place::of(path.as_str()).is_some();
                    let said = addition::contents(&addition, &debs, is_said, &|_| {})?;
                    Ok::<_, BuildError>((way, brought(&said, minor)))
                };
                let chosen = tokio::task::spawn_blocking(choose).await;
                let (way, distributions) = chosen.map_err(|_| BuildError::Lost("the packages"))??;
                // Scripts count on the essential packages, which a small parent may lack; once asked for, none is lacking.
                if matches!(way, Way::Native) || planned.lacking.is_empty() {
                    return Ok::<_, BuildError>(PlanRow { addition: planned, way, distributions });
                }
                all.extend(planned.lacking);
            }
        };
        let row = look.await.map_err(|error| error.of_parent(&parent.name))?;
        self.table.put(PLAN, &key, &row)?;
        Ok((parent, row.layer(below)))
    }

    /// The layer of an addition that is recorded. Which way it is made is found out again.
    pub(crate) async fn recorded_apt(
        &self,
        addition: &Addition,
        parent: &Parent,
        observer: Observer<'_>,
    ) -> Result<PlannedLayer, BuildError> {
        let fetcher = fetcher(Sources::from_system().ok().as_ref());
        self.fetch_addition(addition, &fetcher, observer).await?;
        let system = self.system_of(&parent.manifest).await?;
        let (debs, wanted) = (self.downloads.clone(), addition.clone());
        let choose = move || addition::choose_way(&system, &wanted, &debs, &|_| {});
        let way =
            tokio::task::spawn_blocking(choose).await.map_err(|_| BuildError::Lost("the packages"))??;
        let layer = AptLayer {
            addition: Arc::new(addition.clone()),
            way: Arc::new(way),
            // They are looked at when a lock is made; a recorded one has them.
            distributions: Arc::default(),
            below: content_of(&parent.config),
        };
        Ok(PlannedLayer { title: layer.title(), known: None, content: Content::Apt(layer) })
    }

    /// A parent whose layers are on this machine: pulled, or made again if it is one of ours and they are lost.
    async fn whole(
        &self,
        parent: Box<Parent>,
        destination: &Repository,
        observer: Observer<'_>,
    ) -> Result<Box<Parent>, BuildError> {
        let pulled = self.pull(&parent.manifest, &parent.sources(destination), observer).await;
        match (pulled, &parent.debian) {
            (Ok(()), _) => Ok(parent),
            (Err(_), Some(debian)) => Ok(Box::new(self.make_debian(debian, None, observer).await?)),
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch_addition(
        &self,
        addition: &Addition,
        fetcher: &Fetcher,
        observer: Observer<'_>,
    ) -> Result<(), BuildError> {
        let missing: u64 = addition
            .packages
            .iter()
            .filter(|package| !matches!(self.downloads.size_of(&package.sha256), Ok(Some(_))))
            .map(|package| package.size)
            .sum();
        if missing == 0 {
            return Ok(());
        }
        let meter = crate::wheels::Meter::new(observer);
        observer(Event::FetchStarted { bytes: missing });
        let progress = |event: Making| {
            if let Making::Fetching { package, bytes, .. } = event {
                meter.at(&package, bytes);
            }
        };
        Ok(addition::fetch(addition, fetcher, &self.downloads, &progress).await?)
    }

    /// The file system of an image, read from its layers.
    async fn system_of(&self, manifest: &Manifest) -> Result<System, BuildError> {
        let (manifest, blobs) = (manifest.clone(), self.registry.blobs().clone());
        let read = move || {
            let mut system = System::default();
            for layer in &manifest.layers {
                let compression = Compression::of(&layer.media_type).unwrap_or(Compression::Gzip);
                system.add_layer(BufReader::new(blobs.open_blob(&layer.digest)?), compression)?;
            }
            Ok(system)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| BuildError::Lost("reading the parent's files"))?
    }

    /// Makes the layer.
    pub(crate) async fn make_apt(
        &self,
        layer: &AptLayer,
        layers: &Layers,
        parent: &Parent,
        observer: Observer<'_>,
    ) -> Result<Made, BuildError> {
        let fetcher = fetcher(Sources::from_system().ok().as_ref());
        self.fetch_addition(&layer.addition, &fetcher, observer).await?;
        let system = self.system_of(&parent.manifest).await?;
        let (builder, content, below) = (self.clone(), layer.clone(), parent.clone());
        let write = move |out: LayerWriter<BlobWriter>| match &*content.way {
            Way::Native => {
                Ok(addition::write_native(&system, &content.addition, &builder.downloads, out, &|_| {})?)
            }
            Way::Sandbox { tool, .. } => builder.install(*tool, &content.addition, &below, &system, out),
        };
        let made = layers.make(&layer.key(), Lane::Splice, write).await;
        if made.is_err() {
            // One that is damaged is fetched again by the next build.
            self.drops_damaged(layer.addition.packages.iter().map(|package| package.sha256)).await?;
        }
        made.map_err(|error| error.of_parent(&parent.name))
    }

    /// Lets the parent's own program install the packages in a sandbox, and writes down what that changed.
    fn install(
        &self,
        tool: Tool,
        addition: &Addition,
        parent: &Parent,
        system: &System,
        out: LayerWriter<BlobWriter>,
    ) -> Result<(BlobWriter, LayerSummary), BuildError> {
        if Arch::host() != Some(addition.arch) {
            return Err(BuildError::AptArch { arch: addition.arch, tool });
        }
        let scratch = self.images.scratch();
        let io = |doing: &str| {
            let doing = format!("{doing} {}", scratch.display());
            move |source| BuildError::Io { doing, source }
        };
        fs::create_dir_all(scratch).map_err(io("making the folder"))?;
        let folder = tempfile::tempdir_in(scratch).map_err(io("making a folder in"))?;
        let debs = folder.path().join("debs");
        let policy = folder.path().join("policy-rc.d");
        let lay_out = || {
            fs::create_dir(&debs)?;
            for (number, package) in addition.packages.iter().enumerate() {
                let to = debs.join(file_name(number));
                let from = self.downloads.path(&package.sha256);
                fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
            }
            fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))
        };
        lay_out().map_err(io("laying out packages in"))?;
        let layers = self.images.unpack(&parent.manifest, &parent.config)?;
        let container = Container::new(process(tool, addition)).mount(&debs, DEBS, Access::ReadOnly).mount(
            &policy,
            POLICY,
            Access::ReadOnly,
        );
        let sandbox = Sandbox { layers, scratch: scratch.to_owned(), container };
        let owners = match Privilege::of_caller() {
            Privilege::Root => Owners::Kept,
            Privilege::UserNamespace | Privilege::None => Owners::Lost,
        };
        let mut changes = tempfile::tempfile_in(scratch).map_err(io("making a file in"))?;
        // Files get the kernel's time, which may be a tick behind.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let started = now.saturating_sub(2);
        let recorded: File = changes.try_clone().map_err(io("making a file in"))?;
        let output = sandbox.spawn_recorded(Streams::captured(), recorded.into())?.output()?;
        if !output.exit.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = last_lines(&said);
            let hint = if owners == Owners::Lost && said.contains("Invalid argument") { OWNERS } else { "" };
            return Err(BuildError::AptInstall { tool, exit: output.exit, said, hint });
        }
        changes.rewind().map_err(io("reading a file in"))?;
        let placed = ["usr/sbin/policy-rc.d", "usr/bin/policy-rc.d"];
        Ok(addition::write_recorded(BufReader::new(changes), system, owners, started, &placed, out)?)
    }
}

impl Parent {
    /// The same image with one more layer, as something to read packages from; it has no name in any registry.
    pub(crate) fn with_layer(&self, layer: &LayerRecord) -> Self {
        let mut parent = self.clone();
        parent.manifest.layers.push(layer.descriptor());
        parent.config.push_layer(layer.diff_id, String::new());
        parent.digest = Digest::of(parent.manifest.to_bytes());
        parent
    }
}

/// What there is of distributions in some folders when others are added: those take the places of what was in theirs.
fn with(before: &[Distribution], added: &[Distribution], folders: &[String]) -> Vec<Distribution> {
    let is_replaced =
        |old: &Distribution| added.iter().any(|new| new.name == old.name && new.folder == old.folder);
    let stay = before.iter().filter(|distribution| !is_replaced(distribution));
    distribution::imported(stay.chain(added).cloned().collect(), folders)
}

/// The distributions whose files packages have, by path.
fn brought(files: &BTreeMap<EntryPath, Vec<u8>>, minor: u8) -> Vec<Distribution> {
    let said = |(path, content): (&EntryPath, &Vec<u8>)| {
        let place = Place::of(path.as_str()).filter(|place| place.part == Part::Metadata)?;
        let metadata = Metadata::read(content.as_slice()).ok()??;
        let entry_points = EntryPath::new(&format!("{}/{}/entry_points.txt", place.folder, place.entry)).ok();
        let entry_points = entry_points.and_then(|path| files.get(&path));
        let entry_points = entry_points.map(|text| String::from_utf8_lossy(text));
        Distribution::at(place, &metadata, entry_points.as_deref(), minor)
    };
    files.iter().filter_map(said).collect()
}

fn fetcher(machine: Option<&Sources>) -> Fetcher {
    Fetcher::new(machine.map(|machine| machine.network.fetch_config()).unwrap_or_default())
}

/// Names from an index stay out of paths and arguments.
fn file_name(number: usize) -> String {
    format!("{number:04}.deb")
}

/// What runs in the sandbox. Nothing of this machine's environment is in it, and what programs make of the time of day, of
/// chance or of a language is the same each time.
fn process(tool: Tool, addition: &Addition) -> Process {
    let file = |number: usize| Path::new(DEBS).join(file_name(number)).to_string_lossy().into_owned();
    let (script, arguments): (_, Vec<String>) = match tool {
        Tool::AptGet => (APT_GET, (0..addition.packages.len()).map(file).collect()),
        Tool::Dpkg => {
            let rounds = addition.rounds();
            (
                DPKG,
                rounds
                    .iter()
                    .map(|round| round.iter().copied().map(file).collect::<Vec<_>>().join(" "))
                    .collect(),
            )
        }
    };
    let argv = ["/bin/sh", "-ec", script, "install"].map(str::to_owned).into_iter().chain(arguments);
    let mut process = Process::new(argv);
    for (name, value) in [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", "0"),
    ] {
        process.set_env(name, value);
    }
    process
}

/// The end of what a program said, without blank lines.
fn last_lines(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_TOLD)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_take_the_place_of_what_was_in_their_folder() {
        let folder = "usr/lib/python3/dist-packages";
        let file = |path: &str, text: &str| {
            (EntryPath::new(&format!("{folder}/{path}")).unwrap(), text.as_bytes().to_vec())
        };
        let files = BTreeMap::from([
            file("six-1.16.0.egg-info", "Name: six\nVersion: 1.16.0\n"),
            file("attr-1.egg-info/PKG-INFO", "Name: attr\nVersion: 1\n"),
            file("attr-1.egg-info/entry_points.txt", "[console_scripts]\nattr = attr:main\n"),
        ]);
        let new = brought(&files, 11);
        let old = |version: &str| Distribution {
            name: "six".parse().unwrap(),
            version: version.parse().unwrap(),
            folder: folder.to_owned(),
            scripts: Vec::new(),
        };
        let found = with(&[old("1.15.0")], &new, &[folder.to_owned()]);
        let found: Vec<_> = found.iter().map(|it| (it.to_string(), it.scripts.len())).collect();
        assert_eq!(found, [("attr 1".to_owned(), 1), ("six 1.16.0".to_owned(), 0)]);
        assert!(with(&[old("1.15.0")], &new, &[]).is_empty(), "nobody looks there");
    }

    #[test]
    fn only_the_end_of_what_was_said_is_told() {
        let said = (0..40).map(|line| line.to_string()).collect::<Vec<_>>().join("\n\n");
        let told = last_lines(said.as_bytes());
        assert_eq!((told.lines().count(), told.lines().next()), (LINES_TOLD, Some("20")));
    }
}
