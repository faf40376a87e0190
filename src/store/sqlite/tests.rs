use super::*;

async fn open(path: &Path) -> (Sqlite, Tasks) {
    let tasks = Tasks::new();
    (Sqlite::open(path, &tasks).unwrap(), tasks)
}

async fn close(store: Sqlite, tasks: Tasks) {
    drop(store);
    assert!(tasks.wait(Duration::from_secs(10)).await, "the writer is left");
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/mainstay.db");
    let (store, tasks) = open(&path).await;
    let Err(error) = Sqlite::open(&path, &tasks) else { panic!("two owners") };
    let wanted =
        format!("{} is in use by another process (process {})", path.display(), std::process::id());
    assert_eq!(error.to_string(), wanted);
    close(store, tasks).await;
    let (store, tasks) = open(&path).await;
    close(store, tasks).await;
}

#[tokio::test]
async fn files_of_others_and_of_later_versions_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let tasks = Tasks::new();
    assert!(matches!(Sqlite::open(&foreign, &tasks), Err(StoreError::Foreign(_))));
    let later = dir.path().join("later.db");
    let (store, writer) = open(&later).await;
    close(store, writer).await;
    Connection::open(&later).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let Err(error) = Sqlite::open(&later, &tasks) else { panic!("opened") };
    assert!(error.to_string().contains("version 99 of the schema"), "{error}");
    let nonsense = dir.path().join("nonsense.db");
    std::fs::write(&nonsense, "this is no database, and long enough to be looked at".repeat(64))
        .unwrap();
    assert!(matches!(Sqlite::open(&nonsense, &tasks), Err(StoreError::Sqlite(_))));
}

#[tokio::test]
async fn work_that_fails_leaves_nothing_and_the_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, tasks) = open(&dir.path().join("s.db")).await;
    let clock = |sql: &'static str| move |t: &Transaction<'_>| Ok(t.execute(sql, ())?);
    let failed = store
        .write(|transaction| {
            transaction.execute("UPDATE document_clock SET seq = 7", ())?;
            transaction.execute("no such statement", ())?;
            Ok(())
        })
        .await;
    assert!(matches!(failed, Err(StoreError::Sqlite(_))));
    assert_eq!(
        store.write(clock("UPDATE document_clock SET seq = 8 WHERE seq = 0")).await.unwrap(),
        1
    );
    // A full disk, as SQLite tells it.
    store.write(|t| Ok(t.pragma_update(None, "max_page_count", 1)?)).await.unwrap();
    let big = store
        .write(|t| {
            Ok(t.execute("INSERT INTO policy_rollouts VALUES ('x', hex(zeroblob(99999)))", ())?)
        })
        .await;
    assert!(matches!(big, Err(StoreError::Sqlite(_))), "{big:?}");
    store.write(|t| Ok(t.pragma_update(None, "max_page_count", 1_000_000)?)).await.unwrap();
    assert_eq!(
        store.write(clock("UPDATE document_clock SET seq = 9 WHERE seq = 8")).await.unwrap(),
        1
    );
    close(store, tasks).await;
}
