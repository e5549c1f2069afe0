//! Which wheels share a layer: pure.
//!
//! An image has a limited number of layers, and a changed wheel should change as little as possible. So wheels of at least
//! 1 MB have a layer of their own, and the others share bins by a hash of their name: adding, removing or changing a
//! package changes its own layer and no other.
//!
//! Where more wheels are large than the [budget](Budget) has layers for, those of the highest size classes (powers of
//! four) have them, and of one class those whose name has the lowest hash; the rest are in bins. Then one package more
//! changes at most two layers: its own, and the bin of the wheel that it displaced. Better than that cannot be had: if
//! one more package must never change a second layer, then whether two packages share one may depend on these two
//! only, and packages that share a layer in the largest image would have to share it in the smallest.
//!
//! A wheel is never divided, however large the libraries in it are: they change with every version of it, so that a layer of
//! their own would be reused exactly when the whole is, and would take from the budget.

use longshore_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    entry_points::Script,
    filename::WheelFilename,
    install::Venv,
    lock::{Lock, LockedPackage, Origin, PinnedWheel},
    target::PythonVersion,
};

/// How many layers an image has at most, its parent's with them, where nothing else is asked for. Docker, and what builds
/// on it, mount 127 of them.
pub const LAYERS: usize = 60;
/// The most that can be asked for.
pub const MOST_LAYERS: usize = 127;
/// In as many bins the wheels without a layer of their own are divided, if there is room.
const BINS: usize = 12;
/// From this size on, in bytes, a wheel may have a layer of its own.
pub const LARGE: u64 = 1_000_000;
/// The layers of every image besides the parent's and the wheels': the environment, the SDK, its bytecode, the code.
const OURS: usize = 4;
/// As many layers every parent is taken to have: one made of Debian packages has 5, with further packages 6.
pub const PARENT: usize = 6;
/// More of them are counted in full groups, so that one more or less does not divide the wheels anew.
const PARENT_GROUP: usize = 4;

/// How many layers the wheels get. As many are left for their bytecode, with and without it, so that both images have the
/// same layers of wheels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    alone: usize,
    bins: usize,
}

/// Why the wheels cannot be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The parent leaves no room.
    #[error(
        "an image of at most {layers} layers has no room for packages on a parent of {parent}; \
         set `layers` to at least {least}, or choose a parent with fewer layers"
    )]
    TooFew {
        /// The limit.
        layers: usize,
        /// How many layers the parent has.
        parent: usize,
        /// The lowest limit that would do.
        least: usize,
    },
    /// No container engine could run the image.
    #[error("`layers` is {0}; container engines run images of at most {MOST_LAYERS} layers")]
    TooMany(usize),
}

impl Budget {
    /// The budget of an image of at most `layers` layers on a parent that has `parent` of them.
    pub fn new(layers: usize, parent: usize) -> Result<Self, BudgetError> {
        if layers > MOST_LAYERS {
            return Err(BudgetError::TooMany(layers));
        }
        let taken = OURS + PARENT + parent.saturating_sub(PARENT).next_multiple_of(PARENT_GROUP);
        let wheels = layers.saturating_sub(taken) / 2;
        if wheels == 0 {
            return Err(BudgetError::TooFew { layers, parent, least: taken + 2 });
        }
        let bins = BINS.min(wheels.div_ceil(2));
        Ok(Self { alone: wheels - bins, bins })
    }

    /// The number of layers that the wheels get at most.
    pub const fn wheels(self) -> usize {
        self.alone + self.bins
    }
}

/// The budget of an image of at most [`LAYERS`] layers on a parent of up to [`PARENT`].
impl Default for Budget {
    fn default() -> Self {
        Self { alone: 13, bins: BINS }
    }
}

/// What a layer of wheels is called from build to build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The layer of one package.
    Alone(String),
    /// A bin, by its number.
    Bin(usize),
}

/// Raised when the same wheels are to become another layer: another tree, another order.
pub const LAYOUT_VERSION: u32 = 1;

/// The wheels of one layer. They lie over each other in this order: of two files at one path, the later wheel's shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelLayer {
    /// Which layer it is. The bytes do not depend on it.
    pub slot: Slot,
    /// The wheels, in order of their packages' names.
    pub wheels: Vec<PinnedWheel>,
    /// What the layer is a function of.
    pub key: WheelLayerKey,
    /// What its bytecode layer is a function of.
    pub bytecode_key: BytecodeLayerKey,
}

