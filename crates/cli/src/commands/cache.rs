//! `longshore cache`, and the limit that is kept after builds.

use std::{
    env, fs,
    time::{Duration, SystemTime},
};

use longshore_build::{
    Built,
    cache::{Cache, CacheError, CacheSize, Hold, Item, Kind, Tally, tally, victims},
};
use longshore_store::{BlobStore, Table};
use serde_json::{Value, json};

use crate::{
    args::cache::{CacheCommand, CacheInfoArguments, PruneArguments},
    context::Context,
    failure::Failure,
    output::{
        self,
        quantity::{count, duration, size},
        table::{Align, Table as Rows},
    },
};

/// What sets the limit.
const VARIABLE: &str = "LONGSHORE_CACHE_SIZE";
/// The file that says under which limit the caches were last looked at.
const STAMP: &str = "pruned";
/// So long they are not looked at again after a build, while the limit is the same: to look takes longer than a small build.
const REST: Duration = Duration::from_hours(1);

pub(crate) fn cache(context: &Context, command: CacheCommand) -> Result<(), Failure> {
    match command {
        CacheCommand::Info(arguments) => info(context, &arguments),
        CacheCommand::Prune(arguments) => prune(context, &arguments),
        CacheCommand::Check => check(context),
    }
}

/// The caches that the environment names.
fn open(context: &Context) -> Result<Cache, Failure> {
    Ok(Cache {
        registry: context.registry()?,
        table: Table::open(context.home.table())?,
        downloads: BlobStore::open(context.home.downloads())?,
        snapshots: context.home.snapshots(),
        folder: context.home.cache().to_owned(),
    })
}

/// The limit that the environment sets, or the usual one.
pub(crate) fn limit() -> Result<CacheSize, Failure> {
    match env::var(VARIABLE) {
        Ok(text) => text.parse().map_err(|error: CacheError| Failure::Usage(format!("{VARIABLE}: {error}"))),
        Err(_) => Ok(CacheSize::default()),
    }
}

fn shown(limit: CacheSize) -> String {
    match limit {
        CacheSize::Bytes(bytes) => size(bytes),
        CacheSize::Unlimited => "no limit".to_owned(),
    }
}

fn info(context: &Context, arguments: &CacheInfoArguments) -> Result<(), Failure> {
    let (cache, limit) = (open(context)?, limit()?);
    let stock = cache.stock()?;
    if let Some(format) = arguments.output.data() {
        let kinds = totals(&stock.items);
        let limit = match limit {
            CacheSize::Bytes(bytes) => json!(bytes),
            CacheSize::Unlimited => Value::Null,
        };
        let all = json!({
            "folder": cache.folder, "size": stock.size(), "limit": limit, "kinds": kinds, "images": stock.images,
            "remarks": stock.remarks,
        });
        return Ok(output::data(format, &all)?);
    }
    let mut rows = Rows::new([
        ("", Align::Left),
        ("COUNT", Align::Right),
        ("SIZE", Align::Right),
        ("LEAST RECENTLY USED", Align::Right),
    ]);
    for Tally { kind, count, size: bytes } in tally(&stock.items) {
        let oldest = stock.of(kind).map(|item| item.used).filter(|used| *used > SystemTime::UNIX_EPOCH).min();
        let age = oldest.and_then(|oldest| SystemTime::now().duration_since(oldest).ok());
        let age = age.map_or_else(String::new, |age| format!("{} ago", coarse(age)));
        rows.row([kind.title().to_owned(), count.to_string(), size(bytes), age]);
    }
    rows.print()?;
    output::line("")?;
    output::line(&format!("{} of {} ({VARIABLE})", size(stock.size()), shown(limit)))?;
    output::line(&format!("{} in images of the embedded registry, which are no cache", size(stock.images)))?;
    stock.remarks.iter().try_for_each(|remark| output::line(remark))?;
    Ok(())
}

/// A time in the past, to the day where it is longer ago.
fn coarse(age: Duration) -> String {
    let days = age.as_secs() / 86_400;
    match (days, age.as_secs() / 3600) {
        (1.., _) => count(usize::try_from(days).unwrap_or(usize::MAX), "day"),
        (_, hours @ 1..) => count(usize::try_from(hours).unwrap_or(usize::MAX), "hour"),
        _ => duration(Duration::from_secs(age.as_secs())),
    }
}

