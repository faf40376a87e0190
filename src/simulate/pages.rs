//! Replies that are in no dialect: the simulator's own pages, and those of proxies.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::faults::Page;
use super::script::Script;
use super::wire::{Body, Reply};

/// Plain text.
pub fn text(status: u16, text: &str) -> Reply {
    page(status, "text/plain; charset=utf-8", text.to_owned())
}

/// JSON.
pub fn json(status: u16, value: &impl Serialize) -> Reply {
    let body = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    page(status, "application/json", body)
}

/// The list of models, with the members of OpenAI and of Anthropic.
pub fn models(script: &Script, now: Timestamp) -> Value {
    let data: Vec<Value> = script
        .models
        .keys()
        .filter(|name| *name != "*")
        .map(|name| {
            json!({
                "id": name, "object": "model", "type": "model", "owned_by": "mainstay-simulator",
                "display_name": name, "created": now.as_second(), "created_at": now.to_string(),
            })
        })
        .collect();
    json!({"object": "list", "data": data, "has_more": false})
}

/// The error page of something between the provider and the caller.
pub fn proxy(status: u16, page_of: Page) -> Reply {
    let title = match status {
        520 => "Web server is returning an unknown error",
        521 => "Web server is down",
        522 => "Connection timed out",
        523 => "Origin is unreachable",
        524 => "A timeout occurred",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => "Error",
    };
    match page_of {
        Page::Json => json(status, &json!({"error": {"message": title, "code": status}})),
        Page::Nginx => page(
            status,
            "text/html",
            format!(
                "<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n\
                 <center><h1>{status} {title}</h1></center>\r\n<hr><center>nginx</center>\r\n\
                 </body>\r\n</html>\r\n"
            ),
        ),
        Page::Cloudflare => {
            let body = format!(
                "<!DOCTYPE html>\n<html class=\"no-js\" lang=\"en-US\">\n<head>\n\
                 <title>api.example.com | {status}: {title}</title>\n</head>\n<body>\n\
                 <h1>Error {status}</h1><p>{title}</p><p>Cloudflare Ray ID: 8a1b2c3d4e5f6a7b</p>\n\
                 </body>\n</html>\n"
            );
            let mut reply = page(status, "text/html; charset=UTF-8", body);
            reply.headers.push(("server", "cloudflare".to_owned()));
            reply.headers.push(("cf-ray", "8a1b2c3d4e5f6a7b-FRA".to_owned()));
            reply
        }
        Page::Envoy => {
            let body = "upstream connect error or disconnect/reset before headers. \
                        reset reason: connection failure";
            let mut reply = page(status, "text/plain", body.to_owned());
            reply.headers.push(("server", "envoy".to_owned()));
            reply
        }
    }
}

/// What a captive portal or a wrong base URL answers.
pub fn sign_in() -> Reply {
    let body = "<!doctype html><html><head><title>Sign in</title></head>\
                <body>Please log in to continue</body></html>";
    page(200, "text/html; charset=UTF-8", body.to_owned())
}

/// A redirect; only ever to the loopback address.
pub fn redirect(to: u16, status: u16) -> Reply {
    let mut reply = page(status, "text/plain", String::new());
    reply.headers.push(("location", format!("http://127.0.0.1:{to}/v1/moved")));
    reply
}

fn page(status: u16, content_type: &str, body: String) -> Reply {
    Reply {
        status,
        headers: vec![("content-type", content_type.to_owned())],
        body: Body::Whole(body.into_bytes()),
    }
}