/// Everything that the bytes of a wheel layer depend on; what digest, `diff_id` and size are kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct WheelLayerKey {
    layout: u32,
    layer_layout: u32,
    prefix: String,
    python: String,
    wheels: Vec<WheelInput>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct WheelInput {
    // The name of the file is an input: it is checked, and names the folder of its headers.
    filename: WheelFilename,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    direct_url: Option<String>,
}

/// Everything that the bytes of a bytecode layer depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct BytecodeLayerKey {
    wheels: WheelLayerKey,
    bytecode_layout: u32,
    python: PythonVersion,
}

/// Everything that the bytes of an [environment's layer](crate::layers::write_venv) depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct VenvLayerKey {
    layout: u32,
    layer_layout: u32,
    prefix: String,
    python: PythonVersion,
    interpreter: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scripts: Vec<Script>,
}

impl VenvLayerKey {
    /// The key of the layer that makes `venv` an environment of the Python at `interpreter` in the image, with `scripts`.
    pub fn new(venv: &Venv, interpreter: &str, scripts: &[Script]) -> Self {
        Self {
            layout: LAYOUT_VERSION,
            layer_layout: longshore_layer::LAYOUT_VERSION,
            prefix: venv.prefix().to_string(),
            python: venv.python(),
            interpreter: interpreter.to_owned(),
            scripts: scripts.to_vec(),
        }
    }
}

impl PinnedWheel {
    /// The URL that `direct_url.json` states, if there is to be one: without credentials, and of a file on this machine
    /// only the name, because the machine's folders are not the image's.
    pub fn direct_url(&self) -> Option<String> {
        if self.origin == Origin::Index {
            return None;
        }
        if self.url.scheme() == "file" {
            return Some(format!("file:///{}", self.filename));
        }
        let mut url = self.url.clone();
        // Both fail only for URLs that cannot have user information, and so have none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Some(url.to_string())
    }
}

