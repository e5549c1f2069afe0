//! The diagnostics of the crates below, on standard error.

use std::{env, io};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::failure::Failure;

/// The variable that chooses what is told, in the form of the `tracing_subscriber` crate's directives.
const VARIABLE: &str = "LONGSHORE_LOG";

/// Starts telling: warnings; what `LONGSHORE_LOG` says; or all that longshore's own crates do, with `--verbose`.
pub(crate) fn start(verbose: bool) -> Result<(), Failure> {
    let chosen = env::var(VARIABLE).ok().filter(|chosen| !chosen.is_empty());
    let own = |level: LevelFilter| format!("warn,longshore={level}");
    let directives = match &chosen {
        // A level alone is for longshore's own crates: what the HTTP libraries tell helps nobody here.
        Some(chosen) => chosen.parse().map_or_else(|_| chosen.clone(), own),
        None if verbose => own(LevelFilter::DEBUG),
        None => own(LevelFilter::WARN),
    };
    let filter = EnvFilter::builder().parse(&directives).map_err(|error| {
        Failure::Usage(format!("{VARIABLE}={directives}: {error}; write e.g. {VARIABLE}=debug"))
    })?;
    let is_colored = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    subscriber.with_ansi(is_colored).without_time().init();
    Ok(())
}
