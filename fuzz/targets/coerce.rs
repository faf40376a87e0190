//! Fitting a value to a schema: a line of schema, then the text of the answer.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::{Corpus, fuzz_target};
use mainstay::output::ChangeKind::{self, *};
use mainstay::output::{Contract, ContractOptions, Verdict, check};
use mainstay_fuzz::judged;

/// What only coercion does.
const COERCIONS: &[ChangeKind] = &[
    NumberFromText,
    BooleanFromText,
    NullFromText,
    TextFromScalar,
    EnumSpelling,
    ListAdded,
    ListRemoved,
    WrapperRemoved,
    WrapperAdded,
    KeyRenamed,
    NullRemoved,
    UnitDropped,
    BooleanGuessed,
    NullGuessed,
    MemberDropped,
    BranchGuessed,
];

fuzz_target!(|input: &str| -> Corpus {
    let Some((schema, text)) = input.split_once('\n') else { return Corpus::Reject };
    let Ok(schema) = serde_json::from_str(schema) else { return Corpus::Reject };
    let Ok(contract) = Contract::json_schema(Arc::new(schema), ContractOptions::default()) else {
        return Corpus::Keep;
    };
    let coerced = judged(text, false, &contract);
    let strict = check(text, false, &contract.under(true, true));
    for kind in COERCIONS {
        assert!(!strict.changes.has(*kind), "coerced in strict mode: {}", kind.name());
    }
    // What satisfies the schema as it stands is never coerced.
    assert_eq!(strict.verdict == Verdict::Clean, coerced.verdict == Verdict::Clean);
    if strict.verdict == Verdict::Clean {
        assert_eq!(strict.value, coerced.value);
    }
    Corpus::Keep
});
