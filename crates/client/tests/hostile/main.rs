//! A registry that does everything wrong that registries do: a push or a pull either ends correct or says why not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]
#![allow(clippy::print_stdout, reason = "which seeds are run is shown")]

mod desk;
mod faults;
mod image;
mod sequences;
