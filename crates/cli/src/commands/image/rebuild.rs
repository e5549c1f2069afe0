//! `longshore image rebuild`: whether an image can be made again.

use longshore_build::edit::rebuild::{CodeFrom, Difference, FileChange, Rebuilt};
use longshore_oci::Digest;

use super::{edit::recorded, meant};
use crate::{
    args::image::RebuildArguments,
    context::Context,
    failure::Failure,
    output::{self, progress::Progress, quantity::count},
    runtime,
};

/// Makes the image again; fails if it is another one.
pub(crate) fn rebuild(context: &Context, arguments: &RebuildArguments) -> Result<(), Failure> {
    let state = context.state()?;
    let image = meant(&state, &arguments.image)?;
    let source =
        match &arguments.source {
            Some(folder) => Some(folder.canonicalize().map_err(|error| {
                Failure::Usage(format!("the folder of code {}: {error}", folder.display()))
            })?),
            None => None,
        };
    let builder = context.builder(context.registries(&state, None)?.client)?;
    let progress = Progress::new();
    let rebuilt = runtime::block_on(async {
        let found = builder.find(&image).await?;
        let build = recorded(&state, &image, &found.digest)?;
        Ok(builder.rebuild(&image, &build.inputs, source, &|event| progress.observe(event)).await?)
    });
    progress.clear();
    let rebuilt = rebuilt?;
    match arguments.output.data() {
        Some(format) => output::data(format, &rebuilt)?,
        None => print(&rebuilt)?,
    }
    if rebuilt.expected == rebuilt.found { Ok(()) } else { Err(Failure::Said) }
}

fn print(rebuilt: &Rebuilt) -> Result<(), Failure> {
    let Rebuilt { expected, found, code, made, remarks, differences } = rebuilt;
    let layers = count(*made, "layer");
    let code = match code {
        CodeFrom::Folder => "",
        CodeFrom::Image => "; the layer of code is the image's own (--source FOLDER makes it too)",
    };
    for remark in remarks {
        output::line(remark)?;
    }
    if expected == found {
        return Ok(output::line(&format!("the same digest: {found}\n{layers} made again{code}"))?);
    }
    output::line(&format!("another digest: {found}\ninstead of      {expected}\n{layers} made again{code}"))?;
    for difference in differences {
        output::line(&said(difference))?;
    }
    Ok(())
}

fn said(difference: &Difference) -> String {
    match difference {
        Difference::Field { field, expected, found } => format!("{field}: {expected} became {found}"),
        Difference::Layer { title, expected, found, files, count: differing } => {
            let short = |digest: &Option<Digest>| digest.map_or_else(|| "none".to_owned(), |it| it.short());
            let mut lines = vec![format!("layer {title}: {} became {}", short(expected), short(found))];
            lines.extend(files.iter().map(|file| {
                let change = match file.change {
                    FileChange::Missing => '-',
                    FileChange::Added => '+',
                    FileChange::Changed => '~',
                };
                format!("  {change} {}", file.path)
            }));
            match (*differing, differing.saturating_sub(files.len())) {
                (0, _) => {
                    lines.push(
                        "  the files are the same; owners, modes, times or the compression differ".to_owned(),
                    );
                }
                (_, 0) => {}
                (_, more) => lines.push(format!("  and {}", count(more, "other file"))),
            }
            lines.join("\n")
        }
    }
}
