//! TLS files of the listeners, watched.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::tls::TlsKeeper;
use crate::control::Watch;
use crate::engine::alerts::Alerts;
use crate::tasks::Tasks;

/// Reads the files of a listener again whenever they change, until the group is stopped.
pub(super) fn keep(
    listener: &'static str,
    mut keeper: TlsKeeper,
    alerts: Arc<Alerts>,
    tasks: &Tasks,
) {
    let blocking = tasks.clone();
    tasks.spawn_until_stopped(async move {
        let folders: BTreeSet<PathBuf> = keeper.folders().into_iter().collect();
        let mut watch = Watch::new(folders.into_iter().collect());
        loop {
            let alerts = alerts.clone();
            let look = blocking.spawn_blocking(move || {
                refresh(listener, &mut keeper, &alerts);
                keeper
            });
            match look.await {
                Ok(back) => keeper = back,
                // The runtime is ending.
                Err(_) => return,
            }
            watch.next().await;
        }
    });
}

fn refresh(listener: &str, keeper: &mut TlsKeeper, alerts: &Alerts) {
    let about = format!("TLS of the {listener} listener");
    match keeper.refresh() {
        Ok(is_new) => {
            alerts.mended(&about);
            if is_new {
                tracing::info!(listener, "new connections are made with the new TLS files");
            }
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            let text = format!(
                "the TLS files of the {listener} listener cannot be used: {error:#}; new connections are made with those read before"
            );
            alerts.notice(&about, &text);
        }
    }
}
