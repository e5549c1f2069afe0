//! Writing layers: wheels, and the environment that they go into.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, Write},
};

use longshore_layer::{Entry, EntryPath, LayerSummary, LayerWriter};

use crate::{
    bytecode::{BytecodeSummary, Compiler, write_layer},
    entry_points::Script,
    error::Error,
    install::{Conflict, PROGRAM, Source, Tree, TreeFile, Venv, conflicts},
    lock::PinnedWheel,
    plan::WheelLayer,
    wheel::Wheel,
};

/// A Python source beyond this is not compiled: the interpreter would need gigabytes.
const SOURCE_LIMIT: u64 = 64 << 20;

/// The wheels of one layer, opened, checked and planned: what its layer and its bytecode layer are written from.
pub struct OpenLayer<R> {
    prefix: EntryPath,
    site_packages: String,
    wheels: Vec<Wheel<R>>,
    /// Every path below the prefix, with the wheel whose file shows there.
    files: BTreeMap<EntryPath, (usize, TreeFile)>,
    conflicts: Vec<Conflict>,
}

impl<R: Read + Seek> OpenLayer<R> {
    /// Opens the wheels of a layer. `open` gives the file of a wheel, whose digest has been checked.
    pub fn open(
        layer: &WheelLayer,
        venv: &Venv,
        mut open: impl FnMut(&PinnedWheel) -> io::Result<R>,
    ) -> Result<Self, Error> {
        let (wheels, trees) = plan([layer], venv, &mut open)?;
        let conflicts = conflicting(&wheels, &trees);
        let mut files = BTreeMap::new();
        for (index, tree) in trees.into_iter().enumerate() {
            files.extend(tree.files.into_iter().map(|(path, file)| (path, (index, file))));
        }
        Ok(Self {
            prefix: venv.prefix().clone(),
            site_packages: venv.site_packages(),
            wheels,
            files,
            conflicts,
        })
    }

    /// The paths at which wheels of this layer have different files. The later wheel's is in the layer.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// The paths of the layer's files, below the environment's prefix.
    pub fn paths(&self) -> impl Iterator<Item = &EntryPath> {
        self.files.keys()
    }

    /// Writes the layer of the wheels' files.
    pub fn write<W: Write>(&mut self, out: impl Into<LayerWriter<W>>) -> Result<(W, LayerSummary), Error> {
        let mut layer = out.into();
        for (path, (index, file)) in &self.files {
            let wheel = &mut self.wheels[*index];
            let path = self.prefix.join(path.as_str())?;
            match &file.source {
                Source::Directory => layer.add(&Entry::directory(path)),
                Source::Bytes(bytes) => layer.file(&Entry::file(path, file.mode), bytes),
                Source::Entry(entry) => {
                    layer.splice(&Entry::file(path, file.mode), wheel.archive_mut(), *entry)
                }
            }
            .map_err(|source| Error::wheel(wheel.filename(), source.into()))?;
        }
        Ok(layer.finish()?)
    }

    /// Writes the bytecode of every `.py` in `site-packages`, as a layer of its own.
    pub fn write_bytecode<W: Write>(
        &mut self,
        compiler: &Compiler,
        out: impl Into<LayerWriter<W>>,
    ) -> Result<(W, BytecodeSummary), Error> {
        let Self { prefix, site_packages, wheels, files, .. } = self;
        let folder = EntryPath::new(site_packages)?;
        let mut sources = Vec::new();
        for (path, (index, file)) in files.iter() {
            if path.is_below(&folder) && crate::bytecode::is_source(path) && file.source != Source::Directory
            {
                sources.push((prefix.join(path.as_str())?, (*index, &file.source)));
            }
        }
        let read = |(index, source): &(usize, &Source)| match source {
            Source::Entry(entry) => {
                let wheel = &mut wheels[*index];
                wheel
                    .archive_mut()
                    .read(*entry, SOURCE_LIMIT)
                    .map_err(|source| Error::wheel(wheel.filename(), source.into()))
            }
            Source::Bytes(bytes) => Ok(bytes.clone()),
            Source::Directory => Ok(Vec::new()),
        };
        write_layer(compiler, sources, read, out)
    }
}

