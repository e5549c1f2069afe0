//! What goes: pure.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use super::{
    CacheSize,
    stock::{Item, Kind},
};

/// The things of a kind, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What they are.
    pub kind: Kind,
    /// How many there are.
    pub count: usize,
    /// The bytes that they take. Bytes that things of several kinds share are the first kind's.
    pub size: u64,
}

/// Counts things by their kinds, which come in the order of [`Kind::ALL`].
pub fn tally<'a>(items: impl IntoIterator<Item = &'a Item>) -> [Tally; 4] {
    let mut tallies = Kind::ALL.map(|kind| Tally { kind, count: 0, size: 0 });
    let mut items: Vec<&Item> = items.into_iter().collect();
    items.sort_by_key(|item| item.kind);
    let mut counted = HashSet::new();
    for item in items {
        let shared = item.shared.filter(|shared| counted.insert(shared.file));
        if let Some(tally) = tallies.iter_mut().find(|tally| tally.kind == item.kind) {
            tally.count += 1;
            tally.size += item.size + shared.map_or(0, |shared| shared.size);
        }
    }
    tallies
}

/// The bytes that things take together: those that several share once.
pub fn bytes<'a>(items: impl IntoIterator<Item = &'a Item>) -> u64 {
    tally(items).iter().map(|tally| tally.size).sum()
}

/// The things to remove so that no more than `limit` is left: those that were used least recently, the larger ones first
/// where that was at the same time. Things that share a file go together, since one without the other frees nothing, and
/// count as used when the last of them was.
pub fn victims(items: &[Item], limit: CacheSize) -> Vec<&Item> {
    let CacheSize::Bytes(limit) = limit else { return Vec::new() };
    let mut left = bytes(items);
    let mut groups: Vec<Group<'_>> =
        groups(items).into_iter().filter(|group| group.items.iter().all(|item| !item.kept)).collect();
    groups.sort_by_key(|group| (group.used, Reverse(group.size)));
    let mut victims = Vec::new();
    for group in groups {
        if left <= limit {
            break;
        }
        left -= group.size;
        victims.extend(group.items);
    }
    victims
}

/// Things that go together.
struct Group<'a> {
    items: Vec<&'a Item>,
    size: u64,
    used: SystemTime,
}

fn groups(items: &[Item]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut sharing = HashMap::new();
    for item in items {
        let with = item.shared.map(|shared| *sharing.entry(shared.file).or_insert(groups.len()));
        if let Some(group) = with.and_then(|index| groups.get_mut(index)) {
            group.items.push(item);
            group.size += item.size;
            group.used = group.used.max(item.used);
        } else {
            let size = item.size + item.shared.map_or(0, |shared| shared.size);
            groups.push(Group { items: vec![item], size, used: item.used });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use longshore_oci::Digest;
    use proptest::prelude::*;

    use super::super::stock::{Inode, Place, Shared};
    use super::*;

    fn item(name: u64, size: u64, used: u64, kept: bool) -> Item {
        Item {
            kind: Kind::Download,
            place: Place::Download(Digest::of(name.to_string())),
            size,
            shared: None,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
            kept,
        }
    }

    /// A thing that is for the most part a file of 1000 bytes, which others may be as well.
    fn sharing(name: u64, kind: Kind, size: u64, used: u64, file: u64) -> Item {
        let shared = Some(Shared { file: Inode { device: 1, number: file }, size: 1000 });
        Item { kind, shared, ..item(name, size, used, false) }
    }

    #[test]
    fn things_that_share_a_file_are_counted_once_and_go_together() {
        let items = [
            sharing(0, Kind::Download, 0, 1, 7),
            sharing(1, Kind::Layer, 4, 5, 7),
            sharing(2, Kind::Layer, 4, 2, 8),
            item(3, 10, 3, false),
        ];
        let [downloads, _, layers, _] = tally(&items);
        assert_eq!((downloads.count, downloads.size), (2, 1010));
        assert_eq!((layers.count, layers.size), (2, 1008));
        assert_eq!(bytes(&items), 2018);
        let gone = |limit| victims(&items, CacheSize::Bytes(limit));
        assert_eq!(gone(2017), [&items[2]], "used longest ago, and nobody else has its file");
        assert_eq!(gone(1013), [&items[2], &items[3]], "the download was used as lately as its layer");
        assert_eq!(gone(1003), [&items[2], &items[3], &items[0], &items[1]]);
        let kept = [Item { kept: true, ..items[1].clone() }, items[0].clone()];
        assert_eq!(victims(&kept, CacheSize::Bytes(0)).len(), 0, "the other alone would free nothing");
    }

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_need_be() {
        let items =
            [item(0, 10, 3, false), item(1, 20, 1, false), item(2, 30, 2, false), item(3, 5, 0, true)];
        let sizes =
            |limit| victims(&items, CacheSize::Bytes(limit)).iter().map(|it| it.size).collect::<Vec<_>>();
        assert_eq!(sizes(65), [] as [u64; 0]);
        assert_eq!(sizes(64), [20]);
        assert_eq!(sizes(44), [20, 30]);
        assert_eq!(sizes(0), [20, 30, 10], "what is in use stays");
        assert_eq!(victims(&items, CacheSize::Unlimited).len(), 0);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_the_youngest_stay(
            sizes in proptest::collection::vec((0_u64..1000, 0_u64..50), 0..40), limit in 0_u64..20_000,
        ) {
            let items: Vec<Item> =
                sizes.iter().zip(0..).map(|((size, used), name)| item(name, *size, *used, false)).collect();
            let gone = victims(&items, CacheSize::Bytes(limit));
            let removed: u64 = gone.iter().map(|item| item.size).sum();
            let total: u64 = items.iter().map(|item| item.size).sum();
            prop_assert!(total - removed <= limit);
            let newest_gone = gone.iter().map(|item| item.used).max();
            for stays in items.iter().filter(|item| !gone.contains(item)) {
                prop_assert!(newest_gone.is_none_or(|newest| newest <= stays.used));
            }
        }
    }
}
