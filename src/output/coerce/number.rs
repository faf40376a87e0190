//! Numbers that are written as text.
//!
//! Only spellings with one value become numbers unmarked. Whether `1,234` is a thousand or a
//! little more than one depends on where its writer lives; an integer has one reading, a number
//! has two. Words, ranges, fractions, sums and multiples (`3k`, `2.5 million`) are refused.

use serde_json::Number;

use super::ChangeKind;
use crate::output::reader::wide_digit;
use crate::output::strict;

/// A number read from text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parsed {
    pub value: Number,
    /// What was guessed or dropped, if anything.
    pub guess: Option<ChangeKind>,
}

const CURRENCIES: &[&str] = &[
    "$", "€", "£", "¥", "₹", "₩", "₽", "USD", "EUR", "GBP", "JPY", "CHF", "INR", "CNY", "SEK",
    "NOK", "DKK", "CAD", "AUD", "US$", "A$", "C$", "R$", "zł", "kr",
];
/// Units that change nothing about the number before them. Letters that may mean a multiple
/// (`k`, `m`, `b`) are not among them.
const UNITS: &[&str] = &[
    "%",
    "percent",
    "pct",
    "kg",
    "g",
    "mg",
    "lb",
    "lbs",
    "oz",
    "km",
    "cm",
    "mm",
    "mi",
    "miles",
    "ft",
    "feet",
    "inch",
    "inches",
    "meters",
    "metres",
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "ms",
    "min",
    "mins",
    "minute",
    "minutes",
    "h",
    "hr",
    "hrs",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
    "yrs",
    "°",
    "°c",
    "°f",
    "px",
    "pt",
    "mb",
    "gb",
    "kb",
    "tb",
    "kib",
    "mib",
    "gib",
    "bytes",
    "hz",
    "khz",
    "mhz",
    "ghz",
    "kw",
    "kwh",
    "mah",
    "ml",
    "liters",
    "litres",
    "items",
    "item",
    "points",
    "point",
    "pts",
    "stars",
    "star",
    "tokens",
    "words",
    "pages",
    "people",
    "units",
    "unit",
    "pieces",
    "pcs",
    "times",
    "degrees",
    "dollars",
    "euros",
    "km/h",
    "mph",
    "m/s",
    "years old",
];
const LENGTH_MAX: usize = 400;

/// Reads a number; `integer` says that it has to be one.
pub(super) fn parse(text: &str, integer: bool) -> Option<Parsed> {
    let text = text.trim();
    if text.is_empty() || text.len() > LENGTH_MAX {
        return None;
    }
    if text.chars().any(|c| wide_digit(c).is_some()) {
        let narrow: String = text.chars().map(|c| wide_digit(c).unwrap_or(c)).collect();
        return parse(&narrow, integer);
    }
    if let Some(parsed) = spelled(text, integer) {
        return Some(parsed);
    }
    let bare = without_unit(text)?;
    let parsed = spelled(bare, integer)?;
    Some(Parsed { value: parsed.value, guess: Some(ChangeKind::UnitDropped) })
}

fn without_unit(text: &str) -> Option<&str> {
    let text = text.trim();
    for currency in CURRENCIES {
        if let Some(rest) = text.strip_prefix(currency).or_else(|| text.strip_suffix(currency)) {
            return Some(rest.trim()).filter(|rest| !rest.is_empty());
        }
    }
    let digits_end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let unit = text[digits_end..].trim().trim_end_matches('.').to_lowercase();
    UNITS.contains(&unit.as_str()).then(|| text[..digits_end].trim())
}

fn spelled(text: &str, integer: bool) -> Option<Parsed> {
    let (negative, digits) = match text.strip_prefix(['-', '−', '–']) {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let (plain, guess) = plain_digits(digits, integer)?;
    let signed = if negative { format!("-{plain}") } else { plain };
    if !strict::is_number(&signed) {
        return None;
    }
    let value = strict::number(&if integer { whole(signed)? } else { signed })?;
    Some(Parsed { value, guess })
}

/// The number without a fraction; `None` when it has one.
fn whole(text: String) -> Option<String> {
    if let Some((whole, fraction)) = text.split_once('.')
        && fraction.bytes().all(|b| b == b'0')
    {
        return Some(whole.to_owned());
    }
    if text.contains(['.', 'e', 'E']) {
        return text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0).then_some(text);
    }
    Some(text)
}