/// The paths at which wheels of these layers have different files, when the layers lie over each other in this order: for
/// a warning. (Their bytecode layers are to lie in the same order, so that each module's bytecode is its own.)
pub fn find_conflicts<R: Read + Seek>(
    layers: &[WheelLayer],
    venv: &Venv,
    mut open: impl FnMut(&PinnedWheel) -> io::Result<R>,
) -> Result<Vec<Conflict>, Error> {
    let (wheels, trees) = plan(layers, venv, &mut open)?;
    Ok(conflicting(&wheels, &trees))
}

fn plan<'a, R: Read + Seek>(
    layers: impl IntoIterator<Item = &'a WheelLayer>,
    venv: &Venv,
    open: &mut impl FnMut(&PinnedWheel) -> io::Result<R>,
) -> Result<(Vec<Wheel<R>>, Vec<Tree>), Error> {
    let mut wheels = Vec::new();
    let mut trees = Vec::new();
    for pinned in layers.into_iter().flat_map(|layer| &layer.wheels) {
        let input = open(pinned)
            .map_err(|source| Error::Io { doing: format!("opening wheel {}", pinned.filename), source })?;
        let mut wheel = Wheel::open(&pinned.filename, input)?;
        trees.push(Tree::plan(&mut wheel, venv, pinned.direct_url().as_deref())?);
        wheels.push(wheel);
    }
    Ok((wheels, trees))
}

fn conflicting<R: Read + Seek>(wheels: &[Wheel<R>], trees: &[Tree]) -> Vec<Conflict> {
    conflicts(trees, |a, one, b, other| match (&one.source, &other.source) {
        (Source::Entry(i), Source::Entry(j)) => {
            let (one, other) = (&wheels[a].archive().entries()[*i], &wheels[b].archive().entries()[*j]);
            (one.crc32, one.uncompressed_size) == (other.crc32, other.uncompressed_size)
        }
        (one, other) => one == other,
    })
}

/// Writes the layer that makes the folder a virtual environment: `pyvenv.cfg`, `bin/python` and its names, `lib64`.
///
/// `interpreter` is the absolute path of the Python in the image, e.g. `/usr/bin/python3.11`. Compared with `uv venv` and
/// `python -m venv`: packages of the parent stay visible (`include-system-site-packages`), and there are no activation
/// scripts, since an image is entered with its environment set. `scripts` are those of the parent's packages that are used as if they
/// were installed here: with the environment's interpreter, they see all that is in it.
pub fn write_venv<W: Write>(
    venv: &Venv,
    interpreter: &str,
    scripts: &[Script],
    out: impl Into<LayerWriter<W>>,
) -> Result<(W, LayerSummary), Error> {
    let python = venv.python();
    let home = interpreter.rsplit_once('/').map_or("/", |(home, _)| home);
    let configuration = format!("home = {home}\ninclude-system-site-packages = true\nversion = {python}\n");
    let at = |path: &str| venv.prefix().join(path);
    let mut layer = out.into();
    let mut programs: BTreeMap<&str, Option<&Script>> =
        scripts.iter().filter(|script| script.is_allowed()).map(|it| (it.name.as_str(), Some(it))).collect();
    let short = format!("python{}", python.short());
    programs.extend(["python", "python3", &short].map(|name| (name, None)));
    for (name, script) in programs {
        let path = at(&format!("bin/{name}"))?;
        if let Some(script) = script {
            layer.file(&Entry::file(path, PROGRAM), script.text(&venv.shebang()).as_bytes())?;
        } else {
            let target = if name == "python" { interpreter } else { "python" };
            layer.add(&Entry::symlink(path, target))?;
        }
    }
    layer.add(&Entry::directory(at(&venv.site_packages())?))?;
    layer.add(&Entry::symlink(at("lib64")?, "lib"))?;
    layer.file(&Entry::file(at("pyvenv.cfg")?, 0o644), configuration.as_bytes())?;
    Ok(layer.finish()?)
}
