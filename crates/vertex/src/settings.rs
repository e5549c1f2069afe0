//! `VertexSettings`: what a step is given of a machine in Vertex AI's own words.

use longshore_kubeflow::settings::{SettingsError, read};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Settings of a step on Vertex AI. Without a machine of its own, a step says how many processors, how much memory and which
/// accelerators it wants, and Vertex AI chooses the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VertexSettings {
    /// The type of its machine, whatever its processors and memory are: `n1-highmem-8`. It runs in a custom job.
    pub machine_type: Option<String>,
    /// Which accelerators, in place of `gpu_type` of the step's resources: `NVIDIA_L4`.
    pub accelerator_type: Option<String>,
    /// How many, in place of `gpu`.
    pub accelerator_count: Option<u32>,
}

/// The fields of [`VertexSettings`].
pub(crate) const FIELDS: [&str; 3] = ["machine_type", "accelerator_type", "accelerator_count"];

/// The types that there are (`AcceleratorType` of the API, version 1).
pub(crate) const ACCELERATORS: [&str; 18] = [
    "NVIDIA_TESLA_K80",
    "NVIDIA_TESLA_P100",
    "NVIDIA_TESLA_V100",
    "NVIDIA_TESLA_P4",
    "NVIDIA_TESLA_T4",
    "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB",
    "NVIDIA_L4",
    "NVIDIA_H100_80GB",
    "NVIDIA_H100_MEGA_80GB",
    "NVIDIA_H200_141GB",
    "NVIDIA_B200",
    "NVIDIA_GB200",
    "NVIDIA_RTX_PRO_6000",
    "TPU_V2",
    "TPU_V3",
    "TPU_V4_POD",
    "TPU_V5_LITEPOD",
];

impl VertexSettings {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        read("VertexSettings", &FIELDS, fields)
    }
}

/// A type by the name that it has here or on the nodes of a cluster: `nvidia-tesla-t4`.
pub(crate) fn accelerator(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase().replace('-', "_");
    ACCELERATORS.into_iter().find(|known| *known == name)
}
