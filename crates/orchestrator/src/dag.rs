//! Which steps may begin, by how far the others are: the rule of every orchestrator that starts steps itself.

use std::{collections::BTreeMap, num::NonZeroU32};

use longshore_pipeline::{Cpu, Memory, Resources};

use crate::Phase;

/// The steps of a pipeline, by their positions, and what they wait for.
#[derive(Clone, Debug)]
pub struct Dag {
    steps: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    upstream: Vec<Option<usize>>,
    demand: Demand,
}

/// What a step takes while it runs, as far as it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Processors.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
}

/// What there is for the steps that run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The most steps.
    pub steps: NonZeroU32,
    /// Processors, for the steps that say how many they take.
    pub cpu: Option<Cpu>,
    /// Memory, likewise.
    pub memory: Option<Memory>,
}

/// What follows from how far the steps are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The steps at these positions begin, in this order. None of them if one of those that run has to end first.
    Begin(Vec<usize>),
    /// A step did not succeed. No other begins, and those that run go on to their end: nothing is wrong with them, and what
    /// they make is kept.
    Drain {
        /// Its position.
        failed: usize,
    },
    /// No step runs, and none will.
    Ended {
        /// The position of the first step that did not succeed.
        failed: Option<usize>,
    },
}

impl From<&Resources> for Demand {
    fn from(resources: &Resources) -> Self {
        Self { cpu: resources.cpu, memory: resources.memory }
    }
}

impl Capacity {
    /// So many steps, whatever they take.
    pub const fn of_steps(steps: NonZeroU32) -> Self {
        Self { steps, cpu: None, memory: None }
    }
}

impl Dag {
    /// The graph of steps, each with its name, the names of those that have to succeed before it, and what it takes.
    pub fn new<'a, U>(steps: impl Iterator<Item = (&'a str, U, Demand)> + Clone) -> Self
    where
        U: IntoIterator<Item = &'a str>,
    {
        let positions: BTreeMap<&str, usize> =
            steps.clone().enumerate().map(|(position, (name, ..))| (name, position)).collect();
        let node = |(_, upstream, demand): (&str, U, Demand)| Node {
            upstream: upstream.into_iter().map(|name| positions.get(name).copied()).collect(),
            demand,
        };
        Self { steps: steps.map(node).collect() }
    }

    /// What follows from the phases of the steps, by position.
    pub fn next(&self, phases: &[Phase], capacity: &Capacity) -> Next {
        let failed = phases.iter().position(|phase| matches!(phase, Phase::Failed | Phase::Cancelled));
        match failed {
            Some(failed) if phases.contains(&Phase::Running) => return Next::Drain { failed },
            Some(_) => return Next::Ended { failed },
            None if phases.iter().all(|phase| phase.is_final()) => return Next::Ended { failed },
            None => {}
        }
        let mut taken = Taken::default();
        for (node, _) in self.steps.iter().zip(phases).filter(|(_, phase)| **phase == Phase::Running) {
            taken.add(&node.demand);
        }
        let has_succeeded = |upstream: &Option<usize>| {
            upstream.and_then(|position| phases.get(position)) == Some(&Phase::Succeeded)
        };
        let mut begin = Vec::new();
        for (position, (node, phase)) in self.steps.iter().zip(phases).enumerate() {
            let is_ready = *phase == Phase::Pending && node.upstream.iter().all(has_succeeded);
            // One for which there is no room yet is passed by: those that end make room, so its turn comes.
            if is_ready && taken.leaves_room(&node.demand, capacity) {
                taken.add(&node.demand);
                begin.push(position);
            }
        }
        Next::Begin(begin)
    }
}

/// What the steps that run take.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    steps: u32,
    millis: u64,
    bytes: u64,
}

impl Taken {
    fn add(&mut self, demand: &Demand) {
        self.steps = self.steps.saturating_add(1);
        self.millis = self.millis.saturating_add(demand.cpu.map_or(0, Cpu::millis));
        self.bytes = self.bytes.saturating_add(demand.memory.map_or(0, Memory::bytes));
    }

