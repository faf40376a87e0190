//! One fault for one request, without a script.
//!
//! Behind `!` in the model's name, or in the header `x-mainstay-sim` after `fault=`, stand faults
//! in this form:
//!
//! ```text
//! faults = fault *( "+" fault )
//! fault  = NAME [ "(" [ param *( "," param ) ] ")" ]
//! param  = KEY "=" VALUE          ; a value ends at "," or ")", or stands in double quotes
//! header = "fault=" faults *( ";" "fault=" faults )
//! ```
//!
//! Names and parameters are those of a script, triggers included: `sim!rate_limit(retry_after=2,
//! first=1)` fails once and then answers. An override takes the place of the script's faults, and
//! `none` therefore switches them off; the header has precedence over the model's name.

use super::ask::Ask;
use super::fault_document::FaultDocument;
use super::faults::FaultRule;

/// The header.
pub const HEADER: &str = "x-mainstay-sim";

/// Longest override in bytes.
const BYTES_MAX: usize = 1_024;

/// The faults that a request asks for. `None` without an override.
///
/// # Errors
/// The override does not parse.
pub fn faults_of(ask: &Ask) -> Option<Result<Vec<FaultRule>, String>> {
    if let Some(header) = ask.headers.get(HEADER) {
        return Some(parse_header(header));
    }
    ask.suffix.as_deref().map(parse)
}

fn parse_header(text: &str) -> Result<Vec<FaultRule>, String> {
    let mut rules = Vec::new();
    for part in split_outside(text, ';')? {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let Some(faults) = part.strip_prefix("fault=") else {
            return Err(format!("`{part}`: expected fault=NAME or fault=NAME(key=value)"));
        };
        rules.extend(parse(faults)?);
    }
    Ok(rules)
}

/// Reads faults in the form given above.
///
/// # Errors
/// Says what was expected.
pub fn parse(text: &str) -> Result<Vec<FaultRule>, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("an override has at most {BYTES_MAX} bytes"));
    }
    split_outside(text, '+')?.into_iter().map(|fault| parse_fault(fault.trim())).collect()
}

fn parse_fault(text: &str) -> Result<FaultRule, String> {
    let (name, params) = match text.split_once('(') {
        None => (text, ""),
        Some((name, rest)) => {
            let params = rest
                .strip_suffix(')')
                .ok_or_else(|| format!("`{text}`: expected `)` at the end"))?;
            (name.trim_end(), params)
        }
    };
    // The parameters become the same document that a script holds, so that both read the same
    // types; quoting keeps a value from being more than a value.
    let mut document = format!("{{fault: {}", quoted(name));
    for param in split_outside(params, ',')? {
        let param = param.trim();
        if param.is_empty() {
            continue;
        }
        let Some((key, value)) = param.split_once('=') else {
            return Err(format!("`{param}`: expected key=value"));
        };
        document.push_str(&format!(", {}: {}", quoted(key.trim()), scalar(value.trim())));
    }
    document.push('}');
    let document: FaultDocument = serde_saphyr::from_str(&document).map_err(|error| {
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default();
        format!("`{text}`: {reason}")
    })?;
    document.compile()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Numbers, booleans and lists of numbers (`calls=[1 3]`) stand as they are, all else is quoted.
fn scalar(value: &str) -> String {
    if let Some(list) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let items: Vec<String> = list.split_whitespace().map(scalar).collect();
        return format!("[{}]", items.join(", "));
    }
    let quoted_already = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
    let plain = value.parse::<f64>().is_ok_and(f64::is_finite) || matches!(value, "true" | "false");
    if plain {
        value.to_owned()
    } else if quoted_already {
        quoted(&value[1..value.len() - 1])
    } else {
        quoted(value)
    }
}

/// Splits where a separator stands outside of parentheses and quotes.
fn split_outside(text: &str, separator: char) -> Result<Vec<&str>, String> {
    let (mut depth, mut in_quotes, mut start) = (0_u32, false, 0);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => (),
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("a `)` without a `(`")?,
            c if c == separator && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => (),
        }
    }
    if depth > 0 || in_quotes {
        return Err(format!("`{text}`: a parenthesis or quote is not closed"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::super::ask::Dialect;
    use super::super::faults::{Fault, Instead, OutputFault, Trigger, WireFault};
    use super::*;

    #[test]
    fn one_with_parameters() {
        let rules = parse("rate_limit(retry_after=1, first=2)").unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].trigger, Trigger::First(2));
        let Fault::Instead(Instead::Trouble(trouble)) = &rules[0].fault else { panic!() };
        assert_eq!(trouble.hints.value, "1");
    }

    #[test]
    fn several() {
        let rules = parse("fence + prose+hang(at=mid_stream,for=2s)").unwrap();
        assert_eq!(rules[0].fault, Fault::Output(OutputFault::Fence));
        assert_eq!(rules[1].fault, Fault::Output(OutputFault::Prose));
        assert!(matches!(rules[2].fault, Fault::Wire(WireFault::Hang(..))));
        assert_eq!(parse("fence(calls=[1 3])").unwrap()[0].trigger, Trigger::Calls(vec![1, 3]));
    }

    #[test]
    fn values_in_quotes_may_hold_anything() {
        let rules = parse("bad_request(message=\"a, (b) + {c: d}\")").unwrap();
        let Fault::Instead(Instead::Trouble(trouble)) = &rules[0].fault else { panic!() };
        assert_eq!(trouble.message.as_deref(), Some("a, (b) + {c: d}"));
    }

    #[test]
    fn the_header_has_precedence() {
        let mut ask = Ask::new(Dialect::OpenAi, "m!fence");
        assert_eq!(faults_of(&ask).unwrap().unwrap()[0].name, "fence");
        ask.headers.insert(HEADER.into(), "fault=prose; fault=think+empty;".into());
        let names: Vec<_> = faults_of(&ask).unwrap().unwrap().iter().map(|r| r.name).collect();
        assert_eq!(names, ["prose", "think", "empty"]);
        assert!(faults_of(&Ask::new(Dialect::OpenAi, "m")).is_none());
    }

    #[test]
    fn what_does_not_parse_is_told() {
        for text in ["", "teapot", "fence(", "fence)", "fence(a)", "fence(a=1)", "hang(at=noon)"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let mut ask = Ask::new(Dialect::OpenAi, "m");
        ask.headers.insert(HEADER.into(), "status=500".into());
        assert!(faults_of(&ask).unwrap().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", name in "[a-z_]{3,12}") {
            let _ = parse(&text);
            let _ = parse(&format!("{name}({text})+fence(first={text})"));
        }
    }
}
