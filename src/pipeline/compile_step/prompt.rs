//! The messages of a step.

use super::{ITEMS_MAX, StepCompiler};
use crate::exchange::Role;
use crate::pipeline::document::{RawContent, RawMessage, RawPart, RawPrompt};
use crate::pipeline::prompt::{MessageTemplate, PartTemplate, Prompt};
use crate::pipeline::template::{Compiler, Template, did_you_mean, line_and_column};

impl StepCompiler<'_> {
    pub(super) fn prompt(&mut self) -> Option<Prompt> {
        let raw = self.raw;
        let mut compiler = Compiler::new();
        let mut messages = Vec::new();
        match &raw.prompt {
            RawPrompt::Text(source) => {
                let text = self.template(&mut compiler, "prompt", source);
                let parts = text.map(PartTemplate::Text).into_iter().collect();
                messages.push(MessageTemplate { role: Role::User, parts });
            }
            RawPrompt::Messages(raw) => {
                for (index, message) in raw.iter().enumerate() {
                    let field = format!("prompt/{index}");
                    messages.extend(self.message(&mut compiler, &field, message));
                }
                if raw.is_empty() {
                    self.error("prompt", "the prompt is empty");
                } else if raw.len() > ITEMS_MAX {
                    self.error("prompt", format!("at most {ITEMS_MAX} messages"));
                } else if raw.iter().all(|message| message.user.is_none()) {
                    self.error("prompt", "no message is from the user");
                }
            }
        }
        let (engine, reads) = compiler.finish();
        if raw.for_each.is_some()
            && reads.of("item").is_none()
            && reads.of("index").is_none()
            && self.findings.usable()
        {
            let path = self.at("prompt");
            let message = "every element of `for_each` gets the same prompt";
            self.findings.warning(path, message, Some("read `item` or `index`".to_owned()));
        }
        Some(Prompt { engine, reads, messages })
    }

    fn message(
        &mut self,
        compiler: &mut Compiler,
        field: &str,
        raw: &RawMessage,
    ) -> Option<MessageTemplate> {
        let speakers = [
            (Role::System, "system", &raw.system),
            (Role::User, "user", &raw.user),
            (Role::Assistant, "assistant", &raw.assistant),
        ];
        let mut spoken = speakers
            .into_iter()
            .filter_map(|(role, key, content)| Some((role, key, content.as_ref()?)));
        let (Some((role, key, content)), None) = (spoken.next(), spoken.next()) else {
            self.error(field, "a message has exactly one of `system`, `user` and `assistant`");
            return None;
        };
        let field = format!("{field}/{key}");
        let mut parts = Vec::new();
        match content {
            RawContent::Text(source) => {
                parts.extend(self.template(compiler, &field, source).map(PartTemplate::Text));
            }
            RawContent::Parts(raw) => {
                if raw.is_empty() || raw.len() > ITEMS_MAX {
                    self.error(&field, format!("a message has 1 to {ITEMS_MAX} parts"));
                }
                for (index, part) in raw.iter().enumerate() {
                    parts.extend(self.part(compiler, &format!("{field}/{index}"), part));
                }
            }
        }
        Some(MessageTemplate { role, parts })
    }

    fn part(
        &mut self,
        compiler: &mut Compiler,
        field: &str,
        raw: &RawPart,
    ) -> Option<PartTemplate> {
        match (&raw.text, &raw.image_url, &raw.image_data) {
            (Some(text), None, None) => {
                let field = format!("{field}/text");
                self.template(compiler, &field, text).map(PartTemplate::Text)
            }
            (None, Some(url), None) => {
                let field = format!("{field}/image_url");
                self.template(compiler, &field, url).map(PartTemplate::ImageUrl)
            }
            (None, None, Some(image)) => {
                let media = format!("{field}/image_data/media_type");
                let media_type = self.template(compiler, &media, &image.media_type);
                let data = format!("{field}/image_data/data");
                let data = self.template(compiler, &data, &image.data)?;
                Some(PartTemplate::ImageData { media_type: media_type?, data })
            }
            _ => {
                let message = "a part has exactly one of `text`, `image_url` and `image_data`";
                self.error(field, message);
                None
            }
        }
    }

    fn template(&mut self, compiler: &mut Compiler, field: &str, source: &str) -> Option<Template> {
        let path = self.at(field);
        if source.trim().is_empty() {
            self.findings.error(path, "the text is empty");
            return None;
        }
        let (template, reads) = match compiler.add(source) {
            Ok(compiled) => compiled,
            Err(refusal) => {
                let at = line_and_column(source, refusal.at);
                self.findings.inside(path, at, refusal.message, refusal.suggestion);
                return None;
            }
        };
        let known = self.variables(if self.judged.is_some() { &["output"] } else { &[] });
        for (variable, at) in reads {
            let at = line_and_column(source, at);
            let Some(root) = variable.first() else { continue };
            // What the engine brings along.
            if !known.contains(&root.as_str()) && !matches!(root.as_str(), "range" | "loop") {
                let hint = did_you_mean(root, known.iter().copied())
                    .or_else(|| Some(format!("known here: {}", known.join(", "))));
                let message = format!("unknown variable `{root}`");
                self.findings.inside(path.clone(), at, message, hint);
            }
            let variable: Vec<&str> = variable.iter().map(String::as_str).collect();
            if let Some((message, hint)) = self.around.unseen(&variable) {
                self.findings.inside(path.clone(), at, message, hint);
            }
        }
        Some(template)
    }
}
