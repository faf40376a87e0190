//! The thread that reads: a connection of its own, so that no read waits for a write.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{Read, Shared, StoreError, Write, table};

pub(super) struct Reader {
    path: PathBuf,
    shared: Arc<Shared>,
    writes: mpsc::Sender<Write>,
    /// With the number of the opening that it belongs to: a file that was begun anew is another.
    open: Option<(u64, Connection)>,
}

impl Reader {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>, writes: mpsc::Sender<Write>) -> Self {
        Self { path, shared, writes, open: None }
    }

    pub(super) fn run(mut self, mut reads: mpsc::Receiver<Read>) {
        while let Some(read) = reads.blocking_recv() {
            match read {
                // Who asked has given up: a slow disk is not made slower.
                Read::Find(_, answer) if answer.is_closed() => {}
                Read::Find(key, answer) => {
                    let found = self.with(|connection| table::find(connection, &key));
                    let _ = answer.send(found.flatten());
                }
                Read::Vectors(bytes_max, answer) => {
                    let found = self.with(|connection| table::vectors(connection, bytes_max));
                    let _ = answer.send(found.unwrap_or_default());
                }
                Read::Close => return,
            }
        }
    }

    /// Reads something; nothing while the file is in trouble.
    fn with<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Option<T> {
        let opened = *self.shared.opened.borrow();
        if opened == 0 {
            self.open = None;
            return None;
        }
        let result = match &mut self.open {
            Some((of, connection)) if *of == opened => read(connection),
            other => table::open_to_read(&self.path)
                .and_then(|connection| read(&other.insert((opened, connection)).1)),
        };
        match result {
            Ok(found) => Some(found),
            Err(error) => {
                self.open = None;
                // The writer knows what to do about it; it hears of it again if it is busy.
                let _ = self.writes.try_send(Write::Broken(opened, error));
                None
            }
        }
    }
}