fn key(kind: Kind) -> String {
    kind.title().replace(' ', "_")
}

fn totals(items: &[Item]) -> serde_json::Map<String, Value> {
    let tallies = tally(items).into_iter();
    tallies.map(|Tally { kind, count, size }| (key(kind), json!({"count": count, "size": size}))).collect()
}

fn prune(context: &Context, arguments: &PruneArguments) -> Result<(), Failure> {
    let cache = open(context)?;
    let limit = match arguments.max_size {
        Some(limit) => limit,
        None => limit()?,
    };
    let (removed, failed, bytes, left) = if arguments.dry_run {
        let stock = cache.stock()?;
        let removed: Vec<Item> = victims(&stock.items, limit).into_iter().cloned().collect();
        let left = stock.without(&removed);
        let bytes = stock.size() - left;
        (removed, stock.remarks, bytes, left)
    } else {
        let alone = Hold::alone(&cache.folder)?;
        let stock = cache.stock()?;
        let pruned = cache.prune(limit, &stock, &alone);
        let failed = stock.remarks.into_iter().chain(pruned.failed).collect();
        (pruned.removed, failed, pruned.freed, pruned.left)
    };
    if let Some(format) = arguments.output.data() {
        let all = json!({"removed": totals(&removed), "size": bytes, "left": left, "failed": failed, "dry_run": arguments.dry_run});
        output::data(format, &all)?;
    } else {
        let verb = if arguments.dry_run { "would remove" } else { "removed" };
        for Tally { kind, count, size: bytes } in tally(&removed).into_iter().filter(|tally| tally.count > 0)
        {
            output::line(&format!("{verb} {count} {}: {}", kind.title(), size(bytes)))?;
        }
        output::line(&format!("{verb} {}; {} left of at most {}", size(bytes), size(left), shown(limit)))?;
        failed.iter().try_for_each(|reason| output::line(reason))?;
    }
    // Something was to go, and nothing of it could.
    if removed.is_empty() && !failed.is_empty() && !arguments.dry_run { Err(Failure::Said) } else { Ok(()) }
}

fn check(context: &Context) -> Result<(), Failure> {
    let cache = open(context)?;
    let alone = Hold::alone(&cache.folder)?;
    let stock = cache.stock()?;
    let said = cache.check(&stock, &alone)?;
    for line in stock.remarks.iter().chain(&said) {
        output::line(line)?;
    }
    if said.is_empty() {
        output::line("no download and no layer is damaged")?;
    }
    Ok(())
}

/// Notes what builds used, and keeps the limit. Called when the caches are not needed any more; that it cannot be kept
/// fails nothing.
pub(crate) fn after_builds(context: &Context, built: &[Built]) {
    let kept = keep_limit(context, built);
    if let Err(Failure::Failed(error)) = kept {
        anstream::eprintln!("cache    {error}");
    }
}

fn keep_limit(context: &Context, built: &[Built]) -> Result<(), Failure> {
    let (cache, limit) = (open(context)?, limit()?);
    for image in built {
        cache.touch(&image.manifest, &image.config);
    }
    context.let_go();
    let stamp = cache.folder.join(STAMP);
    let last = fs::read_to_string(&stamp).unwrap_or_default();
    let age =
        fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok().and_then(|time| time.elapsed().ok());
    if limit == CacheSize::Unlimited || (last == limit.to_string() && age.is_some_and(|age| age < REST)) {
        return Ok(());
    }
    match Hold::alone(&cache.folder) {
        Ok(alone) => {
            let stock = cache.stock()?;
            let pruned = cache.prune(limit, &stock, &alone);
            if !pruned.removed.is_empty() {
                anstream::eprintln!(
                    "cache    removed {}; {} left of at most {} ({VARIABLE})",
                    size(pruned.freed),
                    size(pruned.left),
                    shown(limit)
                );
            }
            for reason in pruned.failed.iter().take(1) {
                anstream::eprintln!("cache    {reason}");
            }
            // Where it cannot be written, the caches are looked at again next time.
            let _ = fs::write(stamp, limit.to_string());
        }
        // Whoever is at it looks itself when it is done.
        Err(CacheError::Busy) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
