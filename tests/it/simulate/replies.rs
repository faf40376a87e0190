//! Faults that put something in the answer's place.

use serde_json::Value;

use super::harness::{ALL, Answer, Api, Provider, Question, provider, provider_with};

/// Asks for a fault by the model's name.
async fn with(provider: &Provider, api: Api, fault: &str) -> Answer {
    provider.ask(api, &Question::of(&format!("m!{fault}"))).await
}

/// One case: status of OpenAI, Azure, Anthropic and Gemini, and a text of each body.
async fn check(provider: &Provider, fault: &str, statuses: [u16; 4], texts: [&str; 4]) {
    for ((api, status), text) in ALL.into_iter().zip(statuses).zip(texts) {
        let answer = with(provider, api, fault).await;
        assert_eq!(answer.status, status, "{api:?} {fault}: {}", answer.text());
        assert!(answer.text().contains(text), "{api:?} {fault}: {}", answer.text());
        answer.json();
    }
}

#[tokio::test]
async fn errors_have_the_shapes_of_the_dialects() {
    let provider = provider().await;
    let quota = ["insufficient_quota", "86400 seconds", "credit balance", "PerDay"];
    check(&provider, "quota_exhausted", [429, 429, 400, 429], quota).await;
    let rate = ["rate_limit_exceeded", "call rate limit", "rate_limit_error", "PerMinute"];
    check(&provider, "rate_limit", [429; 4], rate).await;
    let busy = ["overloaded", "overloaded", "overloaded_error", "UNAVAILABLE"];
    check(&provider, "overloaded", [503, 503, 529, 503], busy).await;
    let inside = ["server_error", "server_error", "api_error", "INTERNAL"];
    check(&provider, "server_error", [500; 4], inside).await;
    check(&provider, "server_error(status=502)", [502; 4], inside).await;
    let late = ["timeout", "Timeout", "timeout_error", "DEADLINE_EXCEEDED"];
    check(&provider, "timeout", [504, 408, 504, 504], late).await;
    let key = ["invalid_api_key", "\"401\"", "authentication_error", "API_KEY_INVALID"];
    check(&provider, "unauthorized", [401, 401, 401, 400], key).await;
    let denied = ["unsupported_country", "unsupported_country", "permission_error", "DENIED"];
    check(&provider, "forbidden", [403; 4], denied).await;
    let unknown = ["model_not_found", "DeploymentNotFound", "not_found_error", "NOT_FOUND"];
    check(&provider, "model_not_found", [404; 4], unknown).await;
    let long = ["context_length_exceeded", "8192 tokens", "too long: 8193", "8192"];
    check(&provider, "context_length", [400; 4], long).await;
    let bad = ["decimal_below", "decimal_below", "invalid_request_error", "INVALID_ARGUMENT"];
    check(&provider, "bad_request", [400; 4], bad).await;
    let blocked = ["invalid_prompt", "innererror", "content filtering", "blockReason"];
    check(&provider, "content_filter", [400, 400, 400, 200], blocked).await;
    let large = ["too large", "too large", "request_too_large", "exceeds the limit"];
    check(&provider, "too_large", [413; 4], large).await;
    let said = "bad_request(message=\"no such luck\", status=422)";
    check(&provider, said, [422; 4], ["no such luck"; 4]).await;
    provider.stop().await;
}

#[tokio::test]
async fn an_error_may_come_under_200() {
    let provider = provider().await;
    for api in ALL {
        let answer = with(&provider, api, "error_in_200(kind=overloaded)").await;
        assert_eq!(answer.status, 200);
        let body = answer.json();
        assert!(body.get("error").is_some(), "{body}");
        let question = Question::of("m!error_in_200").stream();
        let streamed = provider.ask(api, &question).await;
        assert_eq!(streamed.status, 200);
        let event: Value = serde_json::from_str(&streamed.events()[0]).unwrap();
        assert!(event.get("error").is_some() && streamed.events().len() == 1);
    }
    provider.stop().await;
}

