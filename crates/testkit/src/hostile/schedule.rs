//! When faults happen.

use std::collections::HashMap;

use super::{Fault, Operation, Rule};
use crate::Seeded;

/// Faults by chance. The same seed and the same requests give the same faults, in whichever order the requests of
/// different kinds come.
#[derive(Clone, Debug)]
pub struct Chance {
    /// The seed.
    pub seed: u64,
    /// One request in so many meets one.
    pub one_in: usize,
    /// How many there are at most.
    pub most: usize,
    /// The faults to choose from. Those that would make no difference to a request are not chosen for it.
    pub faults: Vec<Fault>,
}

/// What is to go wrong.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    rules: Vec<Rule>,
    chance: Option<Chance>,
    /// How often something was asked, for chance.
    asked: HashMap<(Operation, String), usize>,
}

impl Schedule {
    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn set_chance(&mut self, chance: Chance) {
        self.chance = Some(chance);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What happens to a request. `about` is the same for requests about the same thing.
    pub(super) fn next(&mut self, operation: Operation, about: &str, length: Option<u64>) -> Option<Fault> {
        let concerned = |rule: &&mut Rule| rule.operation == operation && rule.fault.meets(length);
        for rule in self.rules.iter_mut().filter(concerned) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times = if rule.times == u32::MAX { u32::MAX } else { rule.times - 1 };
                return Some(rule.fault.clone());
            }
        }
        let chance = self.chance.as_mut().filter(|chance| chance.most > 0)?;
        let times = self.asked.entry((operation, about.to_owned())).or_default();
        *times += 1;
        let mut dice = Seeded::of(chance.seed, (operation, about, *times));
        if dice.below(chance.one_in) != 0 {
            return None;
        }
        let possible: Vec<_> =
            chance.faults.iter().filter(|fault| fault.concerns(operation) && fault.meets(length)).collect();
        let fault = dice.pick(&possible).map(|fault| (*fault).clone())?;
        chance.most -= 1;
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_in_their_time() {
        let mut schedule = Schedule::default();
        schedule.add(Fault::Html.times_on(Operation::Base, 2).after(1));
        schedule.add(Fault::ResetAtOnce.always_on(Operation::Tags));
        let base: Vec<_> = (0..4).map(|_| schedule.next(Operation::Base, "", None).is_some()).collect();
        assert_eq!(base, [false, true, true, false]);
        assert!((0..9).all(|_| schedule.next(Operation::Tags, "", None) == Some(Fault::ResetAtOnce)));
    }

    #[test]
    fn chance_repeats_itself_and_chooses_what_makes_a_difference() {
        let faults = vec![Fault::PagingLoop, Fault::WrongBytes, Fault::MountRefused];
        let chance = Chance { seed: 7, one_in: 2, most: 50, faults };
        let drawn = || {
            let mut schedule = Schedule::default();
            schedule.set_chance(chance.clone());
            (0..100)
                .map(|i| schedule.next(Operation::BlobGet, if i % 2 == 0 { "a" } else { "b" }, None))
                .collect()
        };
        let (first, second): (Vec<_>, Vec<_>) = (drawn(), drawn());
        assert_eq!(first, second);
        let met: Vec<_> = first.into_iter().flatten().collect();
        assert!(met.len() > 20 && met.iter().all(|fault| *fault == Fault::WrongBytes), "{met:?}");
    }
}
