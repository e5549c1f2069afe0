//! Machines of serverless compute, for steps that say what they need and not where.

use longshore_pipeline::Resources;

/// A size of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    name: &'static str,
    cpus: u64,
    /// GiB.
    memory: u64,
    gpus: u32,
    /// Which, without `nvidia-` and `tesla-`.
    gpu: &'static str,
}

const fn cpu(name: &'static str, cpus: u64, memory: u64) -> Size {
    Size { name, cpus, memory, gpus: 0, gpu: "" }
}

const fn gpu(name: &'static str, cpus: u64, memory: u64, gpus: u32, gpu: &'static str) -> Size {
    Size { name, cpus, memory, gpus, gpu }
}

/// From small to large ("Sizes for virtual machines in Azure", the series that Azure Machine Learning supports). Those with
/// much memory come after those with as many processors.
const SIZES: [Size; 17] = [
    cpu("Standard_DS2_v2", 2, 7),
    cpu("Standard_DS3_v2", 4, 14),
    cpu("Standard_E4s_v3", 4, 32),
    cpu("Standard_DS4_v2", 8, 28),
    cpu("Standard_E8s_v3", 8, 64),
    cpu("Standard_DS5_v2", 16, 56),
    cpu("Standard_E16s_v3", 16, 128),
    cpu("Standard_E32s_v3", 32, 256),
    cpu("Standard_E64s_v3", 64, 432),
    gpu("Standard_NC4as_T4_v3", 4, 28, 1, "t4"),
    gpu("Standard_NC8as_T4_v3", 8, 56, 1, "t4"),
    gpu("Standard_NC16as_T4_v3", 16, 110, 1, "t4"),
    gpu("Standard_NC64as_T4_v3", 64, 440, 4, "t4"),
    gpu("Standard_NC24ads_A100_v4", 24, 220, 1, "a100-80gb"),
    gpu("Standard_NC48ads_A100_v4", 48, 440, 2, "a100-80gb"),
    gpu("Standard_NC96ads_A100_v4", 96, 880, 4, "a100-80gb"),
    gpu("Standard_NC40ads_H100_v5", 40, 320, 1, "h100-94gb"),
];

/// The smallest size with these resources; none if nothing is asked for. `Err` tells what was asked for.
pub(crate) fn size_for(resources: &Resources) -> Result<Option<&'static str>, String> {
    if resources == &Resources::default() {
        return Ok(None);
    }
    let asked = resources.gpu_type.as_ref().map(|name| name.to_ascii_lowercase().replace(['_', ' '], "-"));
    let asked = asked.as_deref().map(|name| {
        let name = name.strip_prefix("nvidia-").unwrap_or(name);
        name.strip_prefix("tesla-").unwrap_or(name)
    });
    let gpus = resources.gpu.unwrap_or_else(|| u32::from(asked.is_some()));
    let is_asked = |size: &Size| match asked {
        Some(asked) => size.gpu == asked || size.gpu.split('-').next() == Some(asked),
        None => true,
    };
    let fits = |size: &&Size| {
        (if gpus == 0 { size.gpus == 0 } else { size.gpus >= gpus && is_asked(size) })
            && resources.cpu.is_none_or(|cpu| cpu.millis() <= size.cpus * 1000)
            && resources.memory.is_none_or(|memory| memory.bytes() <= size.memory << 30)
    };
    let wanted = || {
        let cpu = resources.cpu.map(|cpu| format!("{cpu} processors"));
        let memory = resources.memory.map(|memory| format!("{memory} of memory"));
        let kind = resources.gpu_type.as_deref().map(|kind| format!(" of type {kind}")).unwrap_or_default();
        let gpu = (gpus > 0).then(|| format!("{gpus} accelerators{kind}"));
        [cpu, memory, gpu].into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    SIZES.iter().find(fits).map(|size| Some(size.name)).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn size(resources: &serde_json::Value) -> Result<Option<&'static str>, String> {
        size_for(&serde_json::from_value(resources.clone()).unwrap())
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        for (resources, name) in [
            (json!({ "cpu": 0.5 }), "Standard_DS2_v2"),
            (json!({ "cpu": 2.5 }), "Standard_DS3_v2"),
            (json!({ "memory": "30GiB" }), "Standard_E4s_v3"),
            (json!({ "gpu": 1 }), "Standard_NC4as_T4_v3"),
            (json!({ "gpu": 2, "gpu_type": "nvidia-tesla-t4" }), "Standard_NC64as_T4_v3"),
            (json!({ "gpu_type": "NVIDIA_A100_80GB" }), "Standard_NC24ads_A100_v4"),
            (json!({ "gpu_type": "a100", "memory": "500GiB" }), "Standard_NC96ads_A100_v4"),
            (json!({ "gpu_type": "nvidia-h100" }), "Standard_NC40ads_H100_v5"),
        ] {
            assert_eq!(size(&resources), Ok(Some(name)), "{resources}");
        }
        assert_eq!(size(&json!({})), Ok(None));
    }

    #[test]
    fn what_no_size_has_is_told() {
        let wanted = size(&json!({ "cpu": 2, "gpu": 1, "gpu_type": "mi300x" })).unwrap_err();
        assert_eq!(wanted, "2 processors, 1 accelerators of type mi300x");
        assert_eq!(size(&json!({ "cpu": 65 })).unwrap_err(), "65 processors");
    }
}
