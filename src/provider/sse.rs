//! Server-sent events, decoded as the bytes come in.
//!
//! Network chunks end anywhere: inside a character, between CR and LF, before the second half of
//! the byte-order mark. The decoder therefore works on bytes and on whole lines, and looks at each
//! byte once, so that a sender of tiny chunks or endless lines costs linear time and bounded space.

/// Most bytes that one event may have.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// An event went over [`EVENT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {EVENT_BYTES_MAX} bytes")]
pub struct EventTooLarge;

/// One event: its name, `message` being written as empty, and its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The `event` field.
    pub name: String,
    /// The `data` lines, joined by line feeds.
    pub data: Vec<u8>,
}

/// The incremental decoder.
#[derive(Debug, Default)]
pub struct SseDecoder {
    /// The line that has not ended yet.
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a CR: an LF right after it belongs to the same line end.
    after_cr: bool,
    /// The first line is behind us, and with it the place of a byte-order mark.
    started: bool,
    failed: bool,
}

impl SseDecoder {
    /// Takes the next bytes and hands each event that they complete to `sink`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Event),
    ) -> Result<(), EventTooLarge> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.failed {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.bound(part.len())?;
            let Some((line_end, after)) = after.split_first() else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            self.after_cr = *line_end == b'\r';
            rest = after;
            if self.line.is_empty() {
                self.take_line(part, sink);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.take_line(&line, sink);
                line.clear();
                self.line = line;
            }
        }
        if self.failed { Err(EventTooLarge) } else { Ok(()) }
    }

    /// What a stream that ended without its last line end still held. The standard drops it; many
    /// servers forget the empty line, so it is for the caller to see whether it is whole.
    pub fn finish(mut self) -> Option<Event> {
        let mut last = None;
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, &mut |event| last = Some(event));
        }
        if last.is_none() && self.has_data {
            last = Some(self.event);
        }
        last
    }

    fn bound(&mut self, more: usize) -> Result<(), EventTooLarge> {
        let held = self.line.len().saturating_add(self.event.data.len());
        if held.saturating_add(more) > EVENT_BYTES_MAX {
            *self = Self { failed: true, ..Self::default() };
            return Err(EventTooLarge);
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], sink: &mut impl FnMut(Event)) {
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            return self.dispatch(sink);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.event.data.push(b'\n');
                }
                self.has_data = true;
                self.event.data.extend_from_slice(value);
            }
            b"event" => self.event.name = String::from_utf8_lossy(value).into_owned(),
            // Servers that fail in the middle of a stream write the bare error into it. The
            // standard ignores such a line; it is the only news of the failure that there is.
            _ if line.starts_with(b"{\"") && !self.has_data => {
                sink(Event { name: String::new(), data: line.to_vec() });
            }
            _ => (),
        }
    }

    fn dispatch(&mut self, sink: &mut impl FnMut(Event)) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            sink(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut decoder = SseDecoder::default();
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk, &mut |event| events.push(event)).unwrap();
        }
        events.extend(decoder.finish());
        events
            .into_iter()
            .map(|event| (event.name, String::from_utf8_lossy(&event.data).into_owned()))
            .collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let whole = decode(&[text.as_bytes()]);
        let found: Vec<_> = whole.iter().map(|(n, d)| (n.as_str(), d.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
        for at in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(decode(&[a, b]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(&bytes), whole, "byte by byte");
    }

    #[test]
    fn events_are_the_same_at_every_split() {
        check("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]);
        check("data:a\r\n\r\ndata: b\r\r", &[("", "a"), ("", "b")]);
        check("\u{feff}event: x\ndata: 1\ndata: 2\n\n", &[("x", "1\n2")]);
        check(": ping\n\nid: 3\nretry: 5\n\ndata: é\n\n", &[("", "é")]);
        check("event: x\n\ndata: y\n\n", &[("", "y")]);
        check("data\n\ndata:\n\n", &[("", ""), ("", "")]);
        check("data: 1\r\ndata: 2\r\n\r\n", &[("", "1\n2")]);
        check("event: x\rdata: 1\rdata: 2\r\r", &[("x", "1\n2")]);
        check("data: cut", &[("", "cut")]);
        check("data: a\n\n{\"error\":1}\n", &[("", "a"), ("", "{\"error\":1}")]);
        check("data:  two\n\n", &[("", " two")]);
    }

    #[test]
    fn an_event_over_the_limit_fails() {
        for (len, ok) in [(EVENT_BYTES_MAX, true), (EVENT_BYTES_MAX + 1, false)] {
            let mut decoder = SseDecoder::default();
            let mut result = Ok(());
            for _ in 0..len {
                result = result.and_then(|()| decoder.push(b"x", &mut |_| ()));
            }
            assert_eq!(result.is_ok(), ok);
        }
    }
}