#[tokio::test]
async fn every_form_of_hint() {
    let provider = provider().await;
    let header = async |fault: &str, name: &str| {
        with(&provider, Api::OpenAi, fault).await.header(name).to_owned()
    };
    assert_eq!(header("rate_limit(retry_after=2)", "retry-after").await, "2");
    assert_eq!(header("rate_limit(retry_after=0.5)", "retry-after").await, "0.5");
    assert_eq!(header("rate_limit(retry_after=\"5, 10\")", "retry-after").await, "5, 10");
    assert_eq!(header("overloaded(retry_after=7)", "retry-after").await, "7");
    assert_eq!(header("overloaded", "retry-after").await, "");
    let ms = "rate_limit(retry_after=0.25,hint=header_ms)";
    assert_eq!(header(ms, "retry-after-ms").await, "250");
    let azure = "rate_limit(retry_after=6,hint=azure_ms)";
    assert_eq!(header(azure, "x-ms-retry-after-ms").await, "6000");
    let date = header("rate_limit(retry_after=60,hint=date)", "retry-after").await;
    assert!(httpdate::parse_http_date(&date).unwrap() > std::time::SystemTime::now());
    let reset = "rate_limit(retry_after=66,hint=openai_reset)";
    assert_eq!(header(reset, "x-ratelimit-reset-requests").await, "1m6s");
    assert_eq!(header(reset, "x-ratelimit-remaining-requests").await, "0");
    let claude =
        with(&provider, Api::Anthropic, "rate_limit(retry_after=9,hint=anthropic_reset)").await;
    let at: jiff::Timestamp = claude.header("anthropic-ratelimit-requests-reset").parse().unwrap();
    assert!(at > jiff::Timestamp::now());
    assert!(header("rate_limit(hint=epoch_ms)", "x-ratelimit-reset").await.len() == 13);
    assert_eq!(header("rate_limit(hint=none)", "retry-after").await, "");
    let text = with(&provider, Api::OpenAi, "rate_limit(retry_after=18.642,hint=text)").await;
    assert!(text.text().contains("Please try again in 18.642s."), "{}", text.text());
    let info =
        with(&provider, Api::Gemini, "rate_limit(retry_after=34.4,hint=retry_info)").await.json();
    let details = info["error"]["details"].as_array().unwrap();
    assert_eq!(details[1]["retryDelay"], "34.4s");
    provider.stop().await;
}

#[tokio::test]
async fn several_hints_at_once_from_a_script() {
    let script = "{models: {'*': {faults: [\
        {fault: rate_limit, retry_after: 3, hint: [header, azure_ms, text]}]}}}";
    let provider = provider_with(script).await;
    let answer = provider.ask(Api::Azure, &Question::of("m")).await;
    assert_eq!(answer.header("retry-after"), "3");
    assert_eq!(answer.header("x-ms-retry-after-ms"), "3000");
    assert!(answer.text().contains("try again in 3s"));
    provider.stop().await;
}

#[tokio::test]
async fn pages_of_things_in_between() {
    let provider = provider().await;
    let nginx = with(&provider, Api::OpenAi, "server_error(page=nginx)").await;
    assert_eq!((nginx.status, nginx.header("content-type")), (502, "text/html"));
    assert!(nginx.text().contains("<center>nginx</center>"));
    let cloudflare =
        with(&provider, Api::Anthropic, "server_error(page=cloudflare,status=520)").await;
    assert_eq!((cloudflare.status, cloudflare.header("server")), (520, "cloudflare"));
    let envoy = with(&provider, Api::Gemini, "server_error(page=envoy)").await;
    assert_eq!(envoy.status, 503);
    assert!(envoy.text().starts_with("upstream connect error"));
    let page = with(&provider, Api::OpenAi, "html_200").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=UTF-8"));
    provider.stop().await;
}

#[tokio::test]
async fn redirects_stay_on_loopback() {
    let provider = provider().await;
    let moved = with(&provider, Api::OpenAi, "redirect(to=4321)").await;
    assert_eq!((moved.status, moved.header("location")), (307, "http://127.0.0.1:4321/v1/moved"));
    assert_eq!(with(&provider, Api::Gemini, "redirect(status=308)").await.status, 308);
    provider.stop().await;
}

#[tokio::test]
async fn an_override_that_does_not_parse_is_told() {
    let provider = provider().await;
    for fault in ["teapot", "fence(at=noon)", "fence("] {
        let answer = with(&provider, Api::OpenAi, fault).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("x-mainstay-sim"), "{}", answer.text());
    }
    provider.stop().await;
}

#[tokio::test]
async fn overrides_count_their_own_calls_and_silence_the_script() {
    let script = "{models: {'*': {faults: [{fault: overloaded}]}}}";
    let provider = provider_with(script).await;
    let status = async |model: &str, header: Option<&str>| {
        let question = Question { header: header.map(str::to_owned), ..Question::of(model) };
        provider.ask(Api::OpenAi, &question).await.status
    };
    assert_eq!(status("m", None).await, 503);
    assert_eq!(status("m!none", None).await, 200);
    assert_eq!(status("m!rate_limit(first=1)", None).await, 429);
    assert_eq!(status("m!rate_limit(first=1)", None).await, 200);
    assert_eq!(status("m!rate_limit", Some("fault=bad_request")).await, 400);
    provider.stop().await;
}
