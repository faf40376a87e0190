use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::control::hash;
use crate::policy::rollout::Guards;

fn proposal(text: &str) -> Proposal {
    Proposal {
        kind: Kind::Policy,
        name: "p".into(),
        text: text.into(),
        content_hash: hash(text),
        owner: Owner::Api,
        author: "ann".into(),
        comment: "".into(),
        expected: None,
        rollback_of: 0,
        rollout: None,
    }
}

fn push(book: &mut Book, proposal: &Proposal) -> Result<u64, ChangeError> {
    match book.judge(proposal)? {
        Judged::Same(version) => Ok(version.version),
        Judged::Next(version) => {
            let entry = book.with(proposal, version, UNIX_EPOCH);
            book.put(entry);
            Ok(version)
        }
    }
}

fn expecting(text: &str, expected: u64) -> Proposal {
    Proposal { expected: Some(expected), ..proposal(text) }
}

fn rolled_out(text: &str) -> Proposal {
    let start = RolloutStart { share: 0.1, guards: Guards::default() };
    Proposal { rollout: Some(start), ..proposal(text) }
}

#[test]
fn versions_count_up_and_the_same_content_is_not_stored_twice() {
    let mut book = Book::default();
    assert_eq!(push(&mut book, &expecting("a", 0)).unwrap(), 1);
    assert_eq!(push(&mut book, &proposal("a")).unwrap(), 1);
    // Repeating a push that went through is no lost race.
    assert_eq!(push(&mut book, &expecting("a", 0)).unwrap(), 1);
    assert_eq!(push(&mut book, &expecting("b", 1)).unwrap(), 2);
    let stale = push(&mut book, &expecting("c", 1)).unwrap_err();
    assert!(matches!(stale, ChangeError::Stale { current: 2 }), "{stale}");
    assert_eq!(push(&mut book, &proposal("a")).unwrap(), 3);
    let entry = book.get(Kind::Policy, "p").unwrap();
    assert_eq!((entry.active, entry.last, entry.versions.len()), (3, 3, 3));
    assert!(book.get(Kind::Pipeline, "p").is_none());
}

#[test]
fn one_owner_at_a_time() {
    let with = |owner, text| Proposal { owner, ..proposal(text) };
    let mut book = Book::default();
    assert_eq!(push(&mut book, &with(Owner::BuiltIn, "a")).unwrap(), 1);
    assert_eq!(push(&mut book, &with(Owner::File, "a")).unwrap(), 2, "a file takes it over");
    let refused = push(&mut book, &with(Owner::Api, "b")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the document belongs to the file ann; change it there, or take it away"
    );
    // A file that took over what the API had stored has not written it.
    let mut taken_over = Book::default();
    assert_eq!(push(&mut taken_over, &with(Owner::Api, "a")).unwrap(), 1);
    let mut entry = Entry::clone(taken_over.get(Kind::Policy, "p").unwrap());
    entry.owner = Owner::File;
    taken_over.put(entry);
    assert_eq!(
        push(&mut taken_over, &with(Owner::Api, "b")).unwrap_err().to_string(),
        "the document belongs to its file; change it there, or take it away"
    );
    // Its file went away, and came back.
    let mut freed = Entry::clone(book.get(Kind::Policy, "p").unwrap());
    freed.owner = Owner::Api;
    book.put(freed);
    assert_eq!(push(&mut book, &with(Owner::File, "c")).unwrap(), 3);
    let mut freed = Entry::clone(book.get(Kind::Policy, "p").unwrap());
    freed.owner = Owner::Api;
    book.put(freed);
    assert_eq!(push(&mut book, &with(Owner::Api, "d")).unwrap(), 4);
    assert!(matches!(
        push(&mut book, &with(Owner::File, "e")),
        Err(ChangeError::Owned { owner: Owner::Api, .. })
    ));
}

