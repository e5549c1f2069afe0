//! Downloads from servers on this machine that misbehave as told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod faults;
mod hosts;
mod server;
