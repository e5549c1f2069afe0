//! A stack as a file, to be taken to another machine: what its components are, and no secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Values;

/// The version of the file that this program writes and reads.
pub(crate) const VERSION: u32 = 1;

/// A stack with what its components are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackFile {
    /// The version of the file's form.
    pub version: u32,
    /// The stack's name.
    pub stack: String,
    /// Its components, by kind.
    pub components: BTreeMap<String, StackFileComponent>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackFileComponent {
    /// Its name.
    pub name: String,
    /// Its flavor.
    pub flavor: String,
    /// What its flavor's fields say.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub configuration: Values,
    /// The service connector that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<StackFileConnector>,
}

/// A service connector, by what must be known to register it elsewhere. Its secrets stay where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackFileConnector {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub connector_type: String,
    /// Its method.
    pub auth_method: String,
}
