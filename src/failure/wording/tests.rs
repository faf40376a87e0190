use super::*;

#[track_caller]
fn check(status: u16, text: &str, expected: impl Into<Option<FailureCause>>) {
    assert_eq!(Wording::new(text, None).judge(status), expected.into(), "{status} {text}");
}

#[test]
fn texts_about_tokens_that_do_not_mean_the_window() {
    check(429, "Number of request tokens has exceeded your per-minute rate limit", RateLimited);
    check(
        429,
        "This request would exceed the rate limit of 20,000 input tokens per minute. Please reduce the prompt length",
        RateLimited,
    );
    check(
        400,
        "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for x",
        None,
    );
    check(400, "max_tokens 9000 is over the maximum output for this model", None);
    check(400, "Invalid 'user': string too long. Expected a string with maximum length 64", None);
    check(400, "Too many tokens, please wait before trying again.", RateLimited);
    check(400, "The long context beta is not yet available for this subscription.", None);
    check(
        400,
        "too many tokens: max_tokens must be less than or equal to 4096, the maximum output for this model",
        None,
    );
    check(
        400,
        "max_tokens is too large: 200000. This model supports at most 16384 completion tokens, whereas you provided 200000.",
        None,
    );
    check(400, "max_tokens exceeds the maximum number of tokens (4096)", None);
    check(400, "Invalid max_tokens: exceeds the maximum allowed tokens", None);
    check(400, "max_tokens must be at least 1, got -186.", None);
}

#[test]
fn texts_that_mean_the_window() {
    for text in [
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 9000",
        "Requested token count exceeds the model's maximum context length of 131072 tokens.",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
        "Prompt 超长",
        "输入内容过长，超过模型最大长度限制",
        "the request exceeds the available context size",
        "Input length 9000 exceeds maximum input length 8192",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "The prompt is too long: 9000, model maximum context length: 8191",
        "trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens",
        "maximum allowed input length is 8192 tokens; input token count exceeds it",
        "コンテキスト長を超えています",
        "the input token count is 1100312 but model only supports up to 1048576. Reduce it.",
        "Model context window is 128k tokens, you requested 256k tokens",
        "tokens in request more than max tokens allowed",
    ] {
        check(400, text, ContextLengthExceeded);
        check(500, text, ContextLengthExceeded);
    }
}

#[test]
fn the_period_tells_pace_from_quota() {
    check(
        429,
        "tokens per minute (TPM): Limit 6000, Used 5034, Requested 1443. Upgrade in billing",
        RateLimited,
    );
    check(429, "tokens per day (TPD): Limit 100000, Used 99000, Requested 2000", QuotaExhausted);
    check(429, "Too many tokens per day, please wait before trying again.", QuotaExhausted);
    check(429, "on tokens per min (TPM): Limit 30000, Requested 31538.", RequestTooLarge);
    check(429, "limited to 10 API calls / minute", RateLimited);
    check(429, "limited to 1000 API calls / month", QuotaExhausted);
    check(429, "Rate limit of 50 per 86400s exceeded for UserByModelByDay", QuotaExhausted);
    check(
        429,
        "Weekly/Monthly Limit Exhausted. Your limit will reset at 2026-03-06",
        QuotaExhausted,
    );
    check(403, "Key limit exceeded (monthly limit). Manage it in the settings", QuotaExhausted);
    check(429, "Exceeded: Team=ml over budget. Spend = 101.2, Budget = 100.0", QuotaExhausted);
    check(400, "You're out of extra usage. Add more and keep going.", QuotaExhausted);
    check(403, "The endpoint is disabled due to a rate limit set to 0.", QuotaExhausted);
    check(500, "请求超时，请重试", None);
    check(400, "请求超过限制", RateLimited);
    check(400, "日流控超限，超过当日最大访问量的限制", QuotaExhausted);
    check(400, "You have reached the maximum number of requests for today.", QuotaExhausted);
    check(429, "The request exceeds the rate limit", RateLimited);
    check(429, "nothing special", RateLimited);
}

#[test]
fn classes_keep_to_their_statuses() {
    check(
        401,
        "You have insufficient permissions. Missing scopes: model.request",
        PermissionDenied,
    );
    check(401, "Access denied due to invalid subscription key", Authentication);
    check(400, "The model has crashed without additional information.", ServerError);
    check(400, "Access is not allowed from unsupported countries or regions.", PermissionDenied);
    check(400, "Developer instruction is not enabled for models/x-27b", UnsupportedParameter);
    check(
        400,
        "The document has 1200 pages, which exceeds the page limit of 1000.",
        RequestTooLarge,
    );
    check(400, "A maximum of 100 PDF pages may be provided.", RequestTooLarge);
    check(400, "A maximum of 4 blocks with cache_control may be provided.", None);
    check(530, "error code: 1033", BadGateway);
    check(401, "The model does not exist", None);
    check(404, "No endpoints found that support tool use.", UnsupportedParameter);
    check(404, "No endpoints found matching your data policy", PermissionDenied);
    check(404, "No endpoints found for x/y.", None);
    check(503, "upstream connect error or disconnect/reset before headers", BadGateway);
    check(503, "overloaded", Overloaded);
    check(500, "The model does not exist", None);
    check(200, "rate limit", None);
    check(504, "rate limit", None);
}
