//! `longshore cluster run`: the controller of a run, in a pod of the cluster that runs it. It has no home and keeps nothing.

use std::path::Path;

use longshore_kubernetes::{Ended, RUN_FAILED, run_in_cluster};
use longshore_orchestrator::Phase;

use crate::failure::Failure;

/// The exit code of a process that ended since it was told to (128 and SIGTERM).
const TERMINATED: u8 = 143;

/// Looks after a run until it ends, or until this process is told to.
pub(crate) fn run(plan: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match runtime.block_on(run_in_cluster(plan))? {
        Ended::Run(Phase::Succeeded) => Ok(()),
        Ended::Run(_) => Err(Failure::Exit(RUN_FAILED)),
        Ended::Told => Err(Failure::Exit(TERMINATED)),
    }
}
