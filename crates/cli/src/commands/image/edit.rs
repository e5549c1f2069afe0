//! `longshore image rebase` and `longshore image patch`.

use longshore_build::edit::{
    EditError, Published,
    patch::{Patch, Wanted},
    rebase::Rebase,
};
use longshore_oci::{Digest, Reference};
use longshore_stack::{Build, State};
use serde_json::{Value, json};

use super::meant;
use crate::{
    args::{
        OutputFormat,
        image::{PatchArguments, RebaseArguments},
    },
    commands::build::{image_name, python_here},
    context::Context,
    failure::Failure,
    output::{
        self,
        progress::Progress,
        quantity::{count, size},
    },
    runtime,
};

/// Puts an image onto another parent.
pub(crate) fn rebase(context: &Context, arguments: &RebaseArguments) -> Result<(), Failure> {
    let state = context.state()?;
    let image = meant(&state, &arguments.image)?;
    let rebase = Rebase {
        onto: image_name(&arguments.onto)?,
        from: arguments.from.as_deref().map(image_name).transpose()?,
        name: name_of_result(&image, arguments.tag.as_deref())?,
        image,
    };
    let builder = context.builder(context.registries(&state, None)?.client)?;
    let progress = Progress::new();
    let rebased = runtime::block_on(async {
        let found = builder.find(&rebase.image).await?;
        let record = state.build_of(&found.digest)?;
        let inputs = record.as_ref().map(|build| &build.inputs);
        let rebased = Box::pin(builder.rebase(&rebase, inputs, &|event| progress.observe(event))).await?;
        Ok((record, rebased))
    });
    progress.clear();
    let (record, rebased) = rebased?;
    if let (Some(build), Some(inputs)) = (record, rebased.inputs) {
        remember(&state, build.pipeline, &rebased.published.image, inputs)?;
    }
    print(
        arguments.output,
        &rebased.published,
        &format!("on {}", rebase.onto),
        json!({"parent": rebase.onto}),
    )
}

/// Replaces one wheel of an image.
pub(crate) fn patch(context: &Context, arguments: &PatchArguments) -> Result<(), Failure> {
    let state = context.state()?;
    let image = meant(&state, &arguments.image)?;
    let wheel = Wanted::parse(&arguments.wheel).map_err(|error| Failure::Usage(error.to_string()))?;
    let name = name_of_result(&image, arguments.tag.as_deref())?;
    let patch = Patch { image, wheel, name, host_python: python_here() };
    let builder = context.builder(context.registries(&state, None)?.client)?;
    let progress = Progress::new();
    let patched = runtime::block_on(async {
        let found = builder.find(&patch.image).await?;
        let build = recorded(&state, &patch.image, &found.digest)?;
        let patched = builder.patch(&patch, &build.inputs, &|event| progress.observe(event)).await?;
        Ok((build, patched))
    });
    progress.clear();
    let (build, patched) = patched?;
    remember(&state, build.pipeline, &patched.published.image, patched.inputs)?;
    let layers = format!("{} replaced, {} kept", count(patched.replaced, "layer"), patched.kept);
    let said = format!("{} in place of {}: {layers}", patched.package, patched.before);
    let more = json!({
        "package": patched.package, "before": patched.before, "replaced": patched.replaced, "kept": patched.kept,
    });
    print(arguments.output, &patched.published, &said, more)
}

/// The record of an image's build.
pub(crate) fn recorded(state: &State, image: &Reference, digest: &Digest) -> Result<Build, Failure> {
    let build = state.build_of(digest)?;
    Ok(build.ok_or_else(|| EditError::NoRecord(Box::new(image.clone())))?)
}

fn remember(state: &State, pipeline: String, image: &Reference, inputs: Value) -> Result<(), Failure> {
    let created = jiff::Timestamp::now();
    Ok(state.add_build(&Build { created, pipeline, image: image.clone(), inputs })?)
}

/// What the result of an edit is called: as was asked, else as the image itself.
fn name_of_result(image: &Reference, tag: Option<&str>) -> Result<Reference, Failure> {
    let Some(name) = tag else {
        return match image.tag_or_latest() {
            Some(tag) => Ok(Reference::tagged(image.repository.clone(), tag)),
            None => Err(Failure::Usage(EditError::NoTag(Box::new(image.clone())).to_string())),
        };
    };
    let named = image_name(name)?;
    match (named.digest, named.tag_or_latest()) {
        (None, Some(tag)) => Ok(Reference::tagged(named.repository, tag)),
        _ => Err(Failure::Usage(format!("--tag {name} has a digest; the digest of an edit is its result"))),
    }
}

fn print(format: OutputFormat, published: &Published, said: &str, mut more: Value) -> Result<(), Failure> {
    let Published { image, bytes, mounted } = published;
    if let Some(format) = format.data() {
        more["image"] = json!(image);
        more["digest"] = json!(image.digest);
        more["moved"] = json!(bytes);
        more["mounted"] = json!(mounted);
        return Ok(output::data(format, &more)?);
    }
    output::line(&image.to_string())?;
    let mounted =
        if *mounted == 0 { String::new() } else { format!(", mounted {}", count(*mounted, "blob")) };
    Ok(output::line(&format!("{said}; moved {}{mounted}", size(*bytes)))?)
}
