//! Names of exceptions of other libraries, and the causes that they stand for here.
//!
//! Existing configurations list what their client library raises for infrastructure errors. One
//! exception often covers several of our causes.

use crate::failure::FailureCause::{self, *};

/// Names in lower case without a module path or the endings `error` and `exception`.
const NAMES: &[(&[&str], &[FailureCause])] = &[
    (
        &["timeout", "timedout", "apitimeout", "deadlineexceeded", "sockettimeout", "etimedout"],
        &[ConnectTimeout, RequestTimeout, StreamIdleTimeout],
    ),
    (&["connecttimeout", "connectiontimeout", "pooltimeout"], &[ConnectTimeout]),
    (
        &["readtimeout", "writetimeout", "requesttimeout", "httptimeout", "modeltimeout"],
        &[RequestTimeout, StreamIdleTimeout],
    ),
    (&["gatewaytimeout"], &[RequestTimeout]),
    (
        &[
            "connection",
            "connect",
            "apiconnection",
            "clientconnector",
            "clientconnection",
            "network",
            "transport",
            "socket",
            "os",
            "io",
            "httpconnection",
            "newconnection",
        ],
        &[Connect, Dns, ConnectTimeout, StreamInterrupted],
    ),
    (&["connectionrefused", "econnrefused", "nohttpresponse"], &[Connect]),
    (
        &[
            "connectionreset",
            "connectionaborted",
            "brokenpipe",
            "econnreset",
            "epipe",
            "remotedisconnected",
            "serverdisconnected",
            "read",
            "eof",
        ],
        &[Connect, StreamInterrupted],
    ),
    (&["gai", "dns", "unknownhost", "enotfound", "eai_again", "nameresolution", "herror"], &[Dns]),
    (&["ssl", "tls", "sslhandshake", "certificate", "sslcertverification"], &[Tls]),
    (
        &[
            "ratelimit",
            "ratelimited",
            "toomanyrequests",
            "throttling",
            "throttled",
            "resourceexhausted",
        ],
        &[RateLimited],
    ),
    (
        &[
            "overloaded",
            "serviceunavailable",
            "unavailable",
            "serveroverloaded",
            "modelnotready",
            "capacity",
        ],
        &[Overloaded],
    ),
    (
        &[
            "internalserver",
            "server",
            "internal",
            "api",
            "apistatus",
            "httpstatus",
            "http",
            "modelerror",
        ],
        &[ServerError, BadGateway, Overloaded],
    ),
    (&["badgateway"], &[BadGateway]),
    (
        &["remoteprotocol", "protocol", "incompleteread", "chunkedencoding", "clientpayload"],
        &[StreamInterrupted, MalformedResponse],
    ),
    (&["apiresponsevalidation", "contenttype"], &[MalformedResponse]),
    (&["insufficientquota", "quotaexceeded", "billing"], &[QuotaExhausted]),
    (&["conflict"], &[Conflict]),
    (&["circuitbreaker", "circuitopen", "brokencircuit", "callnotpermitted"], &[CircuitOpen]),
    (&["bulkheadfull", "bulkheadrejected"], &[BulkheadFull]),
    (&["contextwindowexceeded", "contextlengthexceeded"], &[ContextLengthExceeded]),
    (&["contentpolicyviolation", "contentfilter", "contentfiltered"], &[ContentFiltered]),
    (&["badrequest", "invalidrequest", "value", "unprocessableentity"], &[InvalidRequest]),
    (&["unsupportedparams"], &[UnsupportedParameter]),
    (&["jsondecode", "jsonparse", "outputparser"], &[MalformedJson]),
    (&["validation", "schemavalidation", "jsonschemavalidation"], &[SchemaMismatch]),
    (&["authentication", "unauthorized", "autherror"], &[Authentication]),
    (&["permissiondenied", "permission", "forbidden"], &[PermissionDenied]),
    (&["notfound", "modelnotfound"], &[ModelNotFound]),
];

/// The causes behind an exception's name; none if it means nothing here.
pub(super) fn causes(name: &str) -> Option<&'static [FailureCause]> {
    if let Some(own) = FailureCause::ALL.iter().find(|cause| cause.name() == name) {
        return Some(std::slice::from_ref(own));
    }
    let plain = plain(name);
    NAMES.iter().find(|(names, _)| names.contains(&plain.as_str())).map(|(_, causes)| *causes)
}

/// `httpx.ReadTimeout`, `java.net.SocketTimeoutException`, `Read-Timeout` without what varies.
fn plain(name: &str) -> String {
    let last = name.rsplit(['.', ':', '/', '\\']).next().unwrap_or(name);
    let folded: String = last
        .chars()
        .filter(|c| !matches!(c, '-' | ' ') && (*c != '_' || last.starts_with("EAI_")))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    ["exception", "error"]
        .iter()
        .find_map(|ending| folded.strip_suffix(ending).filter(|stem| !stem.is_empty()))
        .map_or(folded.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_libraries_in_use() {
        let check = |name, expected: Option<&[FailureCause]>| {
            assert_eq!(causes(name), expected, "{name}");
        };
        check("openai.RateLimitError", Some(&[RateLimited]));
        check("litellm.exceptions.ServiceUnavailableError", Some(&[Overloaded]));
        check("httpx.ReadTimeout", Some(&[RequestTimeout, StreamIdleTimeout]));
        check("asyncio.TimeoutError", Some(&[ConnectTimeout, RequestTimeout, StreamIdleTimeout]));
        check("java.net.UnknownHostException", Some(&[Dns]));
        check("ConnectionResetError", Some(&[Connect, StreamInterrupted]));
        check("socket.gaierror", Some(&[Dns]));
        check("EAI_AGAIN", Some(&[Dns]));
        check("bad_gateway", Some(&[BadGateway]));
        check("ZeroDivisionError", None);
        check("Error", None);
        check("", None);
    }

    #[test]
    fn no_name_stands_twice() {
        let mut all: Vec<_> = NAMES.iter().flat_map(|(names, _)| *names).collect();
        all.sort();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
