//! The commands that look at schedules and take them away.

use clap::Subcommand;

use super::OutputFormat;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// List the schedules that were made from here, and what their orchestrators say of them
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Take a schedule away: no further run begins, and those that have begun go on
    Delete {
        /// The pipeline, or the schedule's run, or how its id begins
        schedule: String,
    },
}