#[test]
fn a_rollout_leaves_the_old_version_active_and_nothing_else_is_pushed_meanwhile() {
    let mut book = Book::default();
    assert_eq!(push(&mut book, &rolled_out("a")).unwrap(), 1);
    assert_eq!(book.get(Kind::Policy, "p").unwrap().active, 1, "nothing to compare with");
    assert_eq!(push(&mut book, &rolled_out("b")).unwrap(), 2);
    let entry = book.get(Kind::Policy, "p").unwrap();
    assert_eq!((entry.active, entry.active_rollout().unwrap().version), (1, 2));
    assert_eq!(push(&mut book, &proposal("b")).unwrap(), 2, "the same again");
    assert!(matches!(
        push(&mut book, &proposal("c")),
        Err(ChangeError::RolloutUnderWay { version: 2 })
    ));
    let back = Proposal { rollback_of: 1, ..proposal("a") };
    assert_eq!(push(&mut book, &back).unwrap(), 3);
    let entry = book.get(Kind::Policy, "p").unwrap();
    assert_eq!(entry.active, 3);
    let rollout = entry.rollout.as_ref().unwrap();
    assert_eq!(rollout.state, RolloutState::RolledBack);
    assert_eq!(&*rollout.reason, "version 3 takes up an older one again");
}

#[test]
fn a_rejection_is_kept_until_the_next_version_and_invents_no_document() {
    let mut book = Book::default();
    let problems = as_problem(&ChangeError::Internal);
    assert!(book.with_rejection(&proposal("x"), &problems, UNIX_EPOCH).is_none());
    push(&mut book, &proposal("a")).unwrap();
    let many = Problems(vec![problems.0[0].clone(); 1_000]);
    let entry = book.with_rejection(&proposal("x"), &many, UNIX_EPOCH).unwrap();
    assert_eq!(entry.rejection.as_ref().unwrap().problems.0.len(), PROBLEMS_MAX);
    assert_eq!(entry.active, 1);
    book.put(entry);
    push(&mut book, &proposal("b")).unwrap();
    assert!(book.get(Kind::Policy, "p").unwrap().rejection.is_none());
}

#[test]
fn the_number_of_documents_is_bounded() {
    let mut book = Book::default();
    let named = |n: usize| Proposal { name: format!("p{n}").into(), ..proposal("a") };
    for n in 0..DOCUMENTS_MAX {
        push(&mut book, &named(n)).unwrap();
    }
    assert!(matches!(push(&mut book, &named(DOCUMENTS_MAX)), Err(ChangeError::Full { .. })));
    assert_eq!(
        push(&mut book, &Proposal { text: "b".into(), content_hash: hash("b"), ..named(0) })
            .unwrap(),
        2
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is pushed, rolled out, taken back: what serves is kept, the history is bounded,
    /// and versions never go back.
    #[test]
    fn what_serves_is_never_forgotten(
        pushes in proptest::collection::vec((0_usize..40, any::<bool>(), any::<bool>()), 1..400),
    ) {
        let mut book = Book::default();
        let mut last = 0;
        for (number, (size, roll_out, take_back)) in pushes.into_iter().enumerate() {
            let text = format!("{number}{}", "x".repeat(size * 10_000));
            // Hashing megabytes again and again is not what is tested.
            let short = number.to_string();
            let named = if roll_out { rolled_out(&short) } else { proposal(&short) };
            let proposal = Proposal { text: text.into(), ..named };
            if let Ok(version) = push(&mut book, &proposal) {
                prop_assert!(version == last + 1);
                last = version;
            }
            let mut entry = Entry::clone(book.get(Kind::Policy, "p").unwrap());
            if let Some(rollout) = entry.active_rollout().cloned() && take_back {
                entry.rollout = Some(Arc::new(ended(&rollout, RolloutState::RolledBack, "")));
                book.put(entry.clone());
            }
            prop_assert!(entry.active_version().is_some());
            if let Some(rollout) = entry.active_rollout() {
                prop_assert!(entry.version(rollout.version).is_some());
            }
            prop_assert!(entry.versions.len() <= VERSIONS_MAX + 2);
            prop_assert!(bytes(&entry) <= HISTORY_BYTES_MAX + 2 * 400_010);
            prop_assert!(entry.versions.is_sorted_by_key(|version| version.version));
            prop_assert_eq!(entry.last, last);
        }
    }
}
