//! The policies that are pushed.
use std::fmt::Write as _;

/// Without a wait worth the name, so that latencies are the service's.
const ROUTING: &str = "routing: {infrastructure: {ladder: [{retry_with_backoff: {attempts: 20, backoff: {base: 1ms, max: 2ms}}}, alert_and_degrade]}}";

/// A policy with one override, named after the version that it becomes.
pub fn marked(version: u64) -> String {
    format!(
        "policy:\n  retry_budget: {{ratio: 1, floor_per_second: 1000}}\n  overrides:\n    - {{name: mark-{version}, when: \"true\", {ROUTING}}}\n"
    )
}

/// The same after this many overrides that do not apply.
pub fn ruled(version: u64, rules: usize) -> String {
    let mut text = String::from("policy:\n  retry_budget: {ratio: 1, floor_per_second: 1000}\n  overrides:\n");
    for rule in 0..rules {
        let when = match rule % 4 {
            0 => format!("step == 'step-{rule}' && failure.cause == 'rate_limited'"),
            1 => format!("labels.tenant == 'tenant-{rule}' && attempt > 1"),
            2 => format!("failure.provider_code in ['code-{rule}', 'other-{rule}']"),
            _ => format!("target == 'target-{rule}' && pipeline == 'invoices'"),
        };
        let _ = writeln!(text, "    - {{name: r{rule}, when: \"{when}\", routing: {{infrastructure: {{ladder: [fallback_to_target, alert_and_degrade]}}}}}}");
    }
    let _ = writeln!(text, "    - {{name: mark-{version}, when: \"true\", {ROUTING}}}");
    text
}
