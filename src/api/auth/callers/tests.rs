use super::*;
use crate::config::secret;

fn hex(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(text: &str, dir: &Path) -> Result<Callers, String> {
    Callers::read("callers.yaml", text, dir, &secret::fetch).map_err(|found| found.to_string())
}

fn name_of(callers: &Callers, token: &str) -> Option<String> {
    callers.by_token(token.as_bytes()).map(|identity| identity.name.to_string())
}

#[test]
fn tokens_by_digest_and_by_reference() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ops.token"), "ops-token-0123456789\n").unwrap();
    let text = format!(
        "callers:\n\
         - {{name: checkout, tenant: shop, roles: [runner], tokens: [{{sha256: {}}}, {{sha256: {}}}]}}\n\
         - {{name: ops, roles: [operator, viewer], tokens: [{{file: ops.token}}]}}\n",
        hex("checkout-old-token"),
        hex("checkout-new-token").to_uppercase(),
    );
    let callers = read(&text, dir.path()).unwrap();
    for token in ["checkout-old-token", "checkout-new-token"] {
        let identity = callers.by_token(token.as_bytes()).unwrap();
        assert_eq!((&*identity.name, &*identity.tenant), ("checkout", "shop"));
        assert_eq!(identity.roles.to_string(), "runner");
    }
    let ops = callers.by_token(b"ops-token-0123456789").unwrap();
    assert_eq!((&*ops.tenant, ops.roles.to_string().as_str()), ("default", "viewer, operator"));
    for wrong in ["", "checkout-old-toke", "checkout-old-token ", "Checkout-old-token"] {
        assert_eq!(name_of(&callers, wrong), None, "{wrong}");
    }
    // What is stored does not log in.
    assert_eq!(name_of(&callers, &hex("checkout-old-token")), None);
    let before = callers.tokens_elsewhere();
    assert!(before.is_some() && read(&text, dir.path()).unwrap().tokens_elsewhere() == before);
    std::fs::write(dir.path().join("ops.token"), "ops-token-of-another-day").unwrap();
    assert_ne!(read(&text, dir.path()).unwrap().tokens_elsewhere(), before);
    assert!(read("callers: []", dir.path()).unwrap().by_token(b"x").is_none());
}

#[test]
fn a_long_common_prefix_is_no_identity() {
    let prefix = "p".repeat(100);
    let (one, two) = (format!("{prefix}-one"), format!("{prefix}-two"));
    let text = format!(
        "callers:\n- {{name: one, roles: [runner], tokens: [{{sha256: {}}}]}}\n\
         - {{name: two, roles: [author], tokens: [{{sha256: {}}}]}}\n",
        hex(&one),
        hex(&two)
    );
    let callers = read(&text, Path::new(".")).unwrap();
    assert_eq!(name_of(&callers, &one).as_deref(), Some("one"));
    assert_eq!(name_of(&callers, &two).as_deref(), Some("two"));
    assert_eq!(name_of(&callers, &prefix), None);
    assert_eq!(name_of(&callers, &format!("{prefix}-three")), None);
}

#[test]
fn certificates_by_exact_name() {
    let text = "callers:\n\
        - {name: a, roles: [runner], certificates: ['spiffe://example.org/a', A.example.org]}\n\
        - {name: b, roles: [runner], certificates: [b.example.org]}\n";
    let callers = read(text, Path::new(".")).unwrap();
    let name = |names: &[&str]| {
        callers.by_names(names.iter().copied()).map(|identity| identity.name.to_string())
    };
    assert_eq!(name(&["spiffe://example.org/a"]).as_deref(), Some("a"));
    assert_eq!(name(&["x.example.org", "a.example.org"]).as_deref(), Some("a"));
    assert_eq!(name(&["spiffe://example.org/a", "a.example.org"]).as_deref(), Some("a"));
    for nobody in [
        &["spiffe://example.org/a/b"][..],
        &["spiffe://EXAMPLE.org/a"],
        &["sub.a.example.org"],
        &["*.example.org"],
        &[],
        &["a.example.org", "b.example.org"],
    ] {
        assert_eq!(name(nobody), None, "{nobody:?}");
    }
}

#[test]
fn every_mistake_at_once_and_no_secret_in_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("short"), "canary-short").unwrap();
    std::fs::write(dir.path().join("two words"), "canary two words of it").unwrap();
    let text = format!(
        "callers:\n\
         - name: ''\n  roles: []\n\
         - name: twice\n  tenant: 'a b'\n  roles: [runner]\n  tokens: [{{sha256: canary-raw-token}}, {{file: short}}]\n\
         - name: twice\n  roles: [runner]\n  tokens: [{{sha256: {0}}}, {{sha256: {0}}}, {{file: 'two words'}}, {{file: missing}}]\n\
         - name: wild\n  roles: [viewer]\n  certificates: ['*.example.org', ok.example.org, OK.example.org]\n",
        hex("some-token-of-somebody")
    );
    let told = read(&text, dir.path()).err().unwrap().replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(told);
    assert!(!told.contains("canary"), "{told}");
    for broken in [
        "callers: [{name: a, roles: [runner], tokens: [canary-token]}]",
        "callers: [{name: a, roles: [runner], tokens: [{sha256: 1, file: canary}]}]",
        "callers: [{name: a, roles: [runner], tokens: [{sha257: canary}]}]",
        "callers: [{name: a, roles: [runner], tokens: [{canary: x}]}]",
        "callers: [{name: a, tokens: {canary",
        "canary-token",
    ] {
        let told = read(broken, Path::new(".")).err().unwrap();
        assert!(!told.contains("canary"), "{broken}: {told}");
    }
    let told = read("callers: [{name: a, roles: [admin]}]", Path::new(".")).err().unwrap();
    assert!(told.contains("`admin` is not one of: runner, viewer, author, operator"), "{told}");
}
