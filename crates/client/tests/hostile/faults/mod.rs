//! One thing goes wrong at a time, and what comes of it.

mod bytes;
mod connections;
mod places;
mod refusals;
mod uploads;

use std::time::Duration;

use longshore_client::ClientError;
use longshore_endpoint::Fault as Unreachable;
use longshore_oci::{Descriptor, Digest, Manifest, MediaType};
use longshore_testkit::{
    Fault, HostileConfig, MissingBlobs, Operation, RangeLie, Referrers, Rule, Seeded, Seen, WrongLocation,
};

use crate::{
    desk::{Desk, Entrance},
    image::{Image, Sink},
};

/// An image with one layer of this length.
fn image(length: usize) -> Image {
    Image::of(&mut Seeded::new(1), &[length])
}

/// A registry whose only defence against an incomplete image is the client.
fn trusting(entrance: Entrance) -> Desk {
    Desk::with(HostileConfig { missing_blobs: MissingBlobs::Taken, ..HostileConfig::default() }, entrance)
}

/// A push while this goes wrong.
async fn push(length: usize, rules: impl IntoIterator<Item = Rule>) -> (Desk, Result<(), ClientError>) {
    let (desk, image) = (trusting(Entrance::Tokens), image(length));
    rules.into_iter().for_each(|rule| desk.registry.plan(rule));
    let outcome = desk.push(&image, "team/app:1").await;
    assert!(desk.registry.broken_tags().is_empty(), "{:?}", desk.registry.broken_tags());
    assert!(desk.leaks().is_empty(), "{:?}", desk.leaks());
    assert!(desk.faults() > 0, "nothing went wrong: {}", desk.story());
    if outcome.is_ok() {
        assert_eq!(image.missing_in(&desk.registry, "team/app", "1"), [""; 0], "{}", desk.story());
    }
    (desk, outcome.map(drop))
}

/// A pull while this goes wrong.
async fn pull(length: usize, rules: impl IntoIterator<Item = Rule>) -> (Desk, Result<(), ClientError>) {
    let (desk, image, sink) = (trusting(Entrance::Tokens), image(length), Sink::default());
    image.store(&desk.registry, "team/app", "1");
    rules.into_iter().for_each(|rule| desk.registry.plan(rule));
    let outcome = desk.pull(&sink, "team/app:1").await;
    assert!(desk.leaks().is_empty(), "{:?}", desk.leaks());
    assert!(desk.faults() > 0, "nothing went wrong: {}", desk.story());
    let kept = sink.kept();
    assert!(kept.wrong.is_empty(), "{:?}", kept.wrong);
    match &outcome {
        Ok(_) => assert!(kept.blobs == image.blobs && kept.manifests == image.manifests),
        Err(_) => assert!(kept.manifests.is_empty(), "no part of an image is an image"),
    }
    drop(kept);
    (desk, outcome.map(drop))
}

async fn pushes(length: usize, rules: impl IntoIterator<Item = Rule>) -> Desk {
    let (desk, outcome) = push(length, rules).await;
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", desk.story()));
    desk
}

async fn pulls(length: usize, rules: impl IntoIterator<Item = Rule>) -> Desk {
    let (desk, outcome) = pull(length, rules).await;
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", desk.story()));
    desk
}

fn requests(desk: &Desk, operation: Operation) -> Vec<Seen> {
    desk.registry.seen().into_iter().filter(|seen| seen.operation == Some(operation)).collect()
}

/// Matches an outcome, and shows it otherwise.
macro_rules! fails {
    ($outcome:expr, $pattern:pat $(if $guard:expr)?) => {
        let (desk, outcome) = $outcome;
        assert!(matches!(&outcome, Err($pattern) $(if $guard)?), "{outcome:?}\n{}", desk.story());
    };
}
use fails;
