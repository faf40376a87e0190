//! A lock file beside the store, held while its process lives: two processes on one store would
//! each believe to be the one writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The lock. Given up when dropped, and by the system when the process dies however it dies.
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes it or says who has it.
    pub(super) fn take(store: &Path) -> Result<Self, StoreError> {
        let path = lock_path(store);
        let at = |source| StoreError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                return Err(StoreError::InUse { path: store.to_path_buf(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(at(source)),
        }
        // For people only; the lock itself is what counts.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(at)?;
        Ok(Self { _file: file })
    }
}

fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