/// Digits as JSON writes them, and what was guessed about separators.
fn plain_digits(digits: &str, integer: bool) -> Option<(String, Option<ChangeKind>)> {
    let guess = Some(ChangeKind::NumberGuessed);
    if strict::is_number(digits) {
        return Some((digits.to_owned(), None));
    }
    if digits.starts_with('.') {
        return Some((format!("0{digits}"), None));
    }
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(|value| (value.to_string(), None));
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let trimmed = digits.trim_start_matches('0');
        return Some((if trimmed.is_empty() { "0" } else { trimmed }.to_owned(), guess)); // leading zeros
    }
    let commas = digits.matches(',').count();
    let points = digits.matches('.').count();
    match (commas, points) {
        (0, 0) => separated(digits, integer),
        (0, 1) => None,
        (_, 0 | 1) if groups(digits.split('.').next()?, ',') && comma_before_point(digits) => {
            let sure = integer || commas > 1 || points == 1;
            Some((digits.replace(',', ""), if sure { None } else { guess }))
        }
        (0, _) if groups(digits, '.') => Some((digits.replace('.', ""), guess)),
        (1, _) if points > 0 && groups(digits.split(',').next()?, '.') => {
            Some((digits.replace('.', "").replace(',', "."), guess))
        }
        (1, 0) => {
            let (whole, fraction) = digits.split_once(',')?;
            let decimal = !integer && !whole.is_empty() && !fraction.is_empty();
            decimal.then(|| (format!("{whole}.{fraction}"), guess))
        }
        (_, 0) if indian(digits) => Some((digits.replace(',', ""), guess)),
        (_, _) => None,
    }
}

fn comma_before_point(digits: &str) -> bool {
    match (digits.rfind(','), digits.find('.')) {
        (Some(comma), Some(point)) => comma < point,
        (_, _) => true,
    }
}

/// `1_000`, `1 000`, `1'000`.
fn separated(digits: &str, integer: bool) -> Option<(String, Option<ChangeKind>)> {
    if digits.contains('_') {
        let plain = digits.replace('_', "");
        return plain.bytes().all(|b| b.is_ascii_digit()).then_some((plain, None));
    }
    for mark in ['\'', '’', ' ', '\u{a0}', '\u{202f}'] {
        if digits.contains(mark) && groups(digits, mark) {
            let sure = integer && mark != ' ';
            return Some((digits.replace(mark, ""), (!sure).then_some(ChangeKind::NumberGuessed)));
        }
    }
    None
}

/// Groups of three after a first of one to three digits that does not begin with zero.
fn groups(text: &str, mark: char) -> bool {
    let mut parts = text.split(mark);
    let first = parts.next().unwrap_or_default();
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let mut count = 0;
    (1..=3).contains(&first.len())
        && digits(first)
        && !first.starts_with('0')
        && parts.all(|part| {
            count += 1;
            part.len() == 3 && digits(part)
        })
        && count > 0
}

/// `1,23,456`: groups of two, the last of three.
fn indian(text: &str) -> bool {
    let parts: Vec<&str> = text.split(',').collect();
    let Some((last, rest)) = parts.split_last() else {
        return false;
    };
    let digits = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    last.len() == 3
        && parts.iter().all(digits)
        && rest
            .iter()
            .enumerate()
            .all(|(index, part)| part.len() == 2 || index == 0 && part.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, integer: bool, expected: Option<(&str, Option<ChangeKind>)>) {
        let parsed = parse(text, integer).map(|parsed| (parsed.value.to_string(), parsed.guess));
        assert_eq!(parsed, expected.map(|(number, guess)| (number.to_owned(), guess)), "{text}");
    }

    #[test]
    fn spellings() {
        use ChangeKind::{NumberGuessed, UnitDropped};
        check("42", true, Some(("42", None)));
        check(" -7 ", true, Some(("-7", None)));
        check("3.0", true, Some(("3", None)));
        check("19.5", true, None);
        check("1,234", true, Some(("1234", None)));
        check("1,234", false, Some(("1234", Some(NumberGuessed))));
        check("1,234,567", false, Some(("1234567", None)));
        check("1,234.56", false, Some(("1234.56", None)));
        check("1.234,56", false, Some(("1234.56", Some(NumberGuessed))));
        check("3,14", false, Some(("3.14", Some(NumberGuessed))));
        check("3,14", true, None);
        check("1,23,456", true, Some(("123456", Some(NumberGuessed))));
        check("007", true, Some(("7", Some(NumberGuessed))));
        check("1_000", true, Some(("1000", None)));
        check("４２", true, Some(("42", None)));
        check("１，２３４", true, None);
        check("$5", false, Some(("5", Some(UnitDropped))));
        check("12 %", true, Some(("12", Some(UnitDropped))));
        check("5 kg", false, Some(("5", Some(UnitDropped))));
        check("9007199254740993", true, Some(("9007199254740993", None)));
    }

    #[test]
    fn refusals() {
        for text in [
            "five",
            "3k",
            "2.5 million",
            ">100",
            "1/5",
            "10 * 5",
            "between 1 and 2",
            "",
            " ",
            "NaN",
            "1-2",
            "~5",
            "5 or 6",
            "10th",
            "-",
        ] {
            check(text, false, None);
        }
    }
}
