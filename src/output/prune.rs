//! The tail of a value that was cut: which part it is, and how to cut it back.

use serde_json::Value;

/// How often an incomplete tail is cut back before giving up.
pub(super) const CUTS_MAX: usize = 12;

/// The address of the last part of the value, the one that the cut may have hurt.
pub(super) fn tail_address(value: &Value) -> usize {
    let mut tail = value;
    loop {
        let next = match tail {
            Value::Array(items) => items.last(),
            Value::Object(map) => map.iter().next_back().map(|(_, member)| member),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        match next {
            Some(next) => tail = next,
            None => return std::ptr::from_ref(tail) as usize,
        }
    }
}

/// Takes the last part of the value off; false when nothing is left to take.
pub(super) fn cut_tail(value: &mut Value) -> bool {
    let depth = tail_depth(value);
    let mut holder = value;
    for _ in 1..depth {
        let next = match holder {
            Value::Array(items) => items.last_mut(),
            Value::Object(map) => map.iter_mut().next_back().map(|(_, member)| member),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        match next {
            Some(next) => holder = next,
            None => return false,
        }
    }
    match holder {
        Value::Array(items) => items.pop().is_some(),
        Value::Object(map) => match map.keys().next_back().cloned() {
            Some(last) => map.shift_remove(&last).is_some(),
            None => false,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// How many containers hold the last part.
fn tail_depth(value: &Value) -> usize {
    let mut depth = 0;
    let mut tail = value;
    loop {
        let next = match tail {
            Value::Array(items) => items.last(),
            Value::Object(map) => map.iter().next_back().map(|(_, member)| member),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        match next {
            Some(next) => tail = next,
            None => return depth,
        }
        depth += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_tail_is_cut_back_step_by_step() {
        let mut value = json!({"a": 1, "rows": [{"id": 1}, {"id": 2}]});
        let mut seen = Vec::new();
        while cut_tail(&mut value) {
            seen.push(value.to_string());
        }
        assert_eq!(seen[0], r#"{"a":1,"rows":[{"id":1},{}]}"#);
        assert_eq!(seen[1], r#"{"a":1,"rows":[{"id":1}]}"#);
        assert_eq!(seen.last().map(String::as_str), Some("{}"));
    }
}
