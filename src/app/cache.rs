//! The cache of a configuration: the memory, what is behind it, and what finds outputs in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::config::Config;
use crate::engine::alerts::Alerts;
use crate::engine::cache::OutputCache;
use crate::engine::cache::durable::Behind;
use crate::engine::cache::similar::Similar;
use crate::engine::targets::Target;
use crate::store::sqlite::outputs::{Health, OutputStore, OutputStoreSettings};
use crate::tasks::Tasks;

/// How often it is looked at how the store stands.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest time that the start waits for the store's file.
const OPENED_WITHIN: Duration = Duration::from_secs(2);

/// Sets the cache up. A store that cannot be opened stops nobody: it is an alert.
pub(super) async fn cache(
    config: &Config,
    embeddings: Option<(Arc<Target>, usize)>,
    alerts: &Arc<Alerts>,
    tasks: &Tasks,
) -> OutputCache {
    let similar = embeddings.map(|(target, bytes)| Arc::new(Similar::new(target, bytes)));
    let mut behind = None;
    if let Some(durable) = &config.cache.durable {
        let settings = OutputStoreSettings {
            path: durable.path.clone(),
            bytes_max: durable.bytes_max,
            age_max: durable.max_age,
        };
        let store = OutputStore::start(settings, tasks);
        tasks.spawn_until_stopped(watch(store.clone(), alerts.clone()));
        if let Some(similar) = similar.clone() {
            let store = store.clone();
            tasks.spawn_until_stopped(async move { similar.remember(&store).await });
        }
        // The first calls are to find what was kept, so the start waits a moment for the file.
        store.opened(Instant::now() + OPENED_WITHIN).await;
        behind = Some(Behind { store, steps_without_key: durable.steps_without_key });
    }
    OutputCache::new(config.limits.cache_bytes, behind).with_similar(similar)
}

/// Tells operators when outputs are not written, or not read.
async fn watch(store: OutputStore, alerts: Arc<Alerts>) {
    const STORE: &str = "durable cache";
    const WRITES: &str = "writes of the durable cache";
    let mut health = store.health();
    let mut dropped_before = 0;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = health.borrow_and_update().clone();
        match now {
            Health::Opening => {}
            Health::Well => alerts.mended(STORE),
            Health::Trouble(why) => alerts.notice(
                STORE,
                &format!("outputs are cached in memory only: {why}; it is tried again"),
            ),
        }
        let dropped = store.dropped();
        match dropped.checked_sub(dropped_before) {
            Some(new) if new > 0 => {
                alerts.notice(WRITES, &format!("{dropped} outputs were not written since start"));
            }
            Some(_) | None => alerts.mended(WRITES),
        }
        dropped_before = dropped;
        tokio::select! {
            _ = tick.tick() => {}
            changed = health.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
