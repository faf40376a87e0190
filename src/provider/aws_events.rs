//! The binary framing of AWS event streams.
//!
//! A message is its length, the length of its headers, a checksum of both, the headers, the
//! payload, and a checksum of all. Exceptions are messages too, named by a header; a client that
//! looks at payloads only takes them for empty events.

use super::sse::{EVENT_BYTES_MAX, Event};

const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// The stream is not in this framing, or a message of it is damaged or too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of the event stream is damaged")]
pub struct DamagedMessage;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An event, named by `:event-type`.
    Event(Event),
    /// A failure, named by `:exception-type` or `:error-code`.
    Exception(Event),
}

/// The incremental decoder.
#[derive(Debug, Default)]
pub struct AwsDecoder {
    held: Vec<u8>,
}

impl AwsDecoder {
    /// Takes the next bytes and hands each message that they complete to `sink`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Message),
    ) -> Result<(), DamagedMessage> {
        self.held.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(rest) = self.held.get(start..).filter(|rest| rest.len() >= PRELUDE_BYTES) {
            let total = number(rest, 0)?;
            let overhead = PRELUDE_BYTES + CHECKSUM_BYTES;
            if total < overhead || total > EVENT_BYTES_MAX + overhead {
                return Err(DamagedMessage);
            }
            let prelude = rest.get(..8).ok_or(DamagedMessage)?;
            if usize::try_from(crc32(prelude)) != Ok(number(rest, 8)?) {
                return Err(DamagedMessage);
            }
            let Some(message) = rest.get(..total) else { break };
            sink(parse(message)?);
            start += total;
        }
        self.held.drain(..start);
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Result<usize, DamagedMessage> {
    let word: [u8; 4] =
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).ok_or(DamagedMessage)?;
    usize::try_from(u32::from_be_bytes(word)).map_err(|_| DamagedMessage)
}

fn parse(message: &[u8]) -> Result<Message, DamagedMessage> {
    let headers_end = PRELUDE_BYTES.checked_add(number(message, 4)?).ok_or(DamagedMessage)?;
    let body_end = message.len() - CHECKSUM_BYTES;
    let summed = message.get(..body_end).ok_or(DamagedMessage)?;
    if usize::try_from(crc32(summed)) != Ok(number(message, body_end)?) {
        return Err(DamagedMessage);
    }
    let mut headers = message.get(PRELUDE_BYTES..headers_end).ok_or(DamagedMessage)?;
    let data = message.get(headers_end..body_end).ok_or(DamagedMessage)?.to_vec();
    let (mut name, mut failed) = (String::new(), false);
    while !headers.is_empty() {
        let (key, value, rest) = header(headers).ok_or(DamagedMessage)?;
        match key {
            b":event-type" if !failed => name = String::from_utf8_lossy(value).into_owned(),
            b":exception-type" | b":error-code" => {
                failed = true;
                name = String::from_utf8_lossy(value).into_owned();
            }
            _ => (),
        }
        headers = rest;
    }
    let event = Event { name, data };
    Ok(if failed { Message::Exception(event) } else { Message::Event(event) })
}

/// The first header's name, value, and what follows it.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let (kind, rest) = rest.split_first()?;
    let (len, rest) = match kind {
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 | 8 => (8, rest),
        9 => (16, rest),
        6 | 7 => {
            let (len, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_be_bytes(len.try_into().ok()?)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(len)?;
    Some((name, value, rest))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32 as of zip and PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let index = (crc ^ u32::from(*byte)) & 0xFF;
        (crc >> 8) ^ CRC_TABLE[index as usize]
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn noise_is_damage() {
        let mut decoder = AwsDecoder::default();
        assert_eq!(decoder.push(b"data: not this framing", &mut |_| ()), Err(DamagedMessage));
        assert_eq!(AwsDecoder::default().push(b"\0\0", &mut |_| ()), Ok(()));
    }
}
