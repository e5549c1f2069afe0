//! Loads a `docker save` archive into Docker or Podman and runs a command in it:
//! `engine docker|podman ARCHIVE COMMAND ARGUMENT…`. The variable `TOKEN`, if set, is handed on, and the
//! current directory appears at `/here`, read-only.

use std::path::Path;

use longshore_sandbox::{
    Access, Container, Process, Streams,
    engine::{Engine, EngineKind},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = match arguments.next().as_deref() {
        Some("docker") => EngineKind::Docker,
        Some("podman") => EngineKind::Podman,
        _ => return Err("usage: engine docker|podman ARCHIVE COMMAND ARGUMENT…".into()),
    };
    let archive = arguments.next().ok_or("no archive")?;
    let engine = Engine::find(kind, std::env::temp_dir().join("longshore-engine"))?;
    let image = engine.load(Path::new(&archive))?;
    let mut process = Process::new(arguments);
    if let Ok(token) = std::env::var("TOKEN") {
        process.set_env("TOKEN", token);
    }
    let container = Container::new(process).mount(std::env::current_dir()?, "/here", Access::ReadOnly);
    let exit = engine.spawn(&image, &container, Streams::inherit())?.wait()?;
    std::process::exit(exit.code().into());
}
