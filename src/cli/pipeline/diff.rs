//! `mainstay pipeline diff`

use clap::Args;
use serde_json::{Map, Value, json};

use crate::api::client::PolicyClient;
use crate::api::pb::policy_source::Source;
use crate::cli::Exit;
use crate::cli::policy::{self, Kind, Sides};
use crate::document::{Document, Problems};

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 80;

/// Tell which members of two pipelines differ. Exit code 1 if any does.
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    sides: Sides,
}

impl Diff {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.sides.asking.client().await?;
        let mut sides = Vec::with_capacity(2);
        for argument in [&self.sides.before, &self.sides.after] {
            match self.side(&mut client, argument).await? {
                Ok(side) => sides.push(side),
                Err(exit) => return Ok(exit),
            }
        }
        let mut found = Vec::new();
        if let [before, after] = sides.as_slice() {
            compare("", Some(before), Some(after), &mut found);
        }
        let value = || {
            let one = |one: &Difference| json!({"path": one.path, "before": one.before, "after": one.after});
            json!({ "differences": found.iter().map(one).collect::<Vec<_>>() })
        };
        let text = match found.is_empty() {
            true => "no difference\n".to_owned(),
            false => found.iter().map(Difference::line).collect(),
        };
        policy::print(self.sides.asking.json, value, &text);
        Ok(if found.is_empty() { Exit::Done } else { Exit::Failed })
    }

    /// What a side says; or how the command ends without it.
    async fn side(
        &self,
        client: &mut PolicyClient,
        argument: &str,
    ) -> anyhow::Result<Result<Value, Exit>> {
        let source = match policy::source(argument) {
            Ok(source) => source.source,
            Err(error) => return policy::wrong(&error).map(Err),
        };
        let text = match source {
            Some(Source::Stored(named)) => {
                match Kind::Pipeline.get(client, named.name, named.version).await {
                    Ok(status) => status.text,
                    Err(refusal) => {
                        return Ok(Err(policy::refused(self.sides.asking.json, &refusal)));
                    }
                }
            }
            Some(Source::Text(text)) => text,
            None => String::new(),
        };
        match Document::parse(argument, text) {
            Ok(document) => Ok(Ok(document.to_json())),
            Err(problem) => {
                policy::wrong(&anyhow::anyhow!("{argument}:{}", Problems(vec![problem]))).map(Err)
            }
        }
    }
}

/// A member that is not the same on both sides.
#[derive(Debug, PartialEq)]
struct Difference {
    path: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Difference {
    fn line(&self) -> String {
        let Self { path, before, after } = self;
        match (before, after) {
            (Some(before), Some(after)) => {
                format!("{path}: {} -> {}\n", short(before), short(after))
            }
            (Some(before), None) => format!("{path}: {} is gone\n", short(before)),
            (None, after) => {
                format!("{path}: {} is new\n", after.as_ref().map(short).unwrap_or_default())
            }
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Members in turn; of lists whose items have names, each by its name. Depth is that of documents.
fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let members = |side: Option<&Value>| match side {
        Some(Value::Object(members)) => Some(members.clone()),
        Some(Value::Array(items)) => by_name(items),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => None,
    };
    let (Some(old), Some(new)) = (members(before), members(after)) else {
        let (before, after) = (before.cloned(), after.cloned());
        found.push(Difference { path: path.to_owned(), before, after });
        return;
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    let start = found.len();
    for key in old.keys().chain(added) {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        compare(&inner, old.get(key), new.get(key), found);
    }
    if found.len() == start {
        // The same items in another order.
        let (before, after) = (before.cloned(), after.cloned());
        found.push(Difference { path: path.to_owned(), before, after });
    }
}

/// Items by their names, if all have one of their own.
fn by_name(items: &[Value]) -> Option<Map<String, Value>> {
    let mut named = Map::new();
    for item in items {
        named.insert(item.get("name")?.as_str()?.to_owned(), item.clone());
    }
    (named.len() == items.len()).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_compared_by_their_names() {
        let step = |name: &str, target: &str| json!({"name": name, "targets": [target]});
        let before = json!({"name": "p", "policy": "a", "steps": [step("x", "t"), step("y", "t")]});
        let after = json!({"name": "p", "steps": [step("z", "t"), step("x", "u")]});
        let mut found = Vec::new();
        compare("", Some(&before), Some(&after), &mut found);
        let lines: Vec<String> = found.iter().map(Difference::line).collect();
        assert_eq!(
            lines,
            [
                "policy: \"a\" is gone\n",
                "steps.x.targets: [\"t\"] -> [\"u\"]\n",
                "steps.y: {\"name\":\"y\",\"targets\":[\"t\"]} is gone\n",
                "steps.z: {\"name\":\"z\",\"targets\":[\"t\"]} is new\n",
            ]
        );
        found.clear();
        compare("", Some(&before), Some(&before), &mut found);
        assert_eq!(found, []);
        let (one, other) =
            (json!([step("x", "t"), step("y", "t")]), json!([step("y", "t"), step("x", "t")]));
        compare("steps", Some(&one), Some(&other), &mut found);
        assert_eq!(found.len(), 1, "another order is a difference");
    }
}
