//! The messages of a step, before and after rendering.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scope::Scope;
use super::template::{Engine, OUTPUT_BYTES_MAX, Reads, Template};
use crate::exchange::{Message, Part, Role};
use crate::failure::{Failure, FailureCause};

/// Largest image as base64 text.
pub const IMAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A step's messages with their templates, compiled.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub(super) engine: Engine,
    /// What the templates read together.
    pub(super) reads: Reads,
    pub(super) messages: Vec<MessageTemplate>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTemplate {
    pub(super) role: Role,
    pub(super) parts: Vec<PartTemplate>,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PartTemplate {
    Text(Template),
    ImageUrl(Template),
    ImageData { media_type: Template, data: Template },
}

impl Prompt {
    /// How many messages are written down.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Never true for a compiled step.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether it says the same whatever the input is: no template in it reads or decides anything.
    pub fn is_fixed(&self) -> bool {
        let literal = |template: &Template| matches!(template, Template::Literal(_));
        self.messages.iter().flat_map(|message| &message.parts).all(|part| match part {
            PartTemplate::Text(template) | PartTemplate::ImageUrl(template) => literal(template),
            PartTemplate::ImageData { media_type, data } => literal(media_type) && literal(data),
        })
    }

    /// The messages for a scope.
    ///
    /// Parts and messages that render to nothing are left out, so that a template may decide
    /// whether to say something; providers refuse empty texts.
    ///
    /// # Errors
    /// `missing_input` where a template reads what is absent, `template_error` where it does not
    /// render or nothing is left to say, `invalid_request` where an image is none.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Vec<Message>, Failure> {
        let context = scope.context(&self.reads);
        let mut messages = Vec::with_capacity(self.messages.len());
        for (index, message) in self.messages.iter().enumerate() {
            let text = |template: &Template, bytes_max: usize| {
                self.engine.render(template, &context, bytes_max).map_err(|error| {
                    let mut failure = Failure::from(error);
                    failure.message = format!("message {}: {}", index + 1, failure.message);
                    failure
                })
            };
            let mut parts = Vec::with_capacity(message.parts.len());
            for part in &message.parts {
                match part {
                    PartTemplate::Text(template) => {
                        let text = text(template, OUTPUT_BYTES_MAX)?;
                        if !text.trim().is_empty() {
                            parts.push(Part::Text(text.into()));
                        }
                    }
                    PartTemplate::ImageUrl(template) => {
                        parts.push(image_url(index, text(template, OUTPUT_BYTES_MAX)?)?);
                    }
                    PartTemplate::ImageData { media_type, data } => {
                        let media_type = text(media_type, OUTPUT_BYTES_MAX)?;
                        let data = text(data, IMAGE_BYTES_MAX)?;
                        parts.push(image_data(index, media_type, data)?);
                    }
                }
            }
            if !parts.is_empty() {
                messages.push(Message { role: message.role, parts });
            }
        }
        if messages.iter().all(|message| message.role == Role::System) {
            let text = "no message is left after rendering that the model could answer";
            return Err(Failure::new(FailureCause::TemplateError, text));
        }
        Ok(messages)
    }
}

fn invalid(index: usize, what: &str) -> Failure {
    let message = format!("message {}: {what}", index + 1);
    Failure::new(FailureCause::InvalidRequest, message).with_detail("invalid_image")
}

fn image_url(index: usize, url: String) -> Result<Part, Failure> {
    let url = url.trim();
    let web = url.starts_with("https://") || url.starts_with("http://");
    if !web || url.len() > 8_192 || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(invalid(index, "an image's URL is no http or https URL"));
    }
    Ok(Part::ImageUrl(url.into()))
}

fn image_data(index: usize, media_type: String, data: String) -> Result<Part, Failure> {
    let media_type = media_type.trim().to_ascii_lowercase();
    let subtype = media_type.strip_prefix("image/").unwrap_or_default();
    let named = !subtype.is_empty()
        && subtype.len() <= 64
        && subtype.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    if !named {
        return Err(invalid(index, "an image's media type does not begin with `image/`"));
    }
    let base64: String = data.split_ascii_whitespace().collect();
    if base64.is_empty() || STANDARD.decode(&base64).is_err() {
        return Err(invalid(index, "an image's data is not base64"));
    }
    Ok(Part::ImageData { media_type, base64: base64.into() })
}
