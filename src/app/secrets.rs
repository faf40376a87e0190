//! Secret files of targets, watched: another credential is sent from the next call on, and a
//! target that was disabled because its old one was refused is called again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::targets::credential;
use crate::config::{Config, RawSecret, TargetConfig};
use crate::control::Watch;
use crate::engine::alerts::Alerts;
use crate::engine::targets::{Target, Targets};
use crate::tasks::Tasks;

/// A target whose credential is in a file.
#[derive(Clone)]
struct Kept {
    target: Arc<Target>,
    config: TargetConfig,
    file: PathBuf,
}

/// Watches the secret files of all targets until the group is stopped.
pub(super) fn keep(
    config: &Config,
    targets: &Targets,
    embeddings: Option<&(Arc<Target>, usize)>,
    alerts: Arc<Alerts>,
    tasks: &Tasks,
) {
    let own = targets.iter().filter_map(|target| Some((target, config.targets.get(&target.name)?)));
    let vectors = embeddings.zip(config.cache.embeddings.as_ref());
    let all = own.chain(vectors.map(|((target, _), (config, _))| (target, config)));
    let kept: Vec<Kept> = all
        .filter_map(|(target, config)| match &config.credential {
            Some(RawSecret::File(file)) => {
                Some(Kept { target: target.clone(), config: config.clone(), file: file.into() })
            }
            Some(RawSecret::Env(_)) | None => None,
        })
        .collect();
    if kept.is_empty() {
        return;
    }
    let folders: BTreeSet<PathBuf> =
        kept.iter().filter_map(|one| one.file.parent().map(Path::to_path_buf)).collect();
    let kept: Arc<[Kept]> = kept.into();
    let blocking = tasks.clone();
    tasks.spawn_until_stopped(async move {
        let mut watch = Watch::new(folders.into_iter().collect());
        loop {
            let (kept, alerts) = (kept.clone(), alerts.clone());
            let look = blocking.spawn_blocking(move || {
                kept.iter().for_each(|one| reload(one, &alerts));
            });
            // A look that panicked is no reason to stop looking.
            let _ = look.await;
            watch.next().await;
        }
    });
}

fn reload(kept: &Kept, alerts: &Alerts) {
    let name = &kept.target.name;
    let about = format!("credential of target/{name}");
    match credential(&kept.config) {
        Ok(Some((header, value))) => {
            alerts.mended(&about);
            if kept.target.endpoint.set_credential(header, value) {
                kept.target.gate.credential_reloaded();
                tracing::info!(target = %name, "its credential was reloaded");
            }
        }
        Ok(None) => {}
        // Half written or gone: the one at hand is the best there is.
        Err(error) => alerts.notice(
            &about,
            &format!("the credential of target {name} cannot be reloaded: {error}; the one at hand goes on being sent"),
        ),
    }
}
