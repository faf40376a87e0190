//! What a provider's machine words mean: error codes, types, reasons and exception names.
//!
//! Spelling differs (`rate_limit_exceeded`, `RateLimitExceeded`, `rate-limited`) where meaning does
//! not, so words are compared without case and separators, and mostly by the part that carries the
//! meaning. Words that providers put on anything (`invalid_request_error`, `BadRequestError`,
//! `RESOURCE_EXHAUSTED`) mean no more than the status that goes with them.

use super::FailureCause::{self, *};

/// What one machine word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This cause, whatever the status and the text say.
    Sure(FailureCause),
    /// An allowance is used up, unless its period turns out to be shorter than a day.
    Allowance,
    /// As if the status were this one; the text may still refine it.
    Like(u16),
    /// As [`Meaning::Like`], but so generic that any real error status knows better.
    InBandLike(u16),
}

use Meaning::{Allowance, InBandLike, Like, Sure};

/// The word in lower case without anything but letters and digits.
pub(super) fn normalise(word: &str) -> String {
    word.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .take(96)
        .collect()
}

/// The meaning of a normalised word; `None` for words that say nothing.
pub(super) fn meaning(word: &str) -> Option<Meaning> {
    exact(word).or_else(|| PARTS.iter().find(|(part, _)| word.contains(part)).map(|(_, m)| *m))
}

/// Words whose meaning their parts would get wrong.
fn exact(word: &str) -> Option<Meaning> {
    Some(match word {
        "unsupportedcountryregionterritory"
        | "requestforbidden"
        | "userprojectdenied"
        | "apikeyserviceblocked"
        | "servicedisabled"
        | "accessdeniedunpurchased" => Sure(PermissionDenied),
        "unsupportedmediatype" => Like(415),
        "invalidprompt" | "blockedbyguardrails" => Sure(ContentFiltered),
        "incompletegenerationstream" => Sure(StreamInterrupted),
        "faileddependency" => Sure(BadGateway),
        "jsonvalidatefailed" | "outputparsefailed" => Sure(MalformedJson),
        "toolusefailed" => Sure(SchemaMismatch),
        "servicequotaexceededexception" | "limitexceededexception" => Allowance,
        "tokenslimitreached" | "exceedcontextsizeerror" => Sure(ContextLengthExceeded),
        "unavailable"
        | "unavailableerror"
        | "serviceunavailable"
        | "serviceunavailableerror"
        | "serviceunavailableexception" => Like(503),
        "notfound" | "notfounderror" | "resourcenotfoundexception" => Like(404),
        "permissiondenied"
        | "permissiondeniederror"
        | "permissionerror"
        | "forbidden"
        | "forbiddenerror"
        | "accessdenied"
        | "accessdeniedexception" => Like(403),
        "unauthorized" | "unauthorizederror" => Like(401),
        "unimplemented" => InBandLike(501),
        "resourceexhausted" => InBandLike(429),
        "cancelled" | "canceled" => InBandLike(499),
        "aborted" | "alreadyexists" | "conflict" => InBandLike(409),
        "internal"
        | "unknown"
        | "dataloss"
        | "apierror"
        | "servererror"
        | "generation"
        | "incompletegeneration"
        | "backenderror"
        | "generationerror" => InBandLike(500),
        "badgateway" | "providererror" | "upstreamerror" => InBandLike(502),
        "invalidargument"
        | "failedprecondition"
        | "outofrange"
        | "badrequest"
        | "badrequesterror"
        | "invalidrequest"
        | "invalidrequesterror"
        | "validation"
        | "validationerror"
        | "validationexception"
        | "invalidparameter"
        | "missing" => InBandLike(400),
        _ => return None,
    })
}

