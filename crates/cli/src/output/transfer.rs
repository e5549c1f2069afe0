//! What a person sees of an image on its way.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_client::{BlobOutcome, Event};
use longshore_oci::Digest;

/// A bar on standard error, and the sum of what was moved.
#[derive(Debug)]
pub(crate) struct Transfer {
    bar: ProgressBar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of each blob, how much is where it should be.
    arrived: HashMap<Digest, u64>,
    /// The bytes of the blobs that were moved.
    moved: u64,
}

impl Transfer {
    /// Nothing has moved yet.
    pub(crate) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10))
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("copying [{bar:30}] {decimal_bytes}/{decimal_total_bytes}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar, state: Mutex::default() }
    }

    /// Takes an event.
    pub(crate) fn observe(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { bytes, .. } => self.bar.set_length(*bytes),
            Event::Moved { digest, bytes, .. } => {
                state.arrived.insert(*digest, *bytes);
            }
            Event::Blob { digest, outcome, size } => {
                state.arrived.insert(*digest, *size);
                if *outcome == BlobOutcome::Moved {
                    state.moved += size;
                }
            }
            _ => {}
        }
        self.bar.set_position(state.arrived.values().sum());
    }

    /// Takes the bar away; how many bytes of blobs were moved.
    pub(crate) fn finish(&self) -> u64 {
        self.bar.finish_and_clear();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).moved
    }
}
