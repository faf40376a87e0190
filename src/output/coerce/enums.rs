//! Members of an enum, written a little differently.

use serde_json::Value;

use super::{ChangeKind, Coercer, Out, number, scalar};

impl Coercer<'_> {
    /// The one member that the value can mean: the same letters in another case, or with other
    /// separators. Two members that differ no more than that leave no reading, and a word that
    /// only resembles a member is not that member.
    pub(super) fn fix_enum(&mut self, options: &[&Value], value: &Value) -> Out {
        match value {
            Value::String(text) => match spelled(options, text) {
                Some((option, kind)) => self.fixed(option.clone(), kind),
                None => Out::No,
            },
            Value::Number(_) | Value::Bool(_) => {
                let text = value.to_string();
                match options.iter().find(|option| option.as_str() == Some(text.as_str())) {
                    Some(option) => self.fixed((*option).clone(), ChangeKind::TextFromScalar),
                    None => Out::No,
                }
            }
            Value::Array(items) => match items.as_slice() {
                [only @ (Value::String(_) | Value::Number(_) | Value::Bool(_))] => {
                    if options.contains(&only) {
                        return self.fixed(only.clone(), ChangeKind::ListRemoved);
                    }
                    let only = only.clone();
                    self.with_made(only, ChangeKind::ListRemoved, |this, only| {
                        this.fix_enum(options, only)
                    })
                }
                _ => Out::No,
            },
            Value::Null | Value::Object(_) => Out::No,
        }
    }
}

fn spelled<'v>(options: &[&'v Value], text: &str) -> Option<(&'v Value, ChangeKind)> {
    let bare = text.trim().trim_matches(['"', '\'', '`', '*', '“', '”', '‘', '’']).trim();
    let ways: [fn(&str) -> String; 3] = [str::to_owned, str::to_lowercase, folded];
    for way in ways {
        let wanted = way(bare);
        if wanted.is_empty() {
            return None;
        }
        let mut found =
            options.iter().filter(|option| option.as_str().is_some_and(|name| way(name) == wanted));
        match (found.next(), found.next()) {
            (Some(only), None) => return Some((only, ChangeKind::EnumSpelling)),
            (Some(_), Some(_)) => return None,
            (None, _) => (),
        }
    }
    other_type(options, bare)
}

/// A member that is no string.
fn other_type<'v>(options: &[&'v Value], text: &str) -> Option<(&'v Value, ChangeKind)> {
    options.iter().find_map(|option| match option {
        Value::Null => scalar::is_null_literal(text).then_some((*option, ChangeKind::NullFromText)),
        Value::Bool(wanted) => (scalar::boolean(text) == Some(*wanted))
            .then_some((*option, ChangeKind::BooleanFromText)),
        Value::Number(_) => {
            let number = number::parse(text, false)?;
            let same =
                number.guess.is_none() && super::view::same(option, &Value::Number(number.value));
            same.then_some((*option, ChangeKind::NumberFromText))
        }
        Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Letters and digits only, in lower case.
pub(super) fn folded(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
