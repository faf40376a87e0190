//! Text that may leave: bounded and printable.

/// Cuts a sentence to what a gRPC status message may hold: at most 256 bytes of printable ASCII.
/// Other characters become `?`, so that no client library has to guess an encoding.
pub fn status_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(256));
    for c in text.chars() {
        if out.len() == 256 {
            out.truncate(253);
            out.push_str("...");
            break;
        }
        out.push(if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::status_message;

    #[test]
    fn bounded_and_printable() {
        assert_eq!(status_message("a\r\nX: y\u{1b}[2Jé"), "a??X: y?[2J?");
        assert_eq!(status_message(&"x".repeat(300)).len(), 256);
    }
}
