//! The user's wish to stop.

use std::sync::{Arc, Mutex, PoisonError};

use longshore_sandbox::{Signal, Signals};

/// Passed to a run, and kept by whoever hears of Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    asked: u32,
    running: Option<Signals>,
}

impl Interrupt {
    /// Nobody wishes to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run. The step that runs is interrupted, the second time killed; no further one begins.
    pub fn stop(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked += 1;
        if let Some(running) = &state.running {
            running.send(if state.asked == 1 { Signal::INTERRUPT } else { Signal::KILL });
        }
    }

    /// Whether the run is to stop.
    pub fn is_stopping(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked > 0
    }

    /// Names what runs now, if anything does. It is told at once if the wish came before it.
    pub(crate) fn running(&self, signals: Option<Signals>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (1.., Some(running)) = (state.asked, &signals) {
            running.send(Signal::INTERRUPT);
        }
        state.running = signals;
    }
}
