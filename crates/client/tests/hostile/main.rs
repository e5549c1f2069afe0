//! A registry that does everything wrong that registries do: a push or a pull either ends correct or says why not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod desk;
mod image;
mod sequences;
