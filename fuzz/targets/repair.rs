//! Repairing broken JSON: what comes out is a value that needs no repair, whatever went in.
//!
//! The first byte picks the contract, the second says whether the provider cut the reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::output::{RepromptLimits, join, reprompt};
use mainstay_fuzz::{CONTRACTS, judged};

fuzz_target!(|input: &[u8]| {
    let [choice, cut, text @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let contract = &CONTRACTS[usize::from(*choice) % CONTRACTS.len()];
    let cut = cut & 1 == 1;
    let checked = judged(text, cut, contract);
    if let Some(cause) = checked.cause {
        let limits = RepromptLimits { room_tokens: Some(900), ..RepromptLimits::default() };
        let asked = reprompt(cause, &text.into(), &checked.violations, contract, &limits);
        assert!(asked.is_none_or(|asked| asked.tokens <= 900));
    }
    // A cut answer and its rest: nothing of the first half is lost, and nothing is made up.
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (before, rest) = text.split_at(middle);
    let (whole, _) = join(before, rest);
    assert!(whole.starts_with(before) && rest.ends_with(&whole[before.len()..]));
    judged(&whole, cut, contract);
});
