//! Types for reading other people's JSON.
//!
//! Servers that call themselves compatible put numbers where texts belong and nulls where objects
//! belong. A member that nobody needs must not cost the answer, so each of these types takes any
//! value and keeps what it can use. Texts are borrowed where JSON has no escapes in them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::exchange::Usage;

/// Fills in what a lenient visitor does with the values it has no use for.
macro_rules! otherwise {
    ($value:expr, $($kind:ident)*) => { $(otherwise!(@$kind $value);)* };
    (@bool $value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> { Ok($value) }
    };
    (@numbers $value:expr) => {
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> { Ok($value) }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> { Ok($value) }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> { Ok($value) }
    };
    (@unit $value:expr) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok($value) }
        fn visit_none<E>(self) -> Result<Self::Value, E> { Ok($value) }
        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
            inner.deserialize_any(self)
        }
    };
    (@text $value:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> { Ok($value) }
    };
    (@seq $value:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
    (@map $value:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

/// A text, or nothing for any other value.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Text<'a>(pub Option<Cow<'a, str>>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    pub(super) fn is(&self, expected: &str) -> bool {
        self.as_str() == expected
    }

    /// The text by value, unless it is absent or empty.
    pub(super) fn non_empty(self) -> Option<String> {
        self.0.filter(|text| !text.is_empty()).map(Cow::into_owned)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text))))
            }
            otherwise!(Text(None), bool numbers unit seq map);
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Whether a member says anything: false for absent, null, `false`, `0`, and empty values.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Present(pub bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PresentVisitor;
        impl<'de> Visitor<'de> for PresentVisitor {
            type Value = Present;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Present, E> {
                Ok(Present(value))
            }
            fn visit_str<E>(self, text: &str) -> Result<Present, E> {
                Ok(Present(!text.is_empty()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Present, A::Error> {
                let mut any = false;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Present(any))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Present, A::Error> {
                let mut any = false;
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Present(any))
            }
            otherwise!(Present(false), numbers unit);
        }
        deserializer.deserialize_any(PresentVisitor)
    }
}

/// A count: a number of any form, or 0.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Through `Value`, since its crate hands numbers of arbitrary precision to nobody else.
        Ok(Count(match Value::deserialize(deserializer)? {
            Value::Number(number) => as_count(number.as_str()),
            Value::String(text) => as_count(&text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => 0,
        }))
    }
}

fn as_count(text: &str) -> u64 {
    let whole = text.split('.').next().unwrap_or("");
    whole.parse().unwrap_or(0)
}

/// A flag; anything but `true` is false.
pub(super) type Flag = Present;

/// Text as messages carry it: plain, as a list of typed parts, or both mixed.
#[derive(Debug, Default)]
pub(super) enum Content<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    List(Vec<Content<'a>>),
    Part(Box<ContentPart<'a>>),
}

/// One typed part.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    text: Content<'a>,
    #[serde(borrow)]
    thinking: Content<'a>,
    #[serde(borrow)]
    refusal: Text<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or parts")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Content::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Content<'de>, A::Error> {
                let members = serde::de::value::MapAccessDeserializer::new(members);
                Ok(Content::Part(Box::new(ContentPart::deserialize(members)?)))
            }
            otherwise!(Content::Nothing, bool numbers unit);
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// Where the pieces of a content go.
pub(super) struct Sinks<'s> {
    pub text: &'s mut String,
    pub reasoning: &'s mut String,
    pub refusal: &'s mut String,
}

impl Content<'_> {
    /// Appends each piece to the sink of its kind; parts of unknown kinds are skipped.
    pub(super) fn pour(&self, sinks: &mut Sinks<'_>) {
        match self {
            Self::Nothing => (),
            Self::Text(text) => sinks.text.push_str(text),
            Self::List(items) => items.iter().for_each(|item| item.pour(sinks)),
            Self::Part(part) => match part.kind.as_str() {
                "" | "text" | "output_text" | "input_text" => {
                    part.text.pour(sinks);
                    sinks.refusal.push_str(part.refusal.as_str());
                }
                "refusal" => sinks.refusal.push_str(part.refusal.as_str()),
                "thinking" | "reasoning" | "reasoning_text" | "summary_text" => {
                    let mut thought = String::new();
                    let mut inner = Sinks {
                        text: &mut thought,
                        reasoning: &mut String::new(),
                        refusal: &mut String::new(),
                    };
                    part.thinking.pour(&mut inner);
                    part.text.pour(&mut inner);
                    sinks.reasoning.push_str(&thought);
                }
                _ => (),
            },
        }
    }
}

