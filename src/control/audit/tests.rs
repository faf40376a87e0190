use serde_json::Value;

use super::*;

fn entry(document: &str) -> AuditEntry {
    AuditEntry::new("ada", AuditAction::PolicyPushed, document)
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_newest_come_first_and_the_oldest_go() {
    let log = AuditLog::default();
    for number in 1..=ENTRIES_MAX + 5 {
        log.record(entry(&format!("policy/p{number}"))).await;
    }
    let page = log.list(None, 2, |_| true);
    let numbers: Vec<u64> = page.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1_005, 1_004]);
    assert_eq!(page[0].1.document, "policy/p1005");
    let next = log.list(Some(1_004), 1, |_| true);
    assert_eq!((next[0].0, next[0].1.document.as_str()), (1_003, "policy/p1003"));
    let all = log.list(None, usize::MAX, |_| true);
    assert_eq!((all.len(), all.last().unwrap().0), (ENTRIES_MAX, 6));
    let one = log.list(None, 9, |entry| entry.document == "policy/p7");
    assert_eq!((one.len(), one[0].0), (1, 7));
    assert!(log.list(Some(1), 9, |_| true).is_empty());
}

#[tokio::test]
async fn a_line_is_in_the_file_when_the_change_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let file = AuditFile { path: path.clone(), bytes_max: 1 << 20, files_max: 2 };
    let log = AuditLog::open(Some(file.clone())).unwrap();
    let hostile = "up\r\n{\"actor\":\"root\"}\u{1b}[2J\u{202e}é";
    log.record(entry("policy/careful").versions(3, 4).comment(hostile)).await;
    let written = lines(&path);
    assert_eq!(written.len(), 1);
    let told = &written[0];
    assert_eq!(told["actor"], "ada");
    assert_eq!(told["action"], "policy_pushed");
    assert_eq!((told["from_version"].as_u64(), told["to_version"].as_u64()), (Some(3), Some(4)));
    let comment = "up\\u{d}\\u{a}{\"actor\":\"root\"}\\u{1b}[2J\\u{202e}é";
    assert_eq!(told["comment"], comment);
    assert!(told["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    log.close().await;
    // Another process goes on where this one stopped.
    let again = AuditLog::open(Some(file)).unwrap();
    again.record(entry("policy/other")).await;
    assert_eq!(lines(&path).len(), 2);
    again.close().await;
}

#[tokio::test]
async fn the_file_is_turned_over_at_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let file = AuditFile { path: path.clone(), bytes_max: 1_000, files_max: 2 };
    let log = AuditLog::open(Some(file)).unwrap();
    for number in 0..40 {
        log.record(entry(&format!("policy/p{number}"))).await;
    }
    log.close().await;
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
    let kept: Vec<String> = ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"]
        .iter()
        .flat_map(|name| lines(&dir.path().join(name)))
        .map(|line| line["document"].as_str().unwrap().to_owned())
        .collect();
    // What is left is the end of the log, whole and in order.
    let newest: Vec<String> = (40 - kept.len()..40).map(|n| format!("policy/p{n}")).collect();
    assert_eq!(kept, newest);
    assert!(kept.len() >= 12, "{}", kept.len());
    for name in names {
        assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() <= 1_000);
    }
}

#[tokio::test]
async fn a_file_that_fails_stops_no_change() {
    assert!(
        AuditLog::open(Some(AuditFile {
            path: "/nonexistent/audit.jsonl".into(),
            bytes_max: 1,
            files_max: 1
        }))
        .is_err()
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gone/audit.jsonl");
    std::fs::create_dir(dir.path().join("gone")).unwrap();
    let log = AuditLog::open(Some(AuditFile { path, bytes_max: 1, files_max: 1 })).unwrap();
    log.record(entry("policy/first")).await;
    std::fs::remove_dir_all(dir.path().join("gone")).unwrap();
    log.record(entry("policy/second")).await;
    assert_eq!(log.list(None, 9, |_| true).len(), 2);
    log.close().await;
    log.record(entry("policy/third")).await;
    assert_eq!(log.list(None, 9, |_| true).len(), 3);
}

#[test]
fn texts_are_bounded() {
    let long = "x".repeat(10_000);
    let entry = AuditEntry::new(&long, AuditAction::TargetDisabled, &long).comment(&long);
    assert_eq!(entry.actor.chars().count(), NAME_CHARS_MAX + 1);
    assert_eq!(entry.comment.chars().count(), COMMENT_CHARS_MAX + 1);
    assert!(entry.line().len() < 4_096);
}
