use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::journal::OutputBody;

fn settings(path: &Path) -> OutputStoreSettings {
    let age_max = Duration::from_secs(3_600);
    OutputStoreSettings { path: path.to_path_buf(), bytes_max: 1 << 20, age_max }
}

fn start(settings: OutputStoreSettings) -> (OutputStore, Tasks) {
    let tasks = Tasks::new();
    (OutputStore::start(settings, &tasks), tasks)
}

async fn stop(store: OutputStore, tasks: Tasks) {
    drop(store);
    tasks.stop();
    assert!(tasks.wait(Duration::from_secs(10)).await, "a thread is left");
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn key(n: u32) -> OutputKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    key
}

fn output(n: u32, step: &str, text: &str) -> StoredOutput {
    StoredOutput {
        key: key(n),
        pipeline: "p".into(),
        step: step.into(),
        target: "t".into(),
        stored: SystemTime::UNIX_EPOCH
            + SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map(|age| Duration::from_secs(age.as_secs()))
                .unwrap(),
        output: StepOutput::plain(OutputBody::Text(text.into())),
        neighbour: None,
    }
}

/// Behind everything that was put before: a write that waits for an answer.
async fn written(store: &OutputStore) {
    store.forget(Some("no such pipeline"), None, soon()).await.unwrap();
}

#[tokio::test]
async fn outputs_survive_the_process_and_are_forgotten_by_origin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/cache.db");
    let (store, tasks) = start(settings(&path));
    let mut last = output(3, "b", "three");
    let neighbour = Neighbour { neighbourhood: key(9), vector: [0.5, -1.0].as_slice().into() };
    last.neighbour = Some(neighbour.clone());
    for one in [output(1, "a", "one"), output(2, "b", "two"), output(2, "b", "newer"), last] {
        store.put(one);
    }
    // Not awaited: what was put before the end is written all the same.
    stop(store, tasks).await;
    let (store, tasks) = start(settings(&path));
    store.opened(soon()).await;
    assert_eq!(store.find(key(1), soon()).await, Some(output(1, "a", "one")));
    let found = store.find(key(2), soon()).await.unwrap();
    assert_eq!(found.output, output(2, "b", "newer").output);
    assert_eq!(store.find(key(4), soon()).await, None);
    let vectors = store.vectors(1 << 20).await;
    assert_eq!((vectors.len(), &vectors[0].neighbour, &*vectors[0].step), (1, &neighbour, "b"));
    assert_eq!(store.forget(Some("q"), None, soon()).await.unwrap(), 0);
    assert_eq!(store.forget(Some("p"), Some("b"), soon()).await.unwrap(), 2);
    assert_eq!(store.find(key(2), soon()).await, None);
    assert_eq!(store.forget(None, None, soon()).await.unwrap(), 1);
    assert_eq!((store.find(key(1), soon()).await, store.dropped()), (None, 0));
    stop(store, tasks).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // What was forgotten stands nowhere any more.
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(5).any(|five| five == b"newer"));
}

