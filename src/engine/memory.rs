//! How much memory the process uses, and how much it may: what the memory guard watches.

use std::time::Duration;

use super::Engine;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(250);

impl Engine {
    /// Watches the memory, until the service stops. Without a limit (configured, or of the control
    /// group) there is nothing to watch.
    pub async fn watch_memory(&self, configured: Option<u64>) {
        let Some(limit) = configured.or_else(control_group_limit) else { return };
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            // Both files are kernel memory: reading one takes microseconds.
            if let Some(used) = resident() {
                self.admission().note_memory(used, limit);
            }
        }
    }
}

/// Resident memory of this process in bytes; `None` where the system does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    of_status(&status)
}

/// `VmRSS` of a process's status, in bytes.
fn of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// The memory limit of the control group that the process is in, version 2 or 1.
fn control_group_limit() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .find_map(|text| of_limit(&text))
}

/// A limit as the control group writes it: bytes, or `max`, or (version 1) all there can be.
fn of_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(of_status("Name:\tmainstay\nVmRSS:\t   20480 kB\nThreads: 4\n"), Some(20 << 20));
        assert_eq!(of_status("Name:\tmainstay\n"), None);
        assert_eq!(of_limit("268435456\n"), Some(256 << 20));
        assert_eq!([of_limit("max\n"), of_limit("9223372036854771712\n")], [None, None]);
        #[cfg(target_os = "linux")]
        assert!(resident().is_some_and(|used| used > 1 << 20));
    }
}
