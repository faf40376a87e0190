//! Digests of documents, for cache keys and for noticing changes.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 in hex of the value as JSON with its keys sorted.
pub(super) fn digest(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or(Value::Null);
    let mut hash = Sha256::new();
    feed(&json, &mut hash);
    hex(&hash.finalize())
}

/// The digest of an object without one of its members, and the digest of the whole. The second is
/// made from the first, so that having both costs no more than having one.
pub(super) fn digests(value: &impl Serialize, apart: &str) -> ([u8; 32], String) {
    let mut json = serde_json::to_value(value).unwrap_or(Value::Null);
    let member = json.as_object_mut().and_then(|members| members.shift_remove(apart));
    let mut hash = Sha256::new();
    feed(&json, &mut hash);
    let rest: [u8; 32] = hash.finalize().into();
    let mut hash = Sha256::new();
    hash.update(rest);
    feed(&member.unwrap_or(Value::Null), &mut hash);
    (rest, hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the canonical form. Each part says its length, so that no two values read alike.
fn feed(json: &Value, hash: &mut Sha256) {
    match json {
        Value::Object(map) => {
            hash.update(format!("{{{}:", map.len()));
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                hash.update(format!("{}:{key}", key.len()));
                if let Some(value) = map.get(key) {
                    feed(value, hash);
                }
            }
        }
        Value::Array(items) => {
            hash.update(format!("[{}:", items.len()));
            items.iter().for_each(|item| feed(item, hash));
        }
        Value::String(text) => hash.update(format!("\"{}:{text}", text.len())),
        other => hash.update(format!("{other};")),
    }
}