/// Parts of words, the more telling ones first.
const PARTS: &[(&str, Meaning)] = &[
    // Validation codes that name a bound: "string_above_max_length" is not about the window.
    ("abovemax", Sure(InvalidRequest)),
    ("belowmin", Sure(InvalidRequest)),
    ("invalidfunctionparameters", Sure(InvalidRequest)),
    ("missingrequired", Sure(InvalidRequest)),
    ("previousresponsenotfound", Sure(InvalidRequest)),
    ("imageparseerror", Sure(InvalidRequest)),
    ("invalidimage", Sure(InvalidRequest)),
    ("contextlength", Sure(ContextLengthExceeded)),
    ("contextwindow", Sure(ContextLengthExceeded)),
    ("contextsize", Sure(ContextLengthExceeded)),
    ("contextoverflow", Sure(ContextLengthExceeded)),
    ("contexttoolong", Sure(ContextLengthExceeded)),
    ("maxcontext", Sure(ContextLengthExceeded)),
    ("prompttoolong", Sure(ContextLengthExceeded)),
    ("inputtoolong", Sure(ContextLengthExceeded)),
    ("contentfilter", Sure(ContentFiltered)),
    ("contentpolicy", Sure(ContentFiltered)),
    ("contentmoderation", Sure(ContentFiltered)),
    ("contentblocked", Sure(ContentFiltered)),
    ("contentsafety", Sure(ContentFiltered)),
    ("policyviolation", Sure(ContentFiltered)),
    ("moderation", Sure(ContentFiltered)),
    ("guardrail", Sure(ContentFiltered)),
    ("safetyviolation", Sure(ContentFiltered)),
    ("safetysystem", Sure(ContentFiltered)),
    ("datainspection", Sure(ContentFiltered)),
    ("inappropriatecontent", Sure(ContentFiltered)),
    ("sensitivecontent", Sure(ContentFiltered)),
    ("sensitivewords", Sure(ContentFiltered)),
    ("insufficientquota", Sure(QuotaExhausted)),
    ("insufficientbalance", Sure(QuotaExhausted)),
    ("insufficientcredit", Sure(QuotaExhausted)),
    ("insufficientfund", Sure(QuotaExhausted)),
    ("insufficientuserquota", Sure(QuotaExhausted)),
    ("exceededcurrentquota", Sure(QuotaExhausted)),
    ("notenoughbalance", Sure(QuotaExhausted)),
    ("outofcredit", Sure(QuotaExhausted)),
    ("creditbalance", Sure(QuotaExhausted)),
    ("creditsexhausted", Sure(QuotaExhausted)),
    ("billing", Sure(QuotaExhausted)),
    ("paymentrequired", Sure(QuotaExhausted)),
    ("arrear", Sure(QuotaExhausted)),
    ("overdue", Sure(QuotaExhausted)),
    ("budgetexceeded", Sure(QuotaExhausted)),
    ("exceededbudget", Sure(QuotaExhausted)),
    ("spendlimit", Sure(QuotaExhausted)),
    ("spendinglimit", Sure(QuotaExhausted)),
    ("dailylimit", Sure(QuotaExhausted)),
    ("monthlylimit", Sure(QuotaExhausted)),
    ("weeklylimit", Sure(QuotaExhausted)),
    ("freetieronly", Sure(QuotaExhausted)),
    ("usagelimit", Allowance),
    ("quotaexceeded", Allowance),
    ("quotaexhausted", Allowance),
    ("quotaviolation", Allowance),
    ("overload", Sure(Overloaded)),
    ("capacity", Sure(Overloaded)),
    ("serverbusy", Sure(Overloaded)),
    ("enginebusy", Sure(Overloaded)),
    ("modelbusy", Sure(Overloaded)),
    ("modelnotready", Sure(Overloaded)),
    ("modelloading", Sure(Overloaded)),
    ("queuefull", Sure(Overloaded)),
    ("ratelimit", Like(429)),
    ("ratequota", Like(429)),
    ("toomanyrequest", Like(429)),
    ("throttl", Like(429)),
    ("concurrencylimit", Like(429)),
    ("requesttoolarge", Sure(RequestTooLarge)),
    ("payloadtoolarge", Sure(RequestTooLarge)),
    ("entitytoolarge", Sure(RequestTooLarge)),
    ("filetoolarge", Sure(RequestTooLarge)),
    ("imagetoolarge", Sure(RequestTooLarge)),
    ("requestentitytoolarge", Sure(RequestTooLarge)),
    ("timeout", Sure(RequestTimeout)),
    ("timedout", Sure(RequestTimeout)),
    ("deadlineexceeded", Sure(RequestTimeout)),
    ("modelnotfound", Sure(ModelNotFound)),
    ("modelnotexist", Sure(ModelNotFound)),
    ("modelnotsupported", Sure(ModelNotFound)),
    ("modeldecommissioned", Sure(ModelNotFound)),
    ("modeldeprecated", Sure(ModelNotFound)),
    ("modelnotavailable", Sure(ModelNotFound)),
    ("modelnotopen", Sure(PermissionDenied)),
    ("modelaccessdenied", Sure(PermissionDenied)),
    ("nosuchmodel", Sure(ModelNotFound)),
    ("unknownmodel", Sure(ModelNotFound)),
    ("unsupportedmodel", Sure(ModelNotFound)),
    ("invalidmodel", Sure(ModelNotFound)),
    ("deploymentnotfound", Sure(ModelNotFound)),
    ("invalidendpointormodel", Sure(ModelNotFound)),
    ("invalidapikey", Sure(Authentication)),
    ("incorrectapikey", Sure(Authentication)),
    ("apikeyinvalid", Sure(Authentication)),
    ("apikeyexpired", Sure(Authentication)),
    ("apikeynotfound", Sure(Authentication)),
    ("missingapikey", Sure(Authentication)),
    ("mismatchedorganization", Sure(Authentication)),
    ("unauthenticated", Sure(Authentication)),
    ("authentication", Sure(Authentication)),
    ("authfail", Sure(Authentication)),
    ("invalidauth", Sure(Authentication)),
    ("credentialsmissing", Sure(Authentication)),
    ("accesstokenexpired", Sure(Authentication)),
    ("expiredtoken", Sure(Authentication)),
    ("tokenexpired", Sure(Authentication)),
    ("invalidtoken", Sure(Authentication)),
    ("unrecognizedclient", Sure(Authentication)),
    ("invalidclienttokenid", Sure(Authentication)),
    ("invalidsignature", Sure(Authentication)),
    ("signaturedoesnotmatch", Sure(Authentication)),
    ("incompletesignature", Sure(Authentication)),
    ("scopeinsufficient", Sure(PermissionDenied)),
    ("unsupported", Sure(UnsupportedParameter)),
    ("notsupported", Sure(UnsupportedParameter)),
    ("unknownparameter", Sure(UnsupportedParameter)),
    ("extraforbidden", Sure(UnsupportedParameter)),
    ("idempotency", InBandLike(409)),
    ("conflictexception", InBandLike(409)),
    ("modelerror", InBandLike(500)),
    ("modelstreamerror", InBandLike(500)),
    ("internalserver", InBandLike(500)),
    ("internalerror", InBandLike(500)),
    ("internalfailure", InBandLike(500)),
];

