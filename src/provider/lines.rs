//! One JSON value a line, as Ollama streams.

use super::sse::{EVENT_BYTES_MAX, Event, EventTooLarge};

/// The incremental decoder.
#[derive(Debug, Default)]
pub struct LineDecoder {
    line: Vec<u8>,
    failed: bool,
}

impl LineDecoder {
    /// Takes the next bytes and hands each line that they complete to `sink`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Event),
    ) -> Result<(), EventTooLarge> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.failed || self.line.len().saturating_add(part.len()) > EVENT_BYTES_MAX {
                self.failed = true;
                return Err(EventTooLarge);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n")
                && let Some(event) = self.take()
            {
                sink(event);
            }
        }
        Ok(())
    }

    /// The last line, if it has no line end.
    pub fn finish(mut self) -> Option<Event> {
        self.take()
    }

    fn take(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        // A proxy that knows event streams only may have rewritten the lines as one.
        let data = line.strip_prefix(b"data:").unwrap_or(line).trim_ascii().to_vec();
        (!data.is_empty()).then(|| Event { name: String::new(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_at_every_split() {
        let text = b"{\"a\":1}\r\n\n{\"b\":2}\n{\"c\":3}";
        for at in 0..=text.len() {
            let (head, tail) = text.split_at(at);
            let mut lines = Vec::new();
            let mut decoder = LineDecoder::default();
            decoder.push(head, &mut |event| lines.push(event.data)).unwrap();
            decoder.push(tail, &mut |event| lines.push(event.data)).unwrap();
            lines.extend(decoder.finish().map(|event| event.data));
            assert_eq!(lines, [b"{\"a\":1}", b"{\"b\":2}", b"{\"c\":3}"]);
        }
    }
}