#[tokio::test]
async fn bounded_by_bytes_and_age_oldest_out_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let (store, tasks) = start(OutputStoreSettings { bytes_max: 128 << 10, ..settings(&path) });
    let now = SystemTime::now();
    for n in 0..600 {
        let mut one = output(n, "a", &"x".repeat(768));
        one.stored = now - Duration::from_secs(600 - u64::from(n));
        store.put(one);
    }
    let mut aged = output(1_000, "a", "aged");
    aged.stored = now - Duration::from_secs(3_601);
    store.put(aged);
    written(&store).await;
    store.writes.send(Write::Sweep).await.unwrap_or_default();
    written(&store).await;
    let has = async |n| store.find(key(n), soon()).await.is_some();
    assert!(has(599).await && !has(0).await && !has(1_000).await);
    let sum: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT sum(bytes) FROM outputs", (), |row| row.get(0))
        .unwrap();
    assert!((32 << 10..=128 << 10).contains(&sum), "{sum}");
    stop(store, tasks).await;
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_at_start_and_while_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    std::fs::write(&path, "this is no database, and long enough to be looked at".repeat(64))
        .unwrap();
    let (store, tasks) = start(settings(&path));
    store.put(output(1, "a", "one"));
    written(&store).await;
    assert!(store.find(key(1), soon()).await.is_some());
    assert!(dir.path().join("cache.db.damaged").exists());
    // A bit of the body turns under it.
    let other = Connection::open(&path).unwrap();
    other
        .execute(
            "UPDATE outputs SET body = CAST(replace(CAST(body AS TEXT), 'one', 'two') AS BLOB)",
            (),
        )
        .unwrap();
    drop(other);
    assert_eq!(store.find(key(1), soon()).await, None);
    written(&store).await;
    store.put(output(2, "a", "two"));
    written(&store).await;
    assert!(store.find(key(2), soon()).await.is_some());
    assert_eq!(*store.health().borrow(), Health::Well);
    stop(store, tasks).await;
}

#[tokio::test]
async fn a_file_in_other_hands_costs_nothing_but_its_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let (first, tasks) = start(settings(&path));
    written(&first).await;
    // A second owner has nothing and says why; the file of another program is left alone.
    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    for (path, why) in [(&path, "in use by another process"), (&foreign, "not a store")] {
        let (store, tasks) = start(settings(path));
        store.put(output(1, "a", "one"));
        assert!(store.forget(None, None, soon()).await.is_err());
        assert_eq!((store.find(key(1), soon()).await, store.dropped()), (None, 1));
        let Health::Trouble(text) = store.health().borrow().clone() else { panic!("well") };
        assert!(text.contains(why), "{text}");
        stop(store, tasks).await;
    }
    assert!(foreign.exists());
    // Locked by somebody who only looks at it: tried again, and well afterwards.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(first.forget(None, None, soon()).await.is_err());
    assert!(matches!(*first.health().borrow(), Health::Trouble(_)));
    other.execute_batch("ROLLBACK").unwrap();
    written(&first).await;
    assert_eq!(*first.health().borrow(), Health::Well);
    stop(first, tasks).await;
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.db");
    let (store, tasks) = start(OutputStoreSettings { bytes_max: 1 << 30, ..settings(&path) });
    written(&store).await;
    // The writer is held up; no executor's thread is.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (puts, text) = (40_u32, "x".repeat(1 << 20));
    (0..puts).for_each(|n| store.put(output(n, "a", &text)));
    assert!(store.shared.waiting_bytes.load(Ordering::Relaxed) <= WRITE_BYTES_MAX);
    other.execute_batch("ROLLBACK").unwrap();
    written(&store).await;
    let kept: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM outputs", (), |row| row.get(0))
        .unwrap();
    assert!(0 < kept && kept < i64::from(puts), "{kept}");
    assert_eq!(store.dropped() + kept.unsigned_abs(), u64::from(puts));
    assert_eq!(store.shared.waiting_bytes.load(Ordering::Relaxed), 0);
    stop(store, tasks).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the bytes of the file are, it is opened or moved aside, or left alone; nothing
    /// panics and nothing hangs.
    #[test]
    fn any_bytes_are_a_file_to_begin_from(
        at in 0_usize..12_000,
        bytes in proptest::collection::vec(0_u8..=255, 1..64),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, tasks) = start(settings(&path));
            store.put(output(1, "a", "one"));
            stop(store, tasks).await;
            let mut file = std::fs::read(&path).unwrap();
            let at = at % file.len();
            file.splice(at..(at + bytes.len()).min(file.len()), bytes.iter().copied());
            std::fs::write(&path, file).unwrap();
            let (store, tasks) = start(settings(&path));
            store.opened(soon()).await;
            let found = store.find(key(1), soon()).await;
            assert!(found.is_none_or(|found| found.output == output(1, "a", "one").output));
            let _ = store.forget(None, None, soon()).await;
            stop(store, tasks).await;
        });
    }
}
