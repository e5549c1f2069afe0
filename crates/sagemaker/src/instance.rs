//! Which instance has what a step wants.

use longshore_orchestrator::WorkflowStep;
use longshore_pipeline::{Cpu, Memory};

use crate::Error;

/// The instances that are chosen from: type, processors, GiB of memory, accelerators, and which. Smaller ones come first. Both
/// kinds of jobs have all of them; which of them a region has, and how many an account may have, differs. Others are named in
/// the settings.
pub const INSTANCES: [(&str, u32, u32, u32, &str); 30] = [
    ("ml.m5.large", 2, 8, 0, ""),
    ("ml.r5.large", 2, 16, 0, ""),
    ("ml.c5.xlarge", 4, 8, 0, ""),
    ("ml.m5.xlarge", 4, 16, 0, ""),
    ("ml.r5.xlarge", 4, 32, 0, ""),
    ("ml.c5.2xlarge", 8, 16, 0, ""),
    ("ml.m5.2xlarge", 8, 32, 0, ""),
    ("ml.r5.2xlarge", 8, 64, 0, ""),
    ("ml.c5.4xlarge", 16, 32, 0, ""),
    ("ml.m5.4xlarge", 16, 64, 0, ""),
    ("ml.r5.4xlarge", 16, 128, 0, ""),
    ("ml.c5.9xlarge", 36, 72, 0, ""),
    ("ml.r5.8xlarge", 32, 256, 0, ""),
    ("ml.m5.12xlarge", 48, 192, 0, ""),
    ("ml.r5.12xlarge", 48, 384, 0, ""),
    ("ml.r5.16xlarge", 64, 512, 0, ""),
    ("ml.m5.24xlarge", 96, 384, 0, ""),
    ("ml.r5.24xlarge", 96, 768, 0, ""),
    ("ml.g4dn.xlarge", 4, 16, 1, "T4"),
    ("ml.g4dn.2xlarge", 8, 32, 1, "T4"),
    ("ml.g4dn.4xlarge", 16, 64, 1, "T4"),
    ("ml.g4dn.8xlarge", 32, 128, 1, "T4"),
    ("ml.g4dn.16xlarge", 64, 256, 1, "T4"),
    ("ml.g4dn.12xlarge", 48, 192, 4, "T4"),
    ("ml.g5.xlarge", 4, 16, 1, "A10G"),
    ("ml.g5.4xlarge", 16, 64, 1, "A10G"),
    ("ml.g5.16xlarge", 64, 256, 1, "A10G"),
    ("ml.g5.12xlarge", 48, 192, 4, "A10G"),
    ("ml.g5.48xlarge", 192, 768, 8, "A10G"),
    ("ml.p3.2xlarge", 8, 61, 1, "V100"),
];

/// What a step runs on that wants nothing.
pub(crate) const DEFAULT: &str = "ml.m5.large";

/// The first instance that has what a step wants.
pub(crate) fn choose(step: &WorkflowStep) -> Result<&'static str, Error> {
    let wanted = &step.resources;
    let millis = wanted.cpu.map_or(0, Cpu::millis);
    let bytes = wanted.memory.map_or(0, Memory::bytes);
    let count = wanted.gpu.unwrap_or(u32::from(wanted.gpu_type.is_some()));
    let kind = wanted.gpu_type.as_deref().map(accelerator);
    let found = INSTANCES.iter().find(|(_, processors, memory, accelerators, name)| {
        u64::from(*processors) * 1000 >= millis
            && u64::from(*memory) << 30 >= bytes
            && *accelerators >= count
            && (count > 0 || *accelerators == 0)
            && kind.as_ref().is_none_or(|kind| kind == name)
    });
    found.map(|(name, ..)| *name).ok_or_else(|| Error::NoInstance { step: step.name.clone() })
}

/// `nvidia-tesla-t4` and `NVIDIA_T4` are `T4`.
fn accelerator(name: &str) -> String {
    let words = name.split(['-', '_', '/', '.', ' ']).map(str::to_ascii_uppercase);
    words.filter(|word| !matches!(word.as_str(), "NVIDIA" | "TESLA" | "COM" | "GPU")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_have_many_names() {
        for name in ["nvidia-tesla-t4", "NVIDIA_TESLA_T4", "t4", "nvidia-t4"] {
            assert_eq!(accelerator(name), "T4");
        }
    }
}
