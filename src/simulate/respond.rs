//! From a request to what the socket does: everything between reading and writing.

use jiff::Timestamp;
use serde_json::Value;

use super::answers::{Answer, Finish, answer};
use super::ask::{Ask, Dialect};
use super::calls::{Book, Call, Ended, Entry};
use super::chance::Luck;
use super::compose::{Mishaps, Score, Tempo, compose};
use super::faults::{
    Fault, FaultRule, Hit, Instead, Pace, StreamFault, Trouble, TroubleKind, hits,
};
use super::http::Request;
use super::lines::{Line, Lines};
use super::matcher::CREDENTIAL_HEADERS;
use super::script::{Model, Script};
use super::wire::{self, Body, Frame, FrameKind, Meta, Reply};
use super::{
    embeddings, output_faults, overrides, pages, wire_anthropic, wire_gemini, wire_openai,
};

/// What is done about a request.
#[derive(Debug)]
pub struct Response {
    /// The moves.
    pub score: Score,
    /// The call in the book; not for the simulator's own pages.
    pub entry: Option<Entry>,
    /// Where the call waits for its turn, at a model that answers a few at a time.
    pub line: Option<Line>,
}

/// A page of the simulator's own.
pub fn own(reply: Reply) -> Response {
    let score = compose(reply, Tempo::default(), &Mishaps::default());
    Response { score, entry: None, line: None }
}

/// Answers a request.
pub fn respond(
    script: &Script,
    lines: &Lines,
    book: &Book,
    request: &Request,
    now: Timestamp,
) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/healthz") => own(pages::text(200, "ok\n")),
        ("GET", "/_sim/calls") => {
            let asked = request.query_value("recent").and_then(|text| text.parse().ok());
            own(pages::json(200, &book.newest(asked.unwrap_or(usize::MAX))))
        }
        ("POST", "/_sim/reset") => {
            book.reset();
            own(pages::text(200, "reset\n"))
        }
        ("GET", path) if path.ends_with("/models") => {
            own(pages::json(200, &pages::models(script, now)))
        }
        ("POST", _) => match read(request) {
            Some(Ok(ask)) => {
                let line = lines.of(script, &ask.model);
                Response { line, ..call(script, book, request, ask, now) }
            }
            Some(Err(ask)) => {
                let meta = Meta { luck: Luck::seeded(script.seed), now, input_tokens: 0 };
                let mut trouble = Trouble::plain(TroubleKind::BadRequest);
                trouble.message = Some("We could not parse the JSON body of your request.".into());
                own(wire::trouble(&ask, &trouble, &meta))
            }
            None => own(pages::text(404, "no such path\n")),
        },
        _ => own(pages::text(404, "no such path\n")),
    }
}

/// The ask in a request, by its path; an error holds the dialect of a body that is no JSON.
fn read(request: &Request) -> Option<Result<Ask, Ask>> {
    let path = request.path.trim_end_matches('/');
    let body = serde_json::from_slice::<Value>(&request.body).ok().filter(Value::is_object);
    let ask = if path.ends_with("/chat/completions") {
        let deployment = path
            .split_once("/deployments/")
            .and_then(|(_, rest)| rest.strip_suffix("/chat/completions"));
        match &body {
            Some(body) => Ok(wire_openai::read(body, deployment)),
            None => Err(Ask::new(Dialect::OpenAi, "")),
        }
    } else if path.ends_with("/embeddings") {
        let ask = body.as_ref().and_then(embeddings::read);
        ask.ok_or_else(|| Ask::new(Dialect::OpenAi, ""))
    } else if path.ends_with("/messages") {
        body.as_ref().map(wire_anthropic::read).ok_or_else(|| Ask::new(Dialect::Anthropic, ""))
    } else {
        let (_, call) = path.rsplit_once("/models/")?;
        let (model, verb) = call.rsplit_once(':')?;
        let stream = match verb {
            "generateContent" => false,
            "streamGenerateContent" => true,
            _ => return None,
        };
        let sse = request.query_value("alt") == Some("sse");
        let none = || Ask::new(Dialect::Gemini, model);
        body.as_ref().map(|body| wire_gemini::read(body, model, stream, sse)).ok_or_else(none)
    };
    let with_headers = |mut ask: Ask| {
        let kept =
            request.headers.iter().filter(|(name, _)| !CREDENTIAL_HEADERS.contains(&name.as_str()));
        ask.headers = kept.cloned().collect();
        ask
    };
    Some(ask.map(with_headers))
}

