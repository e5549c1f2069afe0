//! What goes: pure.

use super::{CacheSize, stock::Item};

/// The things to remove so that no more than `limit` is left: those that were used least recently, the larger ones first
/// where that was at the same time.
pub fn victims(items: &[Item], limit: CacheSize) -> Vec<&Item> {
    let CacheSize::Bytes(limit) = limit else { return Vec::new() };
    let mut left: u64 = items.iter().map(|item| item.size).sum();
    let mut order: Vec<&Item> = items.iter().filter(|item| !item.kept).collect();
    order.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| b.size.cmp(&a.size)));
    let mut victims = Vec::new();
    for item in order {
        if left <= limit {
            break;
        }
        left -= item.size;
        victims.push(item);
    }
    victims
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use longshore_oci::Digest;
    use proptest::prelude::*;

    use super::super::stock::{Kind, Place};
    use super::*;

    fn item(name: u64, size: u64, used: u64, kept: bool) -> Item {
        Item {
            kind: Kind::Download,
            place: Place::Download(Digest::of(name.to_string())),
            size,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
            kept,
        }
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