/// Token counts under every name in use. Providers mix old and new names in one object, so the
/// names are members of their own and not aliases.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct UsageWire {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    prompt_cache_hit_tokens: Count,
    input_tokens: Count,
    output_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    input_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
    reasoning_tokens: Count,
    #[serde(rename = "promptTokenCount")]
    prompt_token_count: Count,
    #[serde(rename = "candidatesTokenCount")]
    candidates_token_count: Count,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts_token_count: Count,
    #[serde(rename = "toolUsePromptTokenCount")]
    tool_use_prompt_token_count: Count,
    #[serde(rename = "cachedContentTokenCount")]
    cached_content_token_count: Count,
    #[serde(rename = "inputTokens")]
    input_tokens_camel: Count,
    #[serde(rename = "outputTokens")]
    output_tokens_camel: Count,
    #[serde(rename = "cacheReadInputTokens")]
    cache_read_camel: Count,
    #[serde(rename = "cacheWriteInputTokens")]
    cache_write_camel: Count,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
    reasoning_tokens: Count,
}

impl UsageWire {
    /// The counts in our terms: cached tokens are part of the input and reasoning of the output,
    /// which Anthropic, Bedrock, Gemini and xAI count apart.
    pub(super) fn usage(&self) -> Usage {
        let details = |details: &Option<Details>| {
            details.as_ref().map_or((0, 0), |d| (d.cached_tokens.0, d.reasoning_tokens.0))
        };
        if self.prompt_token_count.0 > 0 || self.candidates_token_count.0 > 0 {
            return self.gemini();
        }
        let cached_apart = self.cache_read_input_tokens.0.max(self.cache_read_camel.0);
        let written_apart = self.cache_creation_input_tokens.0.max(self.cache_write_camel.0);
        let (cached, _) = details(&self.prompt_tokens_details);
        let (cached_new, _) = details(&self.input_tokens_details);
        let (_, reasoned) = details(&self.completion_tokens_details);
        let (_, reasoned_new) = details(&self.output_tokens_details);
        let reasoning = reasoned.max(reasoned_new).max(self.reasoning_tokens.0);
        let native = self.prompt_tokens.0.max(self.completion_tokens.0) == 0;
        let (input, output) = if native {
            let apart = cached_apart.saturating_add(written_apart);
            let input = self.input_tokens.0.max(self.input_tokens_camel.0).saturating_add(apart);
            (input, self.output_tokens.0.max(self.output_tokens_camel.0))
        } else {
            let sum = self.prompt_tokens.0.saturating_add(self.completion_tokens.0);
            let apart = reasoning > 0 && sum.checked_add(reasoning) == Some(self.total_tokens.0);
            let extra = if apart { reasoning } else { 0 };
            (self.prompt_tokens.0, self.completion_tokens.0.saturating_add(extra))
        };
        Usage {
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: cached
                .max(cached_new)
                .max(cached_apart)
                .max(self.prompt_cache_hit_tokens.0),
            reasoning_tokens: reasoning,
        }
    }

    fn gemini(&self) -> Usage {
        let thoughts = self.thoughts_token_count.0;
        Usage {
            input_tokens: self
                .prompt_token_count
                .0
                .saturating_add(self.tool_use_prompt_token_count.0),
            output_tokens: self.candidates_token_count.0.saturating_add(thoughts),
            cached_input_tokens: self.cached_content_token_count.0,
            reasoning_tokens: thoughts,
        }
    }
}

/// The larger of each count: streams repeat and complete their counts from event to event.
pub(super) fn merge(usage: &mut Usage, news: Usage) {
    usage.input_tokens = usage.input_tokens.max(news.input_tokens);
    usage.output_tokens = usage.output_tokens.max(news.output_tokens);
    usage.cached_input_tokens = usage.cached_input_tokens.max(news.cached_input_tokens);
    usage.reasoning_tokens = usage.reasoning_tokens.max(news.reasoning_tokens);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, input: u64, output: u64, cached: u64, reasoning: u64) {
        let usage = serde_json::from_str::<UsageWire>(json).unwrap().usage();
        let expected = Usage {
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: cached,
            reasoning_tokens: reasoning,
        };
        assert_eq!(usage, expected, "{json}");
    }

    #[test]
    fn usage_in_every_form() {
        check(r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}"#, 11, 7, 0, 0);
        check(r#"{"prompt_tokens":11.0,"completion_tokens":"7","queue_time":0.3}"#, 11, 7, 0, 0);
        check(
            r#"{"prompt_tokens":9,"completion_tokens":256,"total_tokens":265,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":200}}"#,
            9,
            256,
            4,
            200,
        );
        check(
            r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":303,"completion_tokens_details":{"reasoning_tokens":290}}"#,
            12,
            291,
            0,
            290,
        );
        check(
            r#"{"input_tokens":12,"output_tokens":30,"cache_read_input_tokens":100,"cache_creation_input_tokens":5}"#,
            117,
            30,
            100,
            0,
        );
        check(
            r#"{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":3},"output_tokens_details":{"reasoning_tokens":2}}"#,
            10,
            5,
            3,
            2,
        );
        check(
            r#"{"promptTokenCount":20,"totalTokenCount":1043,"thoughtsTokenCount":1023}"#,
            20,
            1023,
            0,
            1023,
        );
        check(r#"{"inputTokens":22,"outputTokens":55,"totalTokens":77}"#, 22, 55, 0, 0);
        check(r#"{"prompt_tokens":null,"completion_tokens":-3}"#, 0, 0, 0, 0);
    }
}