fn has_credential(request: &Request) -> bool {
    let given = |name: &str| request.header(name).unwrap_or_default().trim();
    let bearer = given("authorization");
    let bearer = bearer.strip_prefix("Bearer").unwrap_or(bearer).trim();
    !bearer.is_empty()
        || ["x-api-key", "api-key", "x-goog-api-key"].iter().any(|name| !given(name).is_empty())
        || request.query_value("key").is_some_and(|key| !key.is_empty())
}

/// All that is decided about a call before its bytes are made.
struct Plan {
    reply: Reply,
    tempo: Tempo,
    mishaps: Mishaps,
    rules: Vec<String>,
    faults: Vec<&'static str>,
}

fn call(script: &Script, book: &Book, request: &Request, ask: Ask, now: Timestamp) -> Response {
    let number = book.next(format!("model/{}", ask.model));
    let luck = Luck::seeded(script.seed).of_text(&ask.model);
    let meta = Meta { luck: luck.of_number(number), now, input_tokens: ask.input_tokens() };
    let refuse = |kind, rule: &str| Plan {
        reply: wire::trouble(&ask, &Trouble::plain(kind), &meta),
        tempo: Tempo::default(),
        mishaps: Mishaps::default(),
        rules: vec![rule.to_owned()],
        faults: Vec::new(),
    };
    let plan = if script.require_credential && !has_credential(request) {
        refuse(TroubleKind::Unauthorized, "require_credential")
    } else {
        match (script.model(&ask.model), overrides::faults_of(&ask)) {
            (None, _) => refuse(TroubleKind::ModelNotFound, "no model"),
            (Some(_), Some(Err(problem))) => refused_override(&ask, &meta, problem),
            (Some(model), None) => {
                let found = hits(&model.faults, &ask, luck, |sequence| {
                    book.next(format!("rule/{}/{sequence}", ask.model))
                });
                let label = |hit: &Hit<'_>| {
                    let idx = model.faults.iter().position(|rule| std::ptr::eq(rule, hit.rule));
                    format!("faults[{}] {}", idx.unwrap_or(0), hit.rule.name)
                };
                let labels = found.iter().map(label).collect();
                planned(script, model, &ask, &found, labels, &meta)
            }
            (Some(model), Some(Ok(rules))) => {
                let found = overridden(book, &ask, &rules, luck);
                let labels =
                    found.iter().map(|hit| format!("override {}", hit.rule.name)).collect();
                planned(script, model, &ask, &found, labels, &meta)
            }
        }
    };
    let record = Call {
        id: 0,
        time: now,
        model: ask.model.clone(),
        number,
        dialect: ask.dialect.name(),
        stream: ask.stream,
        rules: plan.rules,
        status: plan.reply.status,
        ended: Ended::Running,
    };
    let entry = book.begin(record, &plan.faults);
    let score = compose(plan.reply, plan.tempo, &plan.mishaps);
    Response { score, entry: Some(entry), line: None }
}

/// Each override has sequences of its own, so that `NAME!fence(first=1)` counts its own calls.
fn overridden<'a>(book: &Book, ask: &Ask, rules: &'a [FaultRule], luck: Luck) -> Vec<Hit<'a>> {
    let given = ask.headers.get(overrides::HEADER).or(ask.suffix.as_ref());
    let given = given.map(String::as_str).unwrap_or_default();
    hits(rules, ask, luck.of_text(given), |sequence| {
        book.next(format!("override/{}/{given}/{sequence}", ask.model))
    })
}

