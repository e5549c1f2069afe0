//! `longshore image inspect`: what an image consists of, and what would make it smaller.

use std::io::{self, Write};

use longshore_attest::contents::{Anatomy, Directory, OwnerKind, PackageShare, Saving};
use longshore_build::{
    Builder,
    edit::{Contents, FoundImage, Parts, rebase::parents_layers},
};
use longshore_oci::{Digest, Manifest, Platform, Reference, annotation};
use serde::Serialize;
use serde_json::json;

use super::{meant, this_platform};
use crate::{
    args::image::{By, InspectArguments},
    context::Context,
    failure::Failure,
    output::{
        self,
        progress::Progress,
        quantity::{count, size},
        table::{Align, Table, shorten},
    },
    runtime,
};

/// So many packages are shown where packages were not asked for.
const FEW: usize = 10;
/// Directories with less than this share of an image are not shown: one in so many bytes.
const SHARE: u64 = 100;

/// Prints what the image consists of.
pub(crate) fn inspect(context: &Context, arguments: &InspectArguments) -> Result<(), Failure> {
    let state = context.state()?;
    let image = meant(&state, &arguments.image)?;
    let client = context.registries(&state, None)?.client;
    let builder = context.builder(client)?;
    let progress = Progress::new();
    let platform = match &arguments.platform {
        Some(platform) => platform.clone(),
        None => this_platform()?,
    };
    let looked = runtime::block_on(look(&builder, &image, &platform, arguments.by, &progress));
    progress.clear();
    let looked = looked?;
    match arguments.output.data() {
        Some(format) => Ok(output::data(format, &looked.document(&image))?),
        None => looked.print(arguments.by),
    }
}

/// An image that was looked at.
struct Looked {
    image: FoundImage,
    parent: Option<ParentShare>,
    /// What was found in its layers, unless they would have had to be downloaded and nobody asked for that.
    contents: Option<(Contents, Anatomy)>,
    /// How many layers those are, and their bytes.
    unread: (usize, u64),
}

/// What an image has from the one that it was built on.
#[derive(Serialize)]
struct ParentShare {
    name: Option<String>,
    digest: Option<Digest>,
    layers: usize,
    size: u64,
}

/// A layer, for programs.
#[derive(Serialize)]
struct LayerRow {
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unpacked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<u64>,
    made_by: Option<String>,
    of_parent: bool,
}

async fn look(
    builder: &Builder,
    name: &Reference,
    platform: &Platform,
    by: Option<By>,
    progress: &Progress,
) -> Result<Looked, Failure> {
    let found = builder.find(name).await?;
    let image = match (&found.index, found.for_platform(platform), &found.images[..]) {
        (_, Some(image), _) | (None, None, [image]) => image.clone(),
        _ => {
            let message = format!("{name} has no image for {platform}; name another --platform");
            return Err(Failure::Usage(message));
        }
    };
    let parent = parent(builder, &image).await;
    let unread = builder.unread(&image.parts)?;
    let wanted = match by {
        None => unread.0 == 0,
        Some(By::Layer) => false,
        Some(_) => true,
    };
    let contents = if wanted {
        if unread.0 > 0 {
            let layers = count(unread.0, "layer");
            progress.line("reading", &format!("{layers} of {} that are not on this machine", size(unread.1)));
        }
        Some(builder.contents(&image, &|event| progress.observe(event)).await?)
    } else {
        builder.remembered(&image.parts)?
    };
    let contents = contents.map(|contents| {
        let anatomy = contents.anatomy();
        (contents, anatomy)
    });
    Ok(Looked { image, parent, contents, unread })
}

