//! Cron's five fields, read: for services that write schedules in another way.

use std::{fmt, str::FromStr};

/// When something runs: the values of cron's five fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// Minutes, 0 to 59.
    pub minutes: CronField,
    /// Hours, 0 to 23.
    pub hours: CronField,
    /// Days of the month, 1 to 31.
    pub days: CronField,
    /// Months, 1 to 12.
    pub months: CronField,
    /// Days of the week, 0 to 6: Sunday is the first.
    pub weekdays: CronField,
}

/// The values of one field. Printed, they are as cron writes them, with digits, commas and dashes only, or `*` for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronField {
    unit: Unit,
    /// A bit for each value.
    set: u64,
}

/// What a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
}

/// A field that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` in the schedule `{cron}` is no {what}: {range}, alone, in ranges, in lists, or with a step, as in */15"
)]
pub struct CronError {
    cron: String,
    text: String,
    what: &'static str,
    range: &'static str,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Unit {
    const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Weekday];

    /// The first and the last value.
    const fn bounds(self) -> (u8, u8) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 6),
        }
    }

    /// What a value is called, and which ones there are.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Minute => ("minute", "0 to 59"),
            Self::Hour => ("hour", "0 to 23"),
            Self::Day => ("day of a month", "1 to 31"),
            Self::Month => ("month", "1 to 12 or JAN to DEC"),
            Self::Weekday => ("day of the week", "0 to 7 or SUN to SAT"),
        }
    }

    /// A value by its number or its name.
    fn value(self, text: &str) -> Option<u8> {
        let (names, first): (&[&str], u8) = match self {
            Self::Month => (&MONTHS, 1),
            Self::Weekday => (&WEEKDAYS, 0),
            _ => (&[], 0),
        };
        if let Some(position) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return u8::try_from(position).ok().map(|position| position + first);
        }
        let (first, last) = self.bounds();
        // Sunday is the last day, too.
        let last = if self == Self::Weekday { last + 1 } else { last };
        let digits = text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse().ok().filter(|value| digits && (first..=last).contains(value))
    }

    /// The bits of one member of a list: `*`, `5`, `1-5`, `*/15`, `8-18/2`, `5/10`.
    fn member(self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().ok().filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let (first, last) = self.bounds();
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (first, last),
            (_, Some((from, to))) => (self.value(from)?, self.value(to)?),
            // Where there is a step, the rest of them from there on.
            (_, None) => {
                let from = self.value(range)?;
                (from, if step.is_some() { last.max(from) } else { from })
            }
        };
        if from > to {
            return None;
        }
        let bit = |value: u8| 1_u64 << if self == Self::Weekday { value % 7 } else { value };
        Some((from..=to).step_by(step.unwrap_or(1)).fold(0, |set, value| set | bit(value)))
    }
}

impl CronField {
    /// Whether it has all values there are.
    pub fn is_every(&self) -> bool {
        let (first, last) = self.unit.bounds();
        (first..=last).all(|value| self.has(value))
    }

    /// Its values, from small to large.
    pub fn values(&self) -> Vec<u8> {
        let (first, last) = self.unit.bounds();
        (first..=last).filter(|value| self.has(*value)).collect()
    }

    const fn has(&self, value: u8) -> bool {
        (self.set >> value) & 1 == 1
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_every() {
            return f.write_str("*");
        }
        let mut separator = "";
        let mut values = self.values().into_iter().peekable();
        while let Some(from) = values.next() {
            let mut to = from;
            while let Some(next) = values.next_if(|next| *next == to + 1) {
                to = next;
            }
            match to - from {
                0 => write!(f, "{separator}{from}")?,
                1 => write!(f, "{separator}{from},{to}")?,
                _ => write!(f, "{separator}{from}-{to}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(cron: &str) -> Result<Self, CronError> {
        let mut texts = cron.split_whitespace();
        let mut field = |unit: Unit| {
            let text = texts.next().unwrap_or_default();
            let set = text.split(',').try_fold(0, |set, member| Some(set | unit.member(member)?));
            let (what, range) = unit.words();
            let error = || CronError { cron: cron.to_owned(), text: text.to_owned(), what, range };
            set.map(|set| CronField { unit, set }).ok_or_else(error)
        };
        let [minute, hour, day, month, weekday] = Unit::ALL.map(&mut field);
        Ok(Self { minutes: minute?, hours: hour?, days: day?, months: month?, weekdays: weekday? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(cron: &str) -> String {
        let Cron { minutes, hours, days, months, weekdays } = cron.parse().unwrap();
        format!("{minutes} {hours} {days} {months} {weekdays}")
    }

    #[test]
    fn fields_are_sets_of_values() {
        for (cron, same) in [
            ("30 3 * * *", "30 3 * * *"),
            ("*/15 8-18/2 1 jan,JUL MON-FRI", "0,15,30,45 8,10,12,14,16,18 1 1,7 1-5"),
            ("*/1 0-23 1-31 1-12 0-7", "* * * * *"),
            ("0 0 * * 5-7", "0 0 * * 0,5,6"),
            ("50/5 0 * * 7", "50,55 0 * * 0"),
            ("1,2 0,1,2,9 * * sat", "1,2 0-2,9 * * 6"),
        ] {
            assert_eq!(printed(cron), same);
        }
        let cron: Cron = "0 3 1,15 * *".parse().unwrap();
        assert_eq!(cron.days.values(), [1, 15]);
        assert!(cron.months.is_every() && !cron.days.is_every());
    }

    #[test]
    fn what_is_no_value_is_named() {
        for (cron, part) in [
            ("60 3 * * *", "`60` in the schedule `60 3 * * *` is no minute: 0 to 59"),
            ("0 24 * * *", "no hour"),
            ("0 3 L * *", "no day of a month"),
            ("0 3 * FOO *", "JAN to DEC"),
            ("0 3 * * FRI-MON", "`FRI-MON`"),
            ("*/0 3 * * *", "`*/0`"),
            ("+1 3 * * *", "`+1`"),
            ("0 3 * *", "`` in the schedule"),
        ] {
            let error = cron.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_the_same_again(minute in 0..60_u8, hours in "([0-9]|1[0-9]|2[0-3])(,[0-9]){0,5}", step in 1..40_u8) {
            let once = printed(&format!("{minute}/{step} {hours} */{step} * *"));
            prop_assert_eq!(&printed(&once), &once);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9A-Z*/,?#-]{1,8} .{0,20}") {
            let _ = text.parse::<Cron>();
        }
    }
}
