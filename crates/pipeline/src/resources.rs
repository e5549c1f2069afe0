//! `ResourceSettings`: what a step's container is given of a machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

/// What a step's container is given of a machine. What is not set is the orchestrator's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// How many accelerators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// Which accelerators, as the orchestrator calls them, e.g. `nvidia-tesla-t4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_type: Option<String>,
}

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(u64);

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(u64);

impl Cpu {
    /// So many thousandths of a processor.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Thousandths of a processor.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl Memory {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Text or a number that is not an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of memory; write a number and a unit, such as 512MB or 4GiB")]
pub struct MemoryError(String);

impl FromStr for Memory {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let wrong = || MemoryError(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "k" | "K" | "kB" | "KB" => 1000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            "T" | "TB" => 1_000_000_000_000,
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            "Ti" | "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let mut bytes = whole.checked_mul(factor).ok_or_else(wrong)?;
        if !fraction.is_empty() {
            let scale =
                10_u64.checked_pow(u32::try_from(fraction.len()).map_err(|_| wrong())?).ok_or_else(wrong)?;
            let fraction: u64 = fraction.parse().map_err(|_| wrong())?;
            let part = u128::from(fraction) * u128::from(factor) / u128::from(scale);
            bytes = bytes.checked_add(u64::try_from(part).map_err(|_| wrong())?).ok_or_else(wrong)?;
        }
        if bytes == 0 { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Memory {
    /// In the largest binary unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, rest) => f.write_str(format!("{whole}.{rest:03}").trim_end_matches('0')),
        }
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Up to 2^53 thousandths are exact, which is more processors than there are.
        #[expect(clippy::cast_precision_loss, reason = "no machine has 2^53 thousandths of a processor")]
        let processors = self.0 as f64 / 1000.0;
        serializer.serialize_f64(processors)
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let processors = f64::deserialize(deserializer)?;
        if !(0.001..=1_000_000.0).contains(&processors) {
            return Err(de::Error::custom(format_args!("cpu: {processors} is not a number of processors")));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 10^9, by the line above"
        )]
        let millis = (processors * 1000.0).round() as u64;
        Ok(Self(millis))
    }
}

/// The fields of [`Resources`].
const FIELDS: [&str; 4] = ["cpu", "memory", "gpu", "gpu_type"];

/// Why some JSON is not [`Resources`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourcesError {
    /// A field that does not exist.
    #[error("ResourceSettings has no field `{field}`; it has {}", FIELDS.join(", "))]
    UnknownField {
        /// The field.
        field: String,
    },
    /// A value of the wrong type.
    #[error("ResourceSettings: {0}")]
    Value(serde_json::Error),
}

impl Resources {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, ResourcesError> {
        if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            return Err(ResourcesError::UnknownField { field: field.clone() });
        }
        serde_json::from_value(Value::Object(fields.clone())).map_err(ResourcesError::Value)
    }

    /// These where they are set, `base` elsewhere.
    pub fn over(&self, base: &Self) -> Self {
        let (this, base) = (self.clone(), base.clone());
        Self {
            cpu: this.cpu.or(base.cpu),
            memory: this.memory.or(base.memory),
            gpu: this.gpu.or(base.gpu),
            gpu_type: this.gpu_type.or(base.gpu_type),
        }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<Resources, ResourcesError> {
        Resources::from_json(value.as_object().unwrap())
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let read =
            parse(&json!({"cpu": 0.5, "memory": "1.5GiB", "gpu": 1, "gpu_type": "nvidia-l4"})).unwrap();
        assert_eq!(read.cpu, Some(Cpu::from_millis(500)));
        assert_eq!(read.memory, Some(Memory::from_bytes(3 << 29)));
        assert_eq!(serde_json::to_value(&read).unwrap()["memory"], "1536MiB");
        assert_eq!("512MB".parse(), Ok(Memory::from_bytes(512_000_000)));
        assert_eq!("2 Gi".parse(), Ok(Memory::from_bytes(2 << 30)));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "GiB", "4 gigs", "-1GB", "0GB", "1e9", "99999999999999TB", "1.2.3GB"] {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
        for cpu in [json!(0), json!(-1), json!("2")] {
            assert!(matches!(parse(&json!({"cpu": cpu})), Err(ResourcesError::Value(_))));
        }
        assert!(parse(&json!({"ram": "1GB"})).unwrap_err().to_string().contains("it has cpu, memory"));
    }

    #[test]
    fn a_steps_own_win() {
        let base = parse(&json!({"cpu": 1, "memory": "1GiB"})).unwrap();
        let step = parse(&json!({"cpu": 2})).unwrap();
        assert_eq!(step.over(&base), parse(&json!({"cpu": 2, "memory": "1GiB"})).unwrap());
    }

    proptest! {
        #[test]
        fn memory_is_read_back_as_written(bytes in 1_u64..) {
            prop_assert_eq!(Memory(bytes).to_string().parse(), Ok(Memory(bytes)));
        }
    }
}
