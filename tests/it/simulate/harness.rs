//! A provider, a client, and requests in each dialect.

use std::time::Duration;

use mainstay::simulate::{Calls, Script, Simulator};
use mainstay::tasks::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The dialects.
pub const ALL: [Api; 4] = [Api::OpenAi, Api::Azure, Api::Anthropic, Api::Gemini];

/// Whose API is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
}

/// A provider with a client.
pub struct Provider {
    pub simulator: Simulator,
    pub tasks: Tasks,
    pub client: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The data of each event.
    pub fn events(&self) -> Vec<String> {
        self.text().lines().filter_map(|l| l.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// The text of a whole answer.
    pub fn said(&self, api: Api) -> String {
        let body = self.json();
        let pointer = match api {
            Api::OpenAi | Api::Azure => "/choices/0/message/content",
            Api::Anthropic => "/content/0/text",
            Api::Gemini => "/candidates/0/content/parts/0/text",
        };
        body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The text of a streamed answer.
    pub fn said_in_stream(&self, api: Api) -> String {
        let pointer = match api {
            Api::OpenAi | Api::Azure => "/choices/0/delta/content",
            Api::Anthropic => "/delta/text",
            Api::Gemini => "/candidates/0/content/parts/0/text",
        };
        let events = self.events();
        let values = events.iter().filter_map(|e| serde_json::from_str::<Value>(e).ok());
        values.filter_map(|v| v.pointer(pointer)?.as_str().map(str::to_owned)).collect()
    }
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub model: String,
    pub system: String,
    pub prompt: String,
    pub schema: Option<Value>,
    pub stream: bool,
    pub header: Option<String>,
}

impl Question {
    pub fn of(model: &str) -> Self {
        Self { model: model.into(), prompt: "Tell me about tides.".into(), ..Self::default() }
    }

    pub fn stream(mut self) -> Self {
        self.stream = true;
        self
    }

    /// The body, in the dialect of the API.
    pub fn body(&self, api: Api) -> Value {
        let mut body = match api {
            Api::OpenAi | Api::Azure => json!({
                "model": self.model, "stream": self.stream,
                "messages": [
                    {"role": "system", "content": self.system},
                    {"role": "user", "content": self.prompt},
                ],
            }),
            Api::Anthropic => json!({
                "model": self.model, "stream": self.stream, "max_tokens": 4096,
                "system": self.system,
                "messages": [{"role": "user", "content": [{"type": "text", "text": self.prompt}]}],
            }),
            Api::Gemini => json!({
                "systemInstruction": {"parts": [{"text": self.system}]},
                "contents": [{"role": "user", "parts": [{"text": self.prompt}]}],
            }),
        };
        if self.stream && matches!(api, Api::OpenAi | Api::Azure) {
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(schema) = &self.schema {
            match api {
                Api::OpenAi | Api::Azure => {
                    let format = json!({"name": "out", "schema": schema, "strict": true});
                    body["response_format"] = json!({"type": "json_schema", "json_schema": format});
                }
                Api::Anthropic => {
                    let format = json!({"type": "json_schema", "schema": schema});
                    body["output_config"] = json!({ "format": format });
                }
                Api::Gemini => {
                    body["generationConfig"] = json!({
                        "responseMimeType": "application/json", "responseJsonSchema": schema,
                    });
                }
            }
        }
        body
    }

    /// The path and query.
    pub fn path(&self, api: Api) -> String {
        let model = self.model.replace('!', "%21").replace(' ', "%20").replace('"', "%22");
        match api {
            Api::OpenAi => "/v1/chat/completions".to_owned(),
            Api::Azure => {
                format!("/openai/deployments/{model}/chat/completions?api-version=2024-10-21")
            }
            Api::Anthropic => "/v1/messages".to_owned(),
            Api::Gemini if self.stream => {
                format!("/v1beta/models/{model}:streamGenerateContent?alt=sse")
            }
            Api::Gemini => format!("/v1beta/models/{model}:generateContent"),
        }
    }
}

/// A provider that answers any model.
pub async fn provider() -> Provider {
    provider_with("models: {'*': {}}").await
}

/// A provider with a script.
pub async fn provider_with(script: &str) -> Provider {
    let script = Script::parse(script, "test.yaml").unwrap();
    let tasks = Tasks::new();
    let addr = "127.0.0.1:0".parse().unwrap();
    let simulator = Simulator::bind(script, addr, &tasks).await.unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Provider { simulator, tasks, client }
}

impl Provider {
    /// Asks; an error is one of the transport.
    pub async fn try_ask(&self, api: Api, question: &Question) -> Result<Answer, reqwest::Error> {
        let mut response = self.start(api, question).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await? {
            body.extend_from_slice(&bytes);
        }
        Ok(Answer { status, headers, body })
    }

    /// Asks and waits for the headers only.
    pub async fn start(
        &self,
        api: Api,
        question: &Question,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!("{}{}", self.simulator.url(), question.path(api));
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("authorization", "Bearer sim-key")
            .body(question.body(api).to_string());
        if let Some(header) = &question.header {
            request = request.header("x-mainstay-sim", header);
        }
        request.send().await
    }

    /// Asks and gets an answer.
    pub async fn ask(&self, api: Api, question: &Question) -> Answer {
        self.try_ask(api, question).await.unwrap_or_else(|e| panic!("{api:?} {question:?}: {e:?}"))
    }

    /// Asks over a socket of its own and gives all bytes that came until the end, and how it ended.
    pub async fn raw(
        &self,
        api: Api,
        question: &Question,
    ) -> (Vec<u8>, Result<(), std::io::ErrorKind>) {
        let mut stream = self.socket(api, question).await;
        let mut bytes = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
        (bytes, ended.map(|_| ()).map_err(|error| error.kind()))
    }

    /// A socket over which the question was sent, to be answered once.
    pub async fn socket(&self, api: Api, question: &Question) -> TcpStream {
        let body = question.body(api).to_string();
        let path = question.path(api);
        let mut stream = TcpStream::connect(self.simulator.addr()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer k\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream
    }

    /// Waits until the calls are as wanted.
    pub async fn until(&self, wanted: impl Fn(&Calls) -> bool) -> Calls {
        let started = std::time::Instant::now();
        loop {
            let calls = self.simulator.calls();
            if wanted(&calls) {
                return calls;
            }
            assert!(started.elapsed() < PATIENCE, "still not: {calls:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Stops, and holds that no task is left.
    pub async fn stop(self) {
        tokio::time::timeout(PATIENCE, self.simulator.stop()).await.expect("stops");
        assert!(self.tasks.wait(PATIENCE).await, "tasks are left");
        assert_eq!(self.tasks.running(), 0);
    }
}
