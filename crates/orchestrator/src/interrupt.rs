//! The user's wish to stop.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use longshore_sandbox::{Signal, Signals};
use rustix::process::Pid;

/// Passed to a run, and kept by whoever hears of Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    asked: u32,
    running: BTreeMap<u64, Running>,
    /// How many have been named.
    named: u64,
}

/// Something that runs and can be ended.
#[derive(Clone, Debug)]
pub(crate) enum Running {
    /// A container.
    Container(Signals),
    /// A process and what it started, by the process group that it leads.
    Group(Pid),
}

impl Running {
    fn send(&self, signal: Signal) {
        match self {
            Self::Container(signals) => signals.send(signal),
            Self::Group(leader) => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(signal.number()) {
                    // A group that has ended needs no signal.
                    let _ = rustix::process::kill_process_group(*leader, signal);
                }
            }
        }
    }
}

impl Interrupt {
    /// Nobody wishes to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run. The steps that run are interrupted, the second time killed; no further one begins.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.asked += 1;
        if let Some(signal) = state.signal() {
            state.running.values().for_each(|running| running.send(signal));
        }
    }

    /// Whether the run is to stop.
    pub fn is_stopping(&self) -> bool {
        self.lock().asked > 0
    }

    /// Names what runs, until the guard is dropped. It is told at once if the wish came before it.
    pub(crate) fn while_running(&self, running: Running) -> Named<'_> {
        let mut state = self.lock();
        if let Some(signal) = state.signal() {
            running.send(signal);
        }
        state.named += 1;
        let number = state.named;
        state.running.insert(number, running);
        Named { interrupt: self, number }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What those that run are to be told.
    const fn signal(&self) -> Option<Signal> {
        match self.asked {
            0 => None,
            1 => Some(Signal::INTERRUPT),
            _ => Some(Signal::KILL),
        }
    }
}

/// Something that runs and is told of the wish to stop.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    interrupt: &'a Interrupt,
    number: u64,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        self.interrupt.lock().running.remove(&self.number);
    }
}
