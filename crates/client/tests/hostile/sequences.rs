//! Random sequences of faults, the same ones every time.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use longshore_client::ClientError;
use longshore_testkit::{
    Chance, Fault, HostileConfig, MissingBlobs, Mounts, RangeLie, Referrers, Seeded, SinglePost, Tags,
    WrongLocation,
};

use crate::{
    desk::{Desk, Entrance, client},
    image::{Image, Sink},
};

/// How many sequences there are of each kind.
const SEQUENCES: u64 = 200;
/// How many run at a time: most of their time is waiting.
const AT_A_TIME: usize = 6;

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::ResetAtOnce,
        Fault::ResetWhileReading { after: 0 },
        Fault::ResetWhileReading { after: 50 },
        Fault::ResetWhileReading { after: 20_000 },
        Fault::StallWhileReading { after: 5000 },
        Fault::ResetAfterCommit,
        Fault::ResetAfterCommit,
        Fault::ResetWhileAnswering { after: 0 },
        Fault::ResetWhileAnswering { after: 100 },
        Fault::Truncated { after: 0 },
        Fault::Truncated { after: 60 },
        Fault::Truncated { after: 25_000 },
        Fault::TooManyRequests { retry_after: None },
        Fault::TooManyRequests { retry_after: Some(3600) },
        Fault::Refused { status: 404 },
        Fault::Refused { status: 403 },
        Fault::WrongDigestHeader,
        Fault::WrongBytes,
        Fault::LongerBytes,
        Fault::Redirect,
        Fault::RedirectLoop,
        Fault::CreatedToPatch,
        Fault::ChunkCap { most: 4 << 20 },
        Fault::BodyCap { most: 4 << 20 },
        Fault::BodyCap { most: 100 },
        Fault::LastChunkOnly,
        Fault::UploadRangeLie,
        Fault::TokensExpire,
        Fault::TokensExpire,
        Fault::NeverAuthorized,
        Fault::Trickle { pause: Duration::from_micros(200) },
        Fault::Stall { after: 0 },
        Fault::Stall { after: 100 },
        Fault::PagingLoop,
        Fault::Html,
        Fault::MountRefused,
        Fault::NoLength,
    ];
    let statuses = [500, 502, 503, 504];
    faults.extend(statuses.map(|status| Fault::Refused { status }));
    faults.extend(statuses.map(|status| Fault::RefusedAfterCommit { status }));
    let locations = [
        WrongLocation::Missing,
        WrongLocation::Garbage,
        WrongLocation::Unknown,
        WrongLocation::Elsewhere,
        WrongLocation::Nobody,
    ];
    faults.extend(locations.map(Fault::Location));
    faults.extend([RangeLie::Ignored, RangeLie::Shifted, RangeLie::Silent].map(Fault::RangeLie));
    faults
}

/// A registry of any kind, at which anything may go wrong.
fn desk(dice: &mut Seeded) -> Desk {
    let config = HostileConfig {
        rules: Vec::new(),
        tokens: None,
        missing_blobs: *dice.pick(&[MissingBlobs::Refused, MissingBlobs::Taken]).unwrap(),
        mounts: *dice.pick(&[Mounts::Named, Mounts::Anonymous, Mounts::Never]).unwrap(),
        referrers: *dice.pick(&[Referrers::Served, Referrers::Missing]).unwrap(),
        tags: Tags::default(),
        single_post: *dice.pick(&[SinglePost::Ignored, SinglePost::Supported]).unwrap(),
    };
    let entrance = *dice.pick(&[Entrance::Open, Entrance::Tokens]).unwrap();
    Desk::with(config, entrance)
}

fn misbehave(desk: &Desk, dice: &mut Seeded) {
    let seed = dice.next();
    let one_in = *dice.pick(&[2, 3, 5, 10]).unwrap();
    // Sometimes only a few kinds of faults, so that they meet more often.
    let mut faults = faults();
    if dice.below(2) == 0 {
        faults = (0..4).filter_map(|_| dice.pick(&faults).cloned()).collect();
    }
    let most = *dice.pick(&[1, 3, 10, 1000]).unwrap();
    if let Some(tokens) = &desk.tokens
        && dice.below(3) == 0
    {
        let status = *dice.pick(&[401, 403, 404, 429, 500, 503]).unwrap();
        tokens.fail(*dice.pick(&[1, 2, 4, 20]).unwrap(), status);
    }
    desk.registry.leave_to_chance(Chance { seed, one_in, most, faults });
}

/// An error is true if something did go wrong, and it says what it was about.
fn check_error(desk: &Desk, error: &ClientError) {
    let message = error.to_string();
    assert!(desk.faults() > 0, "nothing went wrong, and yet: {message}");
    assert!(message.starts_with("cannot ") && message.contains("127.0.0.1:"), "{message}");
}

/// How a sequence ended, and what went wrong in it.
struct Ended {
    is_correct: bool,
    faults: BTreeSet<String>,
}

impl Ended {
    fn new(desk: &Desk, is_correct: bool) -> Self {
        let faults = desk.registry.seen().into_iter().filter_map(|seen| seen.fault);
        Self { is_correct, faults: faults.map(|fault| format!("{fault:?}")).collect() }
    }
}