fn refused_override(ask: &Ask, meta: &Meta, problem: String) -> Plan {
    let mut trouble = Trouble::plain(TroubleKind::BadRequest);
    trouble.message = Some(format!("x-mainstay-sim: {problem}"));
    Plan {
        reply: wire::trouble(ask, &trouble, meta),
        tempo: Tempo::default(),
        mishaps: Mishaps::default(),
        rules: vec!["override that does not parse".to_owned()],
        faults: Vec::new(),
    }
}

fn planned(
    script: &Script,
    model: &Model,
    ask: &Ask,
    found: &[Hit<'_>],
    mut rules: Vec<String>,
    meta: &Meta,
) -> Plan {
    let tempo = tempo_of(model, found, meta.luck);
    let mut mishaps = Mishaps { luck: Some(meta.luck), ..Mishaps::default() };
    for hit in found {
        match &hit.rule.fault {
            Fault::Wire(fault) if mishaps.wire.is_none() => mishaps.wire = Some(fault.clone()),
            Fault::Stream(fault) if ask.stream => {
                if let StreamFault::ErrorEvent { kind, .. } = fault {
                    mishaps.error_event = Some(wire::error_frame(ask, *kind, meta));
                }
                mishaps.stream.push(*fault);
            }
            _ => (),
        }
    }
    let instead = found.iter().find_map(|hit| match &hit.rule.fault {
        Fault::Instead(instead) => Some(instead),
        _ => None,
    });
    let too_long = model.context_window.filter(|window| meta.input_tokens > *window);
    let reply = if let Some(instead) = instead {
        in_place(ask, model, instead, meta)
    } else if let Some(window) = too_long {
        rules.push("context_window".to_owned());
        let kind = TroubleKind::ContextLength { tokens: meta.input_tokens, window };
        wire::trouble(ask, &Trouble::plain(kind), meta)
    } else if !ask.embed.is_empty() {
        rules.push("embeddings".to_owned());
        wire::headed(ask, &embeddings::answer(ask, Luck::seeded(script.seed)), meta)
    } else {
        match answered(script, model, ask, found, &mut rules) {
            Ok(answer) => {
                mishaps.endless = answer.endless;
                wire::reply(ask, &unrolled(answer, ask), meta)
            }
            Err(problem) => {
                rules.push("answer that failed".to_owned());
                let mut trouble = Trouble::plain(TroubleKind::ServerError);
                trouble.message = Some(format!("simulated provider: {problem}"));
                wire::trouble(ask, &trouble, meta)
            }
        }
    };
    let faults = found.iter().map(|hit| hit.rule.name).collect();
    Plan { reply, tempo, mishaps, rules, faults }
}

/// The answer with the faults of the output in it.
fn answered(
    script: &Script,
    model: &Model,
    ask: &Ask,
    found: &[Hit<'_>],
    rules: &mut Vec<String>,
) -> Result<Answer, String> {
    // The luck of an answer does not know the call's number: asked again, it is the same answer.
    let luck = Luck::seeded(script.seed).of_text(&ask.model).of_text(&ask.prompt);
    let (mut answer, idx) = answer(&model.answers, &script.templates, ask, luck)?;
    rules.push(match idx {
        Some(idx) => format!("answers[{idx}]"),
        None if ask.schema.is_some() => "schema".to_owned(),
        None => "echo".to_owned(),
    });
    for hit in found {
        if let Fault::Output(fault) = &hit.rule.fault {
            output_faults::apply(*fault, &mut answer, schema_of(ask), hit.luck);
        }
    }
    let limit = match (model.output_tokens_max, ask.output_tokens_max) {
        (Some(own), Some(asked)) => Some(own.min(asked)),
        (own, asked) => own.or(asked),
    };
    if let Some(limit) = limit
        && answer.endless.is_none()
        && Meta::output_tokens(&answer) > limit
    {
        let text = match &mut answer.tool_call {
            Some(call) => &mut call.arguments,
            None => &mut answer.text,
        };
        *text = text.chars().take(usize::try_from(limit * 4).unwrap_or(usize::MAX)).collect();
        answer.finish = Finish::Length;
    }
    Ok(answer)
}

fn schema_of(ask: &Ask) -> Option<&Value> {
    let tool = || ask.tools.iter().find(|tool| Some(&tool.name) == ask.tool_forced.as_ref());
    ask.schema.as_ref().or_else(|| tool().map(|tool| &tool.schema))
}

/// An endless answer that is not streamed is as long as its cap.
fn unrolled(mut answer: Answer, ask: &Ask) -> Answer {
    if let Some(bytes) = answer.endless
        && !ask.stream
        && answer.tool_call.is_none()
    {
        answer.text = answer.text.repeat(bytes / answer.text.len().max(1));
        answer.finish = Finish::Length;
    }
    answer
}

fn tempo_of(model: &Model, found: &[Hit<'_>], luck: Luck) -> Tempo {
    let own = model.latency;
    let mut tempo = Tempo::default();
    let mut add =
        |delay: Option<super::chance::Spread>, first: Option<_>, between: Option<_>, luck: Luck| {
            let draw = |spread: Option<super::chance::Spread>, name| {
                spread.map(|spread| spread.draw(luck.of_text(name))).unwrap_or_default()
            };
            tempo.delay += draw(delay, "delay");
            tempo.first_token += draw(first, "first_token");
            tempo.between += draw(between, "between");
        };
    add(own.delay, own.first_token, own.between, luck);
    for hit in found {
        if let Fault::Pace(Pace::Latency { delay, first_token, between }) = &hit.rule.fault {
            add(*delay, *first_token, *between, hit.luck);
        }
    }
    tempo.drip = found.iter().find_map(|hit| match &hit.rule.fault {
        Fault::Pace(Pace::Drip { bytes_per_second }) => Some(*bytes_per_second),
        _ => None,
    });
    tempo
}

/// What comes in the answer's place.
fn in_place(ask: &Ask, model: &Model, instead: &Instead, meta: &Meta) -> Reply {
    match instead {
        Instead::Trouble(trouble) => {
            let mut trouble = trouble.clone();
            trouble.kind = sized(trouble.kind, model, meta);
            wire::trouble(ask, &trouble, meta)
        }
        Instead::Page { status, page } => pages::proxy(*status, *page),
        Instead::Html200 => pages::sign_in(),
        Instead::Redirect { to, status } => pages::redirect(*to, *status),
        Instead::ErrorIn200(kind) => {
            let trouble = Trouble::plain(sized(*kind, model, meta));
            let mut reply = wire::trouble(ask, &trouble, meta);
            let (_, body) = wire::trouble_body(ask, &trouble, meta);
            reply.status = 200;
            if ask.stream && ask.sse {
                reply.headers.retain(|(name, _)| *name != "content-type");
                reply.headers.push(("content-type", "text/event-stream".to_owned()));
                let event = (ask.dialect == Dialect::Anthropic).then_some("error");
                reply.body = Body::Events(vec![Frame::json(FrameKind::Error, event, &body)]);
            }
            reply
        }
    }
}

/// A refusal for length names the model's own window.
fn sized(kind: TroubleKind, model: &Model, meta: &Meta) -> TroubleKind {
    match kind {
        TroubleKind::ContextLength { .. } => {
            let window = model.context_window.unwrap_or(8_192);
            TroubleKind::ContextLength { tokens: meta.input_tokens.max(window + 1), window }
        }
        other => other,
    }
}
