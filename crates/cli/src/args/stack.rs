//! `longshore stack` and `longshore integration`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use longshore_stack::{Name, Selection};

use super::OutputFormat;

#[derive(Debug, Subcommand)]
pub(crate) enum StackCommand {
    /// Register a stack
    Register {
        /// Its name: letters, digits, `-`, `_` and `.`
        name: Name,
        #[command(flatten)]
        parts: PartArguments,
        /// Make it the active stack
        #[arg(long)]
        set: bool,
    },
    /// List the stacks
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show what a stack consists of
    Describe {
        /// Its name; the active stack without one
        name: Option<String>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Give a stack other components
    Update {
        /// Its name
        name: String,
        #[command(flatten)]
        parts: PartArguments,
    },
    /// Register another stack of the same components
    Copy {
        /// The stack to copy
        name: String,
        /// The name of the copy
        new_name: Name,
    },
    /// Write a stack and its components to standard output, without secrets, for another machine
    Export {
        /// Its name; the active stack without one
        name: Option<String>,
        /// How to write it
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Yaml)]
        output: OutputFormat,
    },
    /// Register a stack that was exported, with those of its components that do not exist here
    Import {
        /// The file (YAML or JSON), or - for standard input
        file: PathBuf,
        /// The stack's name here, instead of the one in the file
        #[arg(long, value_name = "NAME")]
        name: Option<Name>,
        /// Make it the active stack
        #[arg(long)]
        set: bool,
    },
    /// Rename a stack
    Rename {
        /// Its name
        name: String,
        /// Its new name
        new_name: Name,
    },
    /// Delete a stack that is not active; its components stay
    Delete {
        /// Its name
        name: String,
    },
    /// Make a stack the active one: what runs use where they name none
    Set {
        /// Its name
        name: String,
    },
    /// Print the name of the active stack
    Get {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PartArguments {
    /// What runs the steps
    #[arg(short, long, value_name = "NAME")]
    orchestrator: Option<Name>,
    /// Where images are kept
    #[arg(short, long, value_name = "NAME")]
    container_registry: Option<Name>,
    /// What builds images
    #[arg(short, long, value_name = "NAME")]
    image_builder: Option<Name>,
    /// Where the steps' outputs are kept
    #[arg(short, long, value_name = "NAME")]
    artifact_store: Option<Name>,
}

impl PartArguments {
    /// The components that are named.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            orchestrator: self.orchestrator.clone(),
            container_registry: self.container_registry.clone(),
            image_builder: self.image_builder.clone(),
            artifact_store: self.artifact_store.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum IntegrationCommand {
    /// See to it that integrations can be used: they are built in, so only what they need from outside is checked
    Install {
        /// The integrations
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List the integrations
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}