    /// Whether another step fits beside them. A step that takes more than there is runs alone.
    fn leaves_room(&self, demand: &Demand, capacity: &Capacity) -> bool {
        let fits = |taken: u64, wanted: Option<u64>, all: Option<u64>| match (wanted, all) {
            (Some(wanted), Some(all)) => taken.saturating_add(wanted) <= all,
            _ => true,
        };
        self.steps == 0
            || (self.steps < capacity.steps.get()
                && fits(self.millis, demand.cpu.map(Cpu::millis), capacity.cpu.map(Cpu::millis))
                && fits(self.bytes, demand.memory.map(Memory::bytes), capacity.memory.map(Memory::bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Cancelled, Failed, Pending, Running, Succeeded};
    use proptest::prelude::*;

    fn dag(steps: &[(&str, &[&str], Demand)]) -> Dag {
        Dag::new(steps.iter().map(|(name, upstream, demand)| (*name, upstream.iter().copied(), *demand)))
    }

    fn diamond() -> Dag {
        let any = Demand::default();
        dag(&[
            ("load", &[], any),
            ("left", &["load"], any),
            ("right", &["load"], any),
            ("join", &["left", "right"], any),
        ])
    }

    fn steps(most: u32) -> Capacity {
        Capacity::of_steps(NonZeroU32::new(most).unwrap())
    }

    fn takes(cpu: u64, memory: u64) -> Demand {
        Demand { cpu: Some(Cpu::from_millis(cpu)), memory: Some(Memory::from_bytes(memory)) }
    }

    #[test]
    fn steps_begin_when_all_before_them_have_succeeded() {
        let next = |phases: [Phase; 4]| diamond().next(&phases, &steps(8));
        assert_eq!(next([Pending, Pending, Pending, Pending]), Next::Begin(vec![0]));
        assert_eq!(next([Running, Pending, Pending, Pending]), Next::Begin(vec![]));
        assert_eq!(next([Succeeded, Pending, Pending, Pending]), Next::Begin(vec![1, 2]));
        assert_eq!(next([Succeeded, Running, Succeeded, Pending]), Next::Begin(vec![]));
        assert_eq!(next([Succeeded, Succeeded, Succeeded, Pending]), Next::Begin(vec![3]));
        assert_eq!(next([Succeeded; 4]), Next::Ended { failed: None });
    }

    #[test]
    fn after_a_failure_none_begins_and_the_others_are_waited_for() {
        let next = |phases: [Phase; 4]| diamond().next(&phases, &steps(8));
        assert_eq!(next([Succeeded, Failed, Running, Pending]), Next::Drain { failed: 1 });
        assert_eq!(next([Succeeded, Running, Cancelled, Pending]), Next::Drain { failed: 2 });
        assert_eq!(next([Succeeded, Failed, Succeeded, Pending]), Next::Ended { failed: Some(1) });
        let independent = dag(&[("a", &[], Demand::default()), ("b", &[], Demand::default())]);
        assert_eq!(independent.next(&[Failed, Pending], &steps(8)), Next::Ended { failed: Some(0) });
    }

    #[test]
    fn no_more_run_at_a_time_than_may() {
        let phases = [Succeeded, Pending, Pending, Pending];
        assert_eq!(diamond().next(&phases, &steps(1)), Next::Begin(vec![1]));
        let phases = [Succeeded, Running, Pending, Pending];
        assert_eq!(diamond().next(&phases, &steps(1)), Next::Begin(vec![]));
    }

    #[test]
    fn what_steps_take_is_shared() {
        let machine = Capacity {
            cpu: Some(Cpu::from_millis(2000)),
            memory: Some(Memory::from_bytes(1000)),
            ..steps(8)
        };
        let graph = dag(&[
            ("two_processors", &[], takes(2000, 1)),
            ("one", &[], takes(1000, 1)),
            ("says_nothing", &[], Demand::default()),
            ("all_memory", &[], takes(0, 1000)),
        ]);
        assert_eq!(graph.next(&[Pending; 4], &machine), Next::Begin(vec![0, 2]));
        assert_eq!(graph.next(&[Succeeded, Pending, Running, Pending], &machine), Next::Begin(vec![1]));
        assert_eq!(graph.next(&[Succeeded, Succeeded, Running, Pending], &machine), Next::Begin(vec![3]));
        // What is larger than the machine waits until nothing else runs.
        let large = dag(&[("small", &[], takes(1, 1)), ("large", &[], takes(64_000, 1))]);
        assert_eq!(large.next(&[Pending, Pending], &machine), Next::Begin(vec![0]));
        assert_eq!(large.next(&[Succeeded, Pending], &machine), Next::Begin(vec![1]));
    }

    proptest! {
        #[test]
        fn every_graph_is_carried_out_within_its_limits(
            edges in proptest::collection::vec(any::<u16>(), 1..14),
            demands in proptest::collection::vec(0_u64..4000, 14),
            most in 1_u32..5,
            order in any::<u64>(),
        ) {
            let names: Vec<String> = (0..edges.len()).map(|step| format!("s{step}")).collect();
            let upstream = |step: usize| -> Vec<&str> {
                (0..step).filter(|from| (edges[step] >> from) & 1 == 1).map(|from| names[from].as_str()).collect()
            };
            let list: Vec<_> = (0..edges.len())
                .map(|step| (names[step].as_str(), upstream(step), takes(demands[step], 1)))
                .collect();
            let graph = Dag::new(list.iter().map(|(name, up, demand)| (*name, up.iter().copied(), *demand)));
            let capacity = Capacity { cpu: Some(Cpu::from_millis(3000)), ..steps(most) };
            let mut phases = vec![Pending; edges.len()];
            let mut seed = order;
            loop {
                match graph.next(&phases, &capacity) {
                    Next::Begin(begin) => {
                        for step in begin {
                            let has_ended = |up: &&str| phases[up[1..].parse::<usize>().unwrap()] == Succeeded;
                            prop_assert!(list[step].1.iter().all(has_ended));
                            phases[step] = Running;
                        }
                    }
                    Next::Ended { failed } => {
                        prop_assert_eq!(failed, None);
                        break;
                    }
                    Next::Drain { .. } => prop_assert!(false, "nothing failed"),
                }
                let running: Vec<usize> = (0..phases.len()).filter(|step| phases[*step] == Running).collect();
                prop_assert!(!running.is_empty() && running.len() <= usize::try_from(most).unwrap());
                let millis: u64 = running.iter().map(|step| demands[*step]).sum();
                prop_assert!(running.len() == 1 || millis <= 3000);
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                phases[running[usize::try_from(seed >> 33).unwrap() % running.len()]] = Succeeded;
            }
            prop_assert!(phases.iter().all(|phase| *phase == Succeeded));
        }
    }
}