/// MiniMax's status inside a 200, recognisable by its member `base_resp`.
pub(super) fn minimax(code: i64) -> Option<Meaning> {
    Some(match code {
        0 => return None,
        1001 => Sure(RequestTimeout),
        1002 | 1039 | 1041 | 2045 => Like(429),
        1004 | 2049 => Sure(Authentication),
        1008 => Sure(QuotaExhausted),
        2056 => Sure(QuotaExhausted),
        1026 | 1027 => Sure(ContentFiltered),
        1042 | 2013 => Like(400),
        2061 => Sure(PermissionDenied),
        _ => InBandLike(500),
    })
}

/// Zhipu's own numbers; others use the same numbers for other things.
pub(super) fn zhipu(code: &str) -> Option<Meaning> {
    Some(match code {
        "1000" | "1001" | "1002" | "1003" | "1004" => Sure(Authentication),
        "1110" | "1111" | "1112" | "1120" | "1121" => Like(403),
        "1113" | "1304" | "1308" | "1309" | "1310" => Sure(QuotaExhausted),
        "1211" | "1212" | "1221" | "1222" => Sure(ModelNotFound),
        "1220" | "1311" | "1313" => Sure(PermissionDenied),
        "1210" | "1213" | "1214" | "1215" => Like(400),
        "1230" | "1234" | "500" => InBandLike(500),
        "1261" => Sure(ContextLengthExceeded),
        "1300" | "1301" => Sure(ContentFiltered),
        "1302" | "1303" => Like(429),
        "1305" | "1312" => Sure(Overloaded),
        _ => return None,
    })
}

/// Whether the provider is Zhipu under one of the names in use.
pub(super) fn is_zhipu(provider: &str) -> bool {
    matches!(provider, "zhipu" | "zhipuai" | "zai" | "z.ai" | "z_ai" | "bigmodel" | "glm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: Option<Meaning>) {
        for word in words {
            assert_eq!(meaning(&normalise(word)), expected, "{word}");
        }
    }

    #[test]
    fn spelling_does_not_matter() {
        check(&["rate_limit_exceeded", "RateLimitError", "Throttling.RateQuota"], Some(Like(429)));
        check(
            &["CONTEXT_LENGTH_EXCEEDED", "ContextWindowExceededError"],
            Some(Sure(ContextLengthExceeded)),
        );
        check(&["API_KEY_INVALID", "invalid-api-key"], Some(Sure(Authentication)));
        check(&["unsupported_value", "not_supported_error"], Some(Sure(UnsupportedParameter)));
        check(&["unsupported_country_region_territory"], Some(Sure(PermissionDenied)));
        check(&["insufficient_quota", "Arrearage", "billing_error"], Some(Sure(QuotaExhausted)));
        check(&["string_above_max_length"], Some(Sure(InvalidRequest)));
        check(&["overloaded_error", "MODEL_CAPACITY_EXHAUSTED"], Some(Sure(Overloaded)));
        check(&["tokens", "requests", "error", ""], None);
    }

    #[test]
    fn every_part_is_normalised() {
        for (part, _) in PARTS {
            assert_eq!(*part, normalise(part));
        }
    }
}
