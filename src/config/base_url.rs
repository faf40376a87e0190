//! Where a target is: the one place where an address comes from.
//!
//! A base URL decides who gets our keys and our callers' texts, so only what can be read in one way
//! is taken. Hosts that are numbers in disguise (`127.1`, `0x7f000001`), user names, fragments and
//! escapes have all been used to make a gateway call something else than its operator read.

use std::net::IpAddr;

use http::Uri;

use crate::provider::address::address_allowed;

/// What an operator has to say before an unusual address is called.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowed {
    /// Plain HTTP to another machine.
    pub(super) plaintext: bool,
    /// Addresses of private networks.
    pub(super) private: bool,
}

/// Checks a base URL; gives it back without trailing slashes.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn check(url: &str, allowed: Allowed) -> Result<String, Vec<&'static str>> {
    let mut wrong = Vec::new();
    let clean = |c: char| c.is_ascii_graphic();
    if url.is_empty() || !url.chars().all(clean) || url.contains(['\\', '%', '"', '<', '>']) {
        return Err(vec!["is not a URL: it may hold neither blanks, escapes nor other alphabets"]);
    }
    // The parser drops fragments without a word.
    if url.contains(['#', '?']) {
        return Err(vec!["must not hold a query or a fragment; use `query`"]);
    }
    let url = url.trim_end_matches('/');
    let Ok(parsed) = url.parse::<Uri>() else {
        return Err(vec!["is not a URL"]);
    };
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err(vec!["needs a scheme and a host, https://api.example.com/v1 for example"]);
    };
    if authority.as_str().contains('@') {
        wrong.push("must not hold a user name or password");
    }
    if parsed.path().split('/').any(|segment| segment == ".." || segment == ".") {
        wrong.push("must not hold `.` or `..` in its path");
    }
    if !port_is_usable(authority.as_str(), authority.port_u16()) {
        wrong.push("has a port that no model listens on");
    }
    let host = host_of(authority.host());
    match host {
        Host::Disguised => wrong.push("has a host that is neither a name nor a plain IP address"),
        Host::Private if !allowed.private => {
            wrong.push("is an address of a private network; say `private: true` if that is meant");
        }
        Host::Private | Host::Loopback | Host::Public => {}
    }
    match scheme {
        "https" => {}
        "http" if allowed.plaintext || matches!(host, Host::Loopback) => {}
        "http" => {
            wrong.push(
                "is plain HTTP to another machine; use https, or say `allow_plaintext: true`",
            );
        }
        _ => wrong.push("has a scheme that is not called; use https"),
    }
    if wrong.is_empty() { Ok(url.to_owned()) } else { Err(wrong) }
}

fn port_is_usable(authority: &str, port: Option<u16>) -> bool {
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    let written = after_host.contains(':');
    match port {
        Some(port) => !matches!(port, 0 | 22 | 25),
        None => !written,
    }
}

enum Host {
    Public,
    Private,
    Loopback,
    Disguised,
}

fn host_of(host: &str) -> Host {
    let literal = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    };
    if let Some(ip) = literal {
        return match ip {
            ip if ip.is_loopback() => Host::Loopback,
            ip if address_allowed(ip) => Host::Public,
            _ => Host::Private,
        };
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Host::Loopback;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Resolvers read hosts whose last label is a number as addresses: 127.1, 0x7f000001, 0177.0.0.1.
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || last.to_ascii_lowercase().strip_prefix("0x").is_some();
    if host.len() > 253 || number || !host.split('.').all(label) {
        return Host::Disguised;
    }
    let internal = host.to_ascii_lowercase();
    if internal == "metadata.google.internal" || internal.ends_with(".localhost") {
        return Host::Private;
    }
    Host::Public
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_urls_are_taken() {
        for (url, expected) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.example.com:8443/", "https://api.example.com:8443"),
            ("http://localhost:11434/v1//", "http://localhost:11434/v1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:1/x", "http://[::1]:1/x"),
            ("https://my_host.internal", "https://my_host.internal"),
            ("https://8.8.8.8/v1", "https://8.8.8.8/v1"),
        ] {
            assert_eq!(check(url, Allowed::default()).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn hostile_urls_are_refused_whatever_is_allowed() {
        let all = Allowed { plaintext: true, private: true };
        for url in [
            "",
            "x",
            "//x",
            "/v1",
            "https://",
            "https:///v1",
            "ftp://x.org/",
            "file:///etc/passwd",
            "gopher://x.org",
            "https://api.openai.com@evil.org/",
            "https://a:b@evil.org",
            "https://evil.org#.openai.azure.com",
            "https://a.org/?k=v",
            "https://a.org/v1?",
            "http://127.1/",
            "http://0/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.0.0.1.",
            "https://example.org./",
            "https://a..b/",
            "https://a.org:0/",
            "https://a.org:22/",
            "https://a.org:99999/",
            "https://a.org:/v1",
            "https://a.org/%00",
            "https://a%2eorg/",
            "https://a.org/ b",
            "https://a\t.org",
            "https://a.org\n",
            "https://ａ.org",
            "http://１２７.0.0.1/",
            "https://a.org/../b",
            "https://-a.org",
            "https://[::1",
            "https://[1.2.3.4]/",
            "https://a.org\\@b.org",
        ] {
            assert!(check(url, all).is_err(), "{url:?}");
        }
    }

    #[test]
    fn private_networks_and_plain_http_have_to_be_said() {
        let none = Allowed::default();
        let private = Allowed { private: true, ..none };
        for host in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.170.2",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fec0::1]",
            "[::]",
            "[2002:7f00:1::]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:7f00:1]",
            "metadata.google.internal",
            "MetaData.Google.Internal",
        ] {
            let url = format!("https://{host}/v1");
            assert!(check(&url, none).is_err(), "{url}");
            assert!(check(&url, private).is_ok(), "{url}");
        }
        let plain = "http://models.example.com/v1";
        assert!(check(plain, none).is_err());
        assert!(check(plain, Allowed { plaintext: true, ..none }).is_ok());
        assert_eq!(check("http://10.0.0.1/v1", none).unwrap_err().len(), 2);
    }
}
