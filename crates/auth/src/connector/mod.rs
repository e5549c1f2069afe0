//! Service connectors: stored credentials of a type, that yield short-lived ones for registries.
//!
//! [`ConnectorType`], [`Method`] and [`Field`] are a table: what there is, for checks and help texts. [`Config`] is a
//! checked set of values, and [`Connector`] gets credentials with it.

mod config;
mod form;
mod kind;
mod live;
mod password;
mod table;

pub use config::{Config, ConfigError};
pub use form::Hint;
pub use kind::{ConnectorType, Field, Form, Kind, Method, Need};
pub use live::{Connector, Identity, Proof, Resource};

pub(crate) use form::url as check_url;