async fn pushed(seed: u64) -> Ended {
    let mut dice = Seeded::of(seed, "push");
    let image = Image::any(&mut dice);
    let desk = desk(&mut dice);
    let mut mount_from = Vec::new();
    if dice.below(3) == 0 {
        // Another repository has some of the blobs.
        for bytes in image.blobs.values().filter(|_| dice.below(2) == 0) {
            desk.registry.put_blob("team/base", bytes.clone());
        }
        mount_from.push(desk.repository("team/base"));
    }
    misbehave(&desk, &mut dice);
    let mut ended = None;
    for _ in 0..2 {
        let outcome = desk.push_from(&image, "team/app:1", &mount_from).await;
        let story = || desk.story();
        let broken = desk.registry.broken_tags();
        assert!(broken.is_empty(), "{broken:?}\n{outcome:?}\n{}", story());
        assert!(desk.leaks().is_empty(), "{:?}\n{}", desk.leaks(), story());
        let missing = image.missing_in(&desk.registry, "team/app", "1");
        ended.get_or_insert_with(|| Ended::new(&desk, outcome.is_ok()));
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome.digest, image.root.digest);
                assert!(missing.is_empty(), "said to be pushed, missing {missing:?}\n{}", story());
            }
            Err(error) => check_error(&desk, &error),
        }
        // The same client and the same registry, which has come to its senses.
        desk.behave();
    }
    let missing = image.missing_in(&desk.registry, "team/app", "1");
    assert!(missing.is_empty(), "a push when all is well again leaves {missing:?}\n{}", desk.story());
    ended.unwrap()
}

async fn pulled(seed: u64) -> Ended {
    let mut dice = Seeded::of(seed, "pull");
    let image = Image::any(&mut dice);
    let desk = desk(&mut dice);
    image.store(&desk.registry, "team/app", "1");
    misbehave(&desk, &mut dice);
    let sink = Sink::default();
    let mut ended = None;
    for is_well in [false, true] {
        let outcome = desk.pull(&sink, "team/app:1").await;
        let kept = sink.kept();
        assert!(kept.wrong.is_empty(), "{:?}\n{outcome:?}\n{}", kept.wrong, desk.story());
        assert!(desk.leaks().is_empty(), "{:?}\n{}", desk.leaks(), desk.story());
        ended.get_or_insert_with(|| Ended::new(&desk, outcome.is_ok()));
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome.root.digest, image.root.digest, "{}", desk.story());
                assert!(kept.blobs == image.blobs && kept.manifests == image.manifests, "{}", desk.story());
            }
            Err(error) if !is_well => check_error(&desk, &error),
            Err(error) => panic!("a pull when all is well again: {error}\n{}", desk.story()),
        }
        desk.behave();
    }
    ended.unwrap()
}

async fn copied(seed: u64) -> Ended {
    let mut dice = Seeded::of(seed, "copy");
    let image = Image::any(&mut dice);
    let (from, to) = (desk(&mut dice), desk(&mut dice));
    image.store(&from.registry, "team/app", "1");
    // One of them, or both.
    let which = dice.below(3);
    for (i, desk) in [&from, &to].into_iter().enumerate().filter(|(i, _)| which == 2 || which == *i) {
        misbehave(desk, &mut Seeded::of(seed, i));
    }
    let client = client(&[&from.registry, &to.registry]);
    let mut ended = None;
    for is_well in [false, true] {
        let outcome = to.copy(&client, &from, "team/app:1").await;
        let story = || format!("{}\n{}", from.story(), to.story());
        let broken = to.registry.broken_tags();
        assert!(broken.is_empty(), "{broken:?}\n{outcome:?}\n{}", story());
        assert!(from.leaks().is_empty() && to.leaks().is_empty(), "{}", story());
        let missing = image.missing_in(&to.registry, "team/app", "1");
        ended.get_or_insert_with(|| {
            let mut ended = Ended::new(&from, outcome.is_ok());
            ended.faults.extend(Ended::new(&to, true).faults);
            ended
        });
        match outcome {
            Ok(_) => assert!(missing.is_empty(), "said to be copied, missing {missing:?}\n{}", story()),
            Err(error) if !is_well => {
                check_error(if from.faults() > 0 { &from } else { &to }, &error);
            }
            Err(error) => panic!("a copy when all is well again: {error}\n{}", story()),
        }
        from.behave();
        to.behave();
    }
    ended.unwrap()
}

/// Runs all sequences, or the one that the environment asks for, and says which ones failed.
async fn all<F: Future<Output = Ended>>(what: &str, one: impl Fn(u64) -> F) {
    let asked = std::env::var("HOSTILE_SEED").ok().map(|seed| seed.parse().expect("a seed"));
    let seeds = asked.map_or(0..SEQUENCES, |seed| seed..seed + 1);
    println!("{what}: seeds {seeds:?}");
    let runs = stream::iter(seeds).map(|seed| {
        let run = AssertUnwindSafe(one(seed)).catch_unwind();
        async move { run.await.map_err(|_| seed) }
    });
    let ended: Vec<_> = runs.buffer_unordered(AT_A_TIME).collect().await;
    let failed: Vec<_> = ended.iter().filter_map(|ended| ended.as_ref().err()).collect();
    assert!(failed.is_empty(), "{what}: failed with HOSTILE_SEED={failed:?}");
    let ended: Vec<_> = ended.into_iter().flatten().filter(|ended| !ended.faults.is_empty()).collect();
    let correct = ended.iter().filter(|ended| ended.is_correct).count();
    let kinds: BTreeSet<_> = ended.iter().flat_map(|ended| &ended.faults).collect();
    println!(
        "{what}: {correct} of {} ended correct in spite of faults of {} kinds",
        ended.len(),
        kinds.len()
    );
    // That the sequences are worth running.
    if asked.is_none() {
        let share = correct * 100 / ended.len();
        assert!((20..95).contains(&share), "{share} % ended correct");
        assert!(kinds.len() > faults().len() / 2, "{kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_ends_correct_or_says_why_not() {
    all("push", pushed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_ends_correct_or_says_why_not() {
    all("pull", pulled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_ends_correct_or_says_why_not() {
    all("copy", copied).await;
}