/// What the image has from its parent: by the lines of history of images that longshore made, else by its parent itself, if
/// that is named and can be had.
async fn parent(builder: &Builder, image: &FoundImage) -> Option<ParentShare> {
    let Parts { manifest, config } = &image.parts;
    let annotation = |name: &str| manifest.annotations.get(name).cloned();
    let name = annotation(annotation::BASE_NAME);
    let digest = annotation(annotation::BASE_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
    let layers = if let Some(layers) = parents_layers(&image.parts) {
        layers
    } else {
        let parent = name.as_ref()?.parse::<Reference>().ok()?.at(digest?);
        let found = builder.find(&parent).await.ok()?;
        let parent = found.for_platform(&config.platform)?;
        let theirs = &parent.parts.config.rootfs.diff_ids;
        config.rootfs.diff_ids.starts_with(theirs).then_some(theirs.len())?
    };
    let size = manifest.layers.iter().take(layers).map(|layer| layer.size).sum();
    Some(ParentShare { name, digest, layers, size })
}

impl Looked {
    fn manifest(&self) -> &Manifest {
        &self.image.parts.manifest
    }

    fn rows(&self) -> Vec<LayerRow> {
        let of_parent = self.parent.as_ref().map_or(0, |parent| parent.layers);
        let made_by = self.image.parts.made_by();
        let rows = self.manifest().layers.iter().zip(made_by).enumerate();
        let rows = rows.map(|(at, (layer, made_by))| LayerRow {
            digest: layer.digest,
            size: layer.size,
            unpacked: self.contents.as_ref().and_then(|(it, _)| Some(it.0.get(at)?.uncompressed_size)),
            hidden: self.contents.as_ref().and_then(|(_, it)| Some(it.layers.get(at)?.hidden)),
            made_by: made_by.map(str::to_owned),
            of_parent: at < of_parent,
        });
        rows.collect()
    }

    fn packages(&self) -> Option<Vec<PackageShare>> {
        let code = self.image.parts.config.config.working_dir.as_deref().filter(|folder| *folder != "/");
        let code = code.filter(|_| parents_layers(&self.image.parts).is_some());
        Some(self.contents.as_ref()?.1.packages(code))
    }

    fn savings(&self) -> Option<Vec<Saving>> {
        Some(self.contents.as_ref()?.1.savings())
    }

    fn directories(&self) -> Option<Vec<Directory>> {
        Some(self.contents.as_ref()?.1.directories(SHARE))
    }

    fn document(&self, name: &Reference) -> serde_json::Value {
        let advice = |saving: &Saving| {
            json!({
                "kind": saving.kind, "size": saving.size, "files": saving.files, "largest": saving.largest,
                "what": saving.kind.title(), "advice": saving.kind.advice(),
            })
        };
        let savings = self.savings().map(|savings| savings.iter().map(advice).collect::<Vec<_>>());
        json!({
            "name": name, "digest": self.image.digest, "manifest": self.manifest(),
            "config": self.image.parts.config, "size": self.manifest().total_size(),
            "unpacked": self.contents.as_ref().map(|(_, anatomy)| anatomy.size()),
            "parent": self.parent, "layers": self.rows(), "packages": self.packages(),
            "directories": self.directories(), "savings": savings,
        })
    }

    fn print(&self, by: Option<By>) -> Result<(), Failure> {
        match by {
            Some(By::Layer) => self.print_layers()?,
            Some(By::Package) => self.print_packages(usize::MAX)?,
            Some(By::Directory) => self.print_directories()?,
            Some(By::Saving) => self.print_savings()?,
            None => {
                self.print_facts()?;
                self.print_layers()?;
                output::line("")?;
                if self.contents.is_some() {
                    self.print_packages(FEW)?;
                    output::line("")?;
                    self.print_savings()?;
                } else {
                    let (layers, bytes) = (count(self.unread.0, "layer"), size(self.unread.1));
                    output::line(&format!(
                        "packages, directories and savings: with --by, which downloads {bytes} in {layers}"
                    ))?;
                }
            }
        }
        Ok(())
    }

    fn print_facts(&self) -> io::Result<()> {
        let config = &self.image.parts.config;
        let process = &config.config;
        let list = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(" ");
        let unpacked = self
            .contents
            .as_ref()
            .map_or_else(String::new, |(_, anatomy)| format!(", {} unpacked", size(anatomy.size())));
        let layers = count(self.manifest().layers.len(), "layer");
        let mut facts = vec![
            ("digest", self.image.digest.to_string()),
            ("platform", config.platform.to_string()),
            ("created", config.created.clone().unwrap_or_default()),
            ("user", process.user.clone().unwrap_or_default()),
            ("workdir", process.working_dir.clone().unwrap_or_default()),
            ("command", format!("{} {}", list(&process.entrypoint), list(&process.cmd)).trim().to_owned()),
        ];
        facts.extend(process.env.iter().flatten().map(|entry| ("env", entry.clone())));
        facts.push(("size", format!("{} in {layers}{unpacked}", size(self.manifest().total_size()))));
        if let Some(parent) = &self.parent {
            let share = format!("{} in {} of them", size(parent.size), parent.layers);
            let name = parent.name.as_deref().map(|name| format!(": {}", shorten(name, 44)));
            facts.push(("parent", format!("{share}{}", name.unwrap_or_default())));
        }
        facts.retain(|(_, value)| !value.is_empty());
        let mut out = io::stdout().lock();
        for (name, value) in facts {
            writeln!(out, "{name:<8} {value}")?;
        }
        writeln!(out)
    }

    fn print_layers(&self) -> io::Result<()> {
        let mut table = Table::new([
            ("LAYER", Align::Left),
            ("SIZE", Align::Right),
            ("UNPACKED", Align::Right),
            ("", Align::Left),
            ("MADE BY", Align::Left),
        ]);
        for row in self.rows() {
            let made_by = row.made_by.unwrap_or_default();
            let made_by: String = made_by.split_whitespace().collect::<Vec<_>>().join(" ");
            let made_by = made_by.strip_prefix("longshore: ").unwrap_or(&made_by).chars().take(36).collect();
            let unpacked = row.unpacked.map(size).unwrap_or_default();
            let origin = if row.of_parent { "parent" } else { "" };
            table.row([row.digest.short(), size(row.size), unpacked, origin.to_owned(), made_by]);
        }
        table.print_fitted()
    }

    fn print_packages(&self, most: usize) -> io::Result<()> {
        let packages = self.packages().unwrap_or_default();
        let mut table = Table::new([
            ("PACKAGE", Align::Left),
            ("VERSION", Align::Left),
            ("KIND", Align::Left),
            ("UNPACKED", Align::Right),
            ("BYTECODE", Align::Right),
            ("FILES", Align::Right),
        ]);
        for package in packages.iter().take(most) {
            let kind = match package.kind {
                OwnerKind::Python => "python",
                OwnerKind::Debian => "debian",
                OwnerKind::Code | OwnerKind::Other => "",
            };
            table.row([
                package.name.clone(),
                package.version.clone().unwrap_or_default(),
                kind.to_owned(),
                size(package.size),
                if package.bytecode == 0 { String::new() } else { size(package.bytecode) },
                package.files.to_string(),
            ]);
        }
        table.print_fitted()?;
        match packages.len().saturating_sub(most) {
            0 => Ok(()),
            more => output::line(&format!("and {more} more: --by package")),
        }
    }

    fn print_directories(&self) -> io::Result<()> {
        let mut table = Table::new([("UNPACKED", Align::Right), ("DIRECTORY", Align::Left)]);
        for directory in self.directories().unwrap_or_default() {
            table.row([size(directory.size), format!("{}{}", "  ".repeat(directory.depth), directory.path)]);
        }
        table.print_fitted()
    }

    fn print_savings(&self) -> io::Result<()> {
        let savings = self.savings().unwrap_or_default();
        if savings.is_empty() {
            return output::line("nothing was found that the image could do without");
        }
        let total: u64 = savings.iter().map(|saving| saving.size).sum();
        output::line(&format!("What the image could do without: {} unpacked", size(total)))?;
        let mut out = io::stdout().lock();
        for saving in savings {
            writeln!(out, "{:>8}  {}", size(saving.size), saving.kind.title())?;
            let largest =
                saving.largest.iter().map(|(name, bytes)| format!("{} {}", shorten(name, 30), size(*bytes)));
            let largest = largest.collect::<Vec<_>>().join(", ");
            writeln!(out, "          {}", shorten(&largest, 70))?;
            writeln!(out, "          → {}", saving.kind.advice())?;
        }
        Ok(())
    }
}
