//! Finding the value in a text: JSON is untouched, and what stands around it does not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::output::{ChangeKind, Contract, ContractOptions, Verdict, check, strip_fences};
use mainstay_fuzz::{ANY_JSON, judged, plain_json};

fuzz_target!(|text: &str| {
    let checked = judged(text, false, &ANY_JSON);
    let inner = strip_fences(text);
    assert!(text.contains(inner));
    let free = check(text, false, &Contract::text(ContractOptions::default()));
    assert_eq!(free.value.is_none(), free.verdict == Verdict::Failed);
    let Some(value) = plain_json(text) else {
        let own_words = text.contains("$serde_json");
        assert!(checked.verdict != Verdict::Clean || own_words, "clean, but not JSON");
        return;
    };
    if checked.verdict != Verdict::Clean {
        assert!(checked.changes.has(ChangeKind::KeyDuplicate), "valid JSON was changed");
        return;
    }
    assert_eq!(checked.value.as_ref(), Some(&value), "valid JSON was changed");
    if value.as_object().is_some_and(|members| !members.is_empty()) {
        let around = format!("Here you are:\n```json\n{text}\n```\nBye.");
        let found = judged(&around, false, &ANY_JSON);
        assert_eq!(found.verdict, Verdict::Repaired, "a fence and prose lose nothing");
        assert_eq!(found.value, Some(value), "a fence changed the value");
    }
});
