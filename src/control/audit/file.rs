//! The file of the audit log: appended to, and turned over at a size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::AuditFile;

/// A file that is appended to and turned over.
#[derive(Debug)]
pub(super) struct LogFile {
    settings: AuditFile,
    file: File,
    length: u64,
}

impl LogFile {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// When that is not possible.
    pub(super) fn open(settings: AuditFile) -> io::Result<Self> {
        let (file, length) = append_to(&settings.path)?;
        Ok(Self { settings, file, length })
    }

    /// Appends a line with one write, so that two processes on one file do not mix their lines.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.length > 0 && self.length + length > self.settings.bytes_max {
            self.turn_over()?;
        }
        self.file.write_all(line)?;
        self.length += length;
        Ok(())
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2` and so on; the last is lost.
    fn turn_over(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        for number in (1..self.settings.files_max).rev() {
            match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if self.settings.files_max > 0 {
            std::fs::rename(path, numbered(path, 1))?;
        } else {
            std::fs::remove_file(path)?;
        }
        (self.file, self.length) = append_to(path)?;
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}
