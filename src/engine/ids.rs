//! Ids of runs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// A fresh id: a UUID of version 7, so that ids sort by time.
///
/// Its random part comes from this thread's generator. The library would ask the kernel for each.
pub fn new_run_id() -> Arc<str> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    Arc::from(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_and_differ() {
        let ids: HashSet<Arc<str>> = (0..1_000).map(|_| new_run_id()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| {
            let id = Uuid::parse_str(id).unwrap();
            id.get_version_num() == 7 && id.get_timestamp().is_some()
        }));
    }
}