/// Divides the wheels of a lock into layers: first those alone, by name, then the bins that are not empty.
pub fn wheel_layers(lock: &Lock, venv: &Venv, budget: Budget) -> Vec<WheelLayer> {
    let mut large: Vec<(u32, Digest, &LockedPackage)> = lock
        .packages
        .iter()
        .filter_map(|package| Some((class(package)?, Digest::of(package.name.as_ref()), package)))
        .collect();
    large.sort_by_key(|(class, hash, _)| (std::cmp::Reverse(*class), *hash));
    large.truncate(budget.alone);
    let mut alone: Vec<&LockedPackage> = large.into_iter().map(|(_, _, package)| package).collect();
    alone.sort_by(|a, b| a.name.cmp(&b.name));

    let mut bins: Vec<Vec<&LockedPackage>> = vec![Vec::new(); budget.bins];
    for package in &lock.packages {
        if alone.binary_search_by(|other| other.name.cmp(&package.name)).is_err() {
            bins[bin(package, budget.bins)].push(package);
        }
    }
    for bin in &mut bins {
        bin.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let alone = alone.into_iter().map(|package| (Slot::Alone(package.name.to_string()), vec![package]));
    let bins = bins.into_iter().enumerate().map(|(number, packages)| (Slot::Bin(number), packages));
    alone
        .chain(bins)
        .filter(|(_, packages)| !packages.is_empty())
        .map(|(slot, packages)| layer(slot, &packages, venv))
        .collect()
}

/// The size class of a large wheel: 0 from 1 MB on, 1 from 4 MB, 2 from 16 MB. Coarse, so that a new version rarely
/// changes it.
fn class(package: &LockedPackage) -> Option<u32> {
    (package.wheel.size.unwrap_or(0) / LARGE).checked_ilog(4)
}

/// The bin of a package: by its name alone, so that versions stay in theirs.
fn bin(package: &LockedPackage, bins: usize) -> usize {
    usize::from(Digest::of(package.name.as_ref()).as_bytes()[0]) % bins
}

fn layer(slot: Slot, packages: &[&LockedPackage], venv: &Venv) -> WheelLayer {
    let wheels: Vec<PinnedWheel> = packages.iter().map(|package| package.wheel.clone()).collect();
    let inputs = wheels.iter().map(|wheel| WheelInput {
        filename: wheel.filename.clone(),
        digest: wheel.digest,
        direct_url: wheel.direct_url(),
    });
    let key = WheelLayerKey {
        layout: LAYOUT_VERSION,
        layer_layout: longshore_layer::LAYOUT_VERSION,
        prefix: venv.prefix().to_string(),
        python: venv.python().short(),
        wheels: inputs.collect(),
    };
    let bytecode_key = BytecodeLayerKey {
        wheels: key.clone(),
        bytecode_layout: crate::bytecode::LAYOUT_VERSION,
        python: venv.python(),
    };
    WheelLayer { slot, wheels, key, bytecode_key }
}

impl WheelLayer {
    /// How much there is to do, in bytes of wheels: what takes longest is best begun first.
    pub fn weight(&self) -> u64 {
        self.wheels.iter().filter_map(|wheel| wheel.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(name: &str, size: u64) -> LockedPackage {
        let filename: WheelFilename =
            format!("{}-1.0-py3-none-any.whl", name.replace('-', "_")).parse().unwrap();
        LockedPackage {
            name: name.parse().unwrap(),
            version: "1.0".parse().unwrap(),
            wheel: PinnedWheel {
                url: format!("https://files.invalid/{filename}").parse().unwrap(),
                digest: Digest::of(format!("{name} {size}")),
                filename,
                size: Some(size),
                origin: Origin::Index,
            },
            source: None,
        }
    }

    /// `count` packages with sizes as they are in practice: most are small, some are large.
    fn lock(count: u32) -> Lock {
        let packages =
            (0..count).map(|i| package(&format!("package-{i:03}"), 20_000 + u64::from(i % 7).pow(9)));
        Lock { packages: packages.collect(), ..Lock::default() }
    }

    fn venv() -> Venv {
        Venv::in_image(PythonVersion::new(3, 11, 2))
    }

    fn layers(lock: &Lock) -> Vec<WheelLayer> {
        wheel_layers(lock, &venv(), Budget::default())
    }

    /// How many layers of `new` are not among the `old`.
    fn changed(old: &[WheelLayer], new: &[WheelLayer]) -> usize {
        new.iter().filter(|layer| old.iter().all(|other| other.key != layer.key)).count()
    }

    #[test]
    fn every_wheel_is_in_one_layer_and_layers_stay_within_the_budget() {
        for count in [0, 1, 10, 150, 400] {
            let lock = lock(count);
            let layers = layers(&lock);
            assert!(layers.len() <= Budget::default().wheels(), "{count} packages: {} layers", layers.len());
            let names = |wheels: Vec<&PinnedWheel>| {
                let mut names: Vec<_> = wheels.iter().map(|wheel| wheel.filename.to_string()).collect();
                names.sort();
                names
            };
            assert_eq!(
                names(layers.iter().flat_map(|layer| &layer.wheels).collect()),
                names(lock.packages.iter().map(|package| &package.wheel).collect())
            );
        }
        assert_eq!(layers(&lock(400)).len(), Budget::default().wheels(), "the budget is used");
    }

    #[test]
    fn the_budget_counts_everything() {
        for (layers, parent) in [(60, 1), (60, 6), (60, 7), (60, 46), (20, 3), (12, 4), (13, 6), (127, 20)] {
            let budget = Budget::new(layers, parent).unwrap();
            let all = parent + OURS + 2 * budget.wheels();
            assert!(all <= layers && budget.bins > 0, "{all} of {layers} layers");
        }
        let parts = |layers, parent| Budget::new(layers, parent).map(|budget| (budget.alone, budget.bins));
        assert_eq!(Budget::new(LAYERS, 1), Ok(Budget::default()));
        assert_eq!(parts(60, 6), parts(60, 1), "most parents divide the wheels alike");
        assert_eq!(parts(60, 7), Ok((11, 12)));
        assert_eq!(parts(12, 4), Ok((0, 1)));
        let error = Budget::new(60, 55).unwrap_err();
        assert_eq!(error, BudgetError::TooFew { layers: 60, parent: 55, least: 64 });
        assert!(Budget::new(64, 55).is_ok());
        assert_eq!(Budget::new(128, 3), Err(BudgetError::TooMany(128)));
    }

    #[test]
    fn up_to_the_budget_every_large_wheel_is_alone() {
        let mut packages: Vec<_> = (0..13).map(|i| package(&format!("large-{i:02}"), LARGE + i)).collect();
        packages.push(package("small", LARGE - 1));
        let layers = layers(&Lock { packages, ..Lock::default() });
        assert_eq!(layers.iter().map(|layer| layer.wheels.len()).collect::<Vec<_>>(), [1; 14]);
        assert_eq!(layers[0].slot, Slot::Alone("large-00".to_owned()));
        assert!(matches!(layers[13].slot, Slot::Bin(_)));
    }

    #[test]
    fn of_too_many_large_wheels_the_largest_are_alone() {
        let packages = (0..30).map(|i| package(&format!("large-{i:02}"), LARGE << (i % 10)));
        let lock = Lock { packages: packages.collect(), ..Lock::default() };
        let layers = layers(&lock);
        let alone = layers.iter().filter(|layer| matches!(layer.slot, Slot::Alone(_)));
        assert!(alone.clone().all(|layer| layer.weight() >= LARGE << 4));
        assert_eq!(alone.count(), 13);
    }

    #[test]
    fn another_python_changes_all() {
        let (before, old) = (lock(150), layers(&lock(150)));
        let on = |python| wheel_layers(&before, &Venv::in_image(python), Budget::default());
        let patch = on(PythonVersion::new(3, 11, 9));
        assert!(old.iter().zip(&patch).all(|(a, b)| a.key == b.key && a.bytecode_key != b.bytecode_key));
        let minor = on(PythonVersion::new(3, 12, 2));
        assert!(old.iter().zip(&minor).all(|(a, b)| a.key != b.key));
    }

    #[test]
    fn a_direct_url_has_no_credentials_and_no_folders_of_this_machine() {
        let mut wheel = package("thing", 1).wheel;
        assert_eq!(wheel.direct_url(), None);
        wheel.origin = Origin::Direct;
        wheel.url = "https://me:secret@files.invalid/thing-1.0-py3-none-any.whl#sha256=00".parse().unwrap();
        assert_eq!(wheel.direct_url().unwrap(), "https://files.invalid/thing-1.0-py3-none-any.whl");
        wheel.url = "file:///home/me/thing-1.0-py3-none-any.whl".parse().unwrap();
        assert_eq!(wheel.direct_url().unwrap(), "file:///thing-1.0-py3-none-any.whl");
    }

    /// Sizes of wheels: `large` of a hundred are at least 1 MB.
    fn sizes(large: u32) -> impl Strategy<Value = Vec<u64>> {
        let size = prop_oneof![100 - large => 1000..LARGE, large => LARGE..LARGE << 9];
        proptest::collection::vec(size, 150)
    }

    fn named(sizes: &[u64], salt: u32) -> Lock {
        let packages = sizes.iter().enumerate();
        Lock {
            packages: packages.map(|(i, size)| package(&format!("p{salt}-{i}"), *size)).collect(),
            ..Lock::default()
        }
    }

    fn large(lock: &Lock) -> usize {
        lock.packages.iter().filter(|package| class(package).is_some()).count()
    }

    proptest! {
        #[test]
        fn the_order_of_the_lock_decides_nothing(sizes in sizes(20), turn in 0..150_usize) {
            let mut lock = named(&sizes, 0);
            let one = layers(&lock);
            lock.packages.rotate_left(turn);
            prop_assert_eq!(one, layers(&lock));
        }

        #[test]
        fn one_package_more_or_less_changes_one_layer(sizes in sizes(4), size in 1000..LARGE << 4, salt: u32, at in 0..150_usize) {
            let lock = named(&sizes, salt);
            prop_assume!(large(&lock) < 13);
            let old = layers(&lock);
            let mut more = lock.clone();
            more.packages.insert(at, package("one-more", size));
            let new = layers(&more);
            prop_assert_eq!((changed(&old, &new), changed(&new, &old) <= 1), (1, true));

            let mut other = lock.clone();
            let wheel = &mut other.packages[at].wheel;
            wheel.digest = Digest::of("another version");
            let new = layers(&other);
            prop_assert_eq!((changed(&old, &new), changed(&new, &old)), (1, 1));
        }

        #[test]
        fn beyond_the_budget_it_is_two_at_most(sizes in sizes(40), size in 1000..LARGE << 9, salt: u32) {
            let mut lock = named(&sizes, salt);
            let old = layers(&lock);
            lock.packages.push(package("one-more", size));
            let new = layers(&lock);
            let changed = changed(&old, &new);
            prop_assert!((1..=2).contains(&changed), "{}", changed);

            // A new version, as long as it is not of another size class.
            let old = new;
            lock.packages[7].wheel.digest = Digest::of("another version");
            prop_assert_eq!(self::changed(&old, &layers(&lock)), 1);
        }
    }
}
