//! The files that say who may call, read again while the server runs.
//!
//! They are read twice a second and compared with what was read before: that sees an editor, a
//! rename and a volume mount alike, on any file system. What cannot be used changes nothing: who
//! could call goes on, and the log says so once. To lock everybody out, leave the list empty.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::callers::Callers;
use super::jwt::Keys;
use crate::config::{AuthConfig, JwtRules, secret};
use crate::document::BYTES_MAX;
use crate::engine::alerts::Alerts;
use crate::tasks::Tasks;

/// How soon a change of a file is seen.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A file of access that cannot be used. Says nothing that stands under `tokens`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} cannot be used:\n{problem}")]
pub struct AccessFileError {
    path: String,
    problem: String,
}

/// Content of a file or of what it meant, as a digest.
pub(super) type Fingerprint = [u8; 32];

/// What a file of access means.
pub(super) trait Meaning: Sized {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it.
    fn of_text(path: &Path, text: &str) -> Result<Self, String>;

    /// Tells two meanings of one text apart; `None` where a text has only one.
    fn beyond_text(&self) -> Option<Fingerprint>;
}

impl Meaning for Callers {
    fn of_text(path: &Path, text: &str) -> Result<Self, String> {
        let base_dir = path.parent().unwrap_or(Path::new("."));
        Self::read(&path.display().to_string(), text, base_dir, &secret::fetch)
            .map_err(|problems| problems.to_string())
    }

    fn beyond_text(&self) -> Option<Fingerprint> {
        self.tokens_elsewhere()
    }
}

impl Meaning for Keys {
    fn of_text(_: &Path, text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn beyond_text(&self) -> Option<Fingerprint> {
        None
    }
}

/// One file: what it meant when it could last be used.
struct Source<T> {
    path: PathBuf,
    text: Fingerprint,
    /// What was last said to be wrong with it.
    problem: Option<String>,
    current: watch::Sender<Arc<T>>,
}

impl<T: Meaning> Source<T> {
    fn load(path: &Path) -> Result<Self, AccessFileError> {
        let wrong = |problem| AccessFileError { path: path.display().to_string(), problem };
        let text = text_of(path).map_err(wrong)?;
        let value = T::of_text(path, &text).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            text: Sha256::digest(&text).into(),
            problem: None,
            current: watch::Sender::new(Arc::new(value)),
        })
    }

    /// Looks at the file again.
    fn refresh(&mut self, alerts: &Alerts) {
        let about = format!("access file {}", self.path.display());
        match self.changed() {
            Ok(None) => {
                if self.problem.is_none() {
                    alerts.mended(&about);
                }
            }
            Ok(Some(value)) => {
                self.problem = None;
                self.current.send_replace(Arc::new(value));
                alerts.mended(&about);
                tracing::info!(file = %self.path.display(), "access was read again");
            }
            Err(problem) if self.problem.as_ref() == Some(&problem) => {}
            Err(problem) => {
                let file = self.path.display();
                let first = problem.lines().next().unwrap_or_default();
                let text = format!("{file} cannot be used: {first}; access stays as it was");
                alerts.notice(&about, &text);
                tracing::error!(%file, %problem, "this file cannot be used; access stays as it was");
                self.problem = Some(problem);
            }
        }
    }

    /// What the file means now, if that is something new.
    fn changed(&mut self) -> Result<Option<T>, String> {
        let text = text_of(&self.path)?;
        let digest: Fingerprint = Sha256::digest(&text).into();
        let beyond = self.current.borrow().beyond_text();
        let same_text = digest == self.text;
        if same_text && beyond.is_none() && self.problem.is_none() {
            return Ok(None);
        }
        let value = T::of_text(&self.path, &text)?;
        if same_text && value.beyond_text() == beyond {
            // A file that was broken for a while and is what it was before.
            self.problem = None;
            return Ok(None);
        }
        self.text = digest;
        Ok(Some(value))
    }
}

/// All files of access.
pub(super) struct AccessFiles {
    callers: Option<Source<Callers>>,
    keys: Option<Source<Keys>>,
    rules: Option<Arc<JwtRules>>,
}

impl AccessFiles {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn load(config: &AuthConfig) -> Result<Self, AccessFileError> {
        let callers = config.callers_file.as_deref().map(Source::load);
        let keys = config.jwt.as_ref().map(|jwt| Source::load(&jwt.jwks_file));
        Ok(Self {
            callers: callers.transpose()?,
            keys: keys.transpose()?,
            rules: config.jwt.as_ref().map(|jwt| Arc::new(jwt.rules.clone())),
        })
    }

    /// Who may call, always as the files say.
    pub(super) fn callers(&self) -> Option<watch::Receiver<Arc<Callers>>> {
        self.callers.as_ref().map(|source| source.current.subscribe())
    }

    /// Keys and rules of JSON Web Tokens.
    pub(super) fn jwt(&self) -> Option<(watch::Receiver<Arc<Keys>>, Arc<JwtRules>)> {
        let keys = self.keys.as_ref()?.current.subscribe();
        Some((keys, self.rules.clone()?))
    }

    /// Reads the files again and again, on the threads for blocking work.
    pub(super) async fn keep_fresh(mut self, alerts: Arc<Alerts>, tasks: Tasks) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let alerts = alerts.clone();
            let looked = tasks.spawn_blocking(move || {
                if let Some(source) = &mut self.callers {
                    source.refresh(&alerts);
                }
                if let Some(source) = &mut self.keys {
                    source.refresh(&alerts);
                }
                self
            });
            match looked.await {
                Ok(back) => self = back,
                // The runtime is ending.
                Err(_) => return,
            }
        }
    }
}

/// The text of a file of at most [`BYTES_MAX`] bytes.
fn text_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() > BYTES_MAX { Err("is larger than 1 MiB".to_owned()) } else { Ok(text) }
}
