//! What the encoders share.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::EncodeError;
use crate::exchange::{Message, Part, Payload, Role};

/// The body as bytes, with the members of `extra` laid over its top level; a null removes one.
///
/// Without extras the body is written straight from the request, which is the common case and the
/// only one worth being fast.
pub(super) fn to_bytes(
    dialect: &'static str,
    body: &impl Serialize,
    extra: &Map<String, Value>,
) -> Result<Vec<u8>, EncodeError> {
    let refused = |_| EncodeError { dialect, what: "this request as JSON" };
    if extra.is_empty() {
        return serde_json::to_vec(body).map_err(refused);
    }
    let mut tree = serde_json::to_value(body).map_err(refused)?;
    if let Value::Object(members) = &mut tree {
        for (name, value) in extra {
            if value.is_null() {
                members.shift_remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
    }
    serde_json::to_vec(&tree).map_err(refused)
}

/// The messages of a role other than the system's.
pub(super) fn spoken(messages: &[Message]) -> impl Iterator<Item = &Message> + Clone {
    messages.iter().filter(|message| message.role != Role::System)
}

/// The texts of the system's messages; images there are nothing that a dialect can say.
pub(super) fn standing<'r>(
    dialect: &'static str,
    messages: &'r [Message],
) -> Result<Vec<&'r str>, EncodeError> {
    messages
        .iter()
        .filter(|message| message.role == Role::System)
        .flat_map(|message| &message.parts)
        .map(|part| match part {
            Part::Text(text) => Ok(text.expose()),
            Part::ImageUrl(_) | Part::ImageData { .. } => {
                Err(EncodeError { dialect, what: "an image in a system message" })
            }
        })
        .collect()
}

/// Writes the items of an iterator as an array without collecting them.
pub(super) struct Items<I>(pub I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Items<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// An image as a `data:` URL, written without being built.
pub(super) struct DataUrl<'a> {
    pub media_type: &'a str,
    pub base64: &'a Payload,
}

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for DataUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data:{};base64,{}", self.media_type, self.base64.expose())
    }
}

/// `model` as one segment of a path: a slash in it must not lead elsewhere.
pub(super) fn segment(model: &str) -> String {
    let mut encoded = String::with_capacity(model.len());
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
