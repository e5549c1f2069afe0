//! How a command fails: what is said and with which code the program exits.

use std::{error::Error, process::ExitCode};

use longshore_auth::connector::ConfigError;
use longshore_oci::ReferenceError;
use longshore_stack::{ConfigurationError, FlavorError, NameError, StateError};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command makes no sense as given.
    Usage(String),
    /// Something went wrong; the error says what, on which object, why, and what to do.
    Failed(Box<dyn Error + Send + Sync>),
    /// What went wrong has been said already.
    Said,
    /// The user interrupted it.
    Interrupted,
    /// A process that was run for the user ended with this code.
    Exit(u8),
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: Box<dyn Error + Send + Sync> = Box::new(error);
        if is_usage(&*error) { Self::Usage(error.to_string()) } else { Self::Failed(error) }
    }
}

/// Whether an error says that the command makes no sense as given.
fn is_usage(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<StateError>().is_some_and(StateError::is_usage)
        || error.is::<ConfigurationError>()
        || error.is::<FlavorError>()
        || error.is::<NameError>()
        || error.is::<ConfigError>()
        || error.is::<ReferenceError>()
}

impl Failure {
    /// Says what went wrong, and gives the program's exit code.
    pub(crate) fn report(self) -> ExitCode {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        match self {
            Self::Usage(message) => {
                anstream::eprintln!("{red}error{red:#}: {message}");
                ExitCode::from(2)
            }
            Self::Failed(error) => {
                anstream::eprintln!("{red}error{red:#}: {error}");
                ExitCode::FAILURE
            }
            Self::Said => ExitCode::FAILURE,
            Self::Interrupted => {
                anstream::eprintln!(
                    "{red}interrupted{red:#}: what was finished is kept; run it again to go on from there"
                );
                ExitCode::FAILURE
            }
            Self::Exit(code) => ExitCode::from(code),
        }
    }
}
