//! A server that answers what a test has written down, after checking every signature, and remembers what was asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use cloudstack::{Client, ClientOptions, ConnectionSettings, Trust, sign};
use model::Secret;
use parking_lot::Mutex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

pub const API_KEY: &str = "KEY-abc_123";
pub const SECRET_KEY: &str = "SECRET-xyz_789";

/// Largest request body, in bytes.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// One answer.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    silent: bool,
}

/// An answer of status 200 with this text.
pub fn ok(body: impl Into<String>) -> Answer {
    status(200, body)
}

/// An answer of another status.
pub fn status(status: u16, body: impl Into<String>) -> Answer {
    Answer { status, headers: Vec::new(), body: Bytes::from(body.into()), silent: false }
}

/// A refusal as CloudStack writes it.
pub fn refusal(code: u16, cs_code: Option<i64>, text: &str) -> Answer {
    let cs_code = cs_code.map(|code| format!(r#""cserrorcode":{code},"#)).unwrap_or_default();
    let body = format!(r#"{{"xresponse":{{"uuidList":[],"errorcode":{code},{cs_code}"errortext":"{text}"}}}}"#);
    status(code, body)
}

/// No answer at all: the connection stays open.
pub fn silence() -> Answer {
    Answer { silent: true, ..ok("") }
}

impl Answer {
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub query: String,
    pub params: BTreeMap<String, String>,
}

#[derive(Default)]
struct Script {
    next: HashMap<String, VecDeque<Answer>>,
    always: HashMap<String, Answer>,
    asked: Vec<Asked>,
    clock_ahead: time::Duration,
}

/// The server; it ends with the value.
pub struct Scripted {
    pub url: String,
    script: Arc<Mutex<Script>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    pub async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script, task }
    }

    /// The next answers to a command, in this order.
    pub fn expect(&self, command: &str, answers: impl IntoIterator<Item = Answer>) -> &Self {
        self.script.lock().next.entry(command.to_owned()).or_default().extend(answers);
        self
    }

    /// The answer to a command whenever no other is left.
    pub fn always(&self, command: &str, answer: Answer) -> &Self {
        self.script.lock().always.insert(command.to_owned(), answer);
        self
    }

    /// Puts the server's clock ahead.
    pub fn set_clock_ahead(&self, ahead: time::Duration) {
        self.script.lock().clock_ahead = ahead;
    }

    /// Every request for a command so far.
    pub fn asked(&self, command: &str) -> Vec<Asked> {
        let is_it = |asked: &&Asked| asked.params.get("command").is_some_and(|name| name == command);
        self.script.lock().asked.iter().filter(is_it).cloned().collect()
    }

    pub fn client(&self) -> Client {
        Client::with_options(&settings(&self.url), quick()).unwrap()
    }
}

pub fn settings(url: &str) -> ConnectionSettings {
    ConnectionSettings {
        api_url: url.to_owned(),
        api_key: Secret::new(API_KEY),
        secret_key: Secret::new(SECRET_KEY),
        trust: Trust::System,
    }
}

/// Times that do not make tests wait.
pub fn quick() -> ClientOptions {
    ClientOptions {
        call_timeout: Duration::from_secs(5),
        delete_timeout: Duration::from_millis(200),
        read_attempts: 3,
        first_retry_delay: Duration::from_millis(1),
        ..ClientOptions::default()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await.unwrap();
    let text = if parts.method == "POST" { String::from_utf8(body.to_vec()).unwrap() } else { query.clone() };
    let params: BTreeMap<String, String> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    let asked = Asked { method: parts.method.to_string(), query, params };
    let (answer, date) = {
        let mut script = script.lock();
        let date = OffsetDateTime::now_utc() + script.clock_ahead;
        let answer = if parts.uri.path() != "/client/api" {
            status(404, "<html>not here</html>")
        } else if is_signed(&asked.params, date) {
            next_answer(&mut script, &asked)
        } else {
            refusal(401, None, "unable to verify user credentials and/or request signature")
        };
        script.asked.push(asked);
        (answer, date)
    };
    if answer.silent {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(answer.status).header("date", date.format(&Rfc2822).unwrap());
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

fn next_answer(script: &mut Script, asked: &Asked) -> Answer {
    let command = asked.params.get("command").cloned().unwrap_or_default();
    let next = script.next.get_mut(&command).and_then(VecDeque::pop_front);
    next.or_else(|| script.always.get(&command).cloned()).unwrap_or_else(|| {
        refusal(432, Some(9999), &format!("The given command {command} is not in the script of this test"))
    })
}

fn is_signed(params: &BTreeMap<String, String>, now: OffsetDateTime) -> bool {
    let signed = params.iter().filter(|(name, _)| *name != "signature");
    let expected = sign::signature(signed.map(|(n, v)| (n.as_str(), v.as_str())), &Secret::new(SECRET_KEY));
    let in_time = params.get("expires").is_some_and(|expires| {
        // Both are UTC of the same format and so compare as texts; a server that enforces times allows 15 minutes.
        let latest = sign::expires_at(now + time::Duration::minutes(15));
        let now = sign::expires_at(now - time::Duration::seconds(sign::VALIDITY_SECONDS));
        *expires > now && *expires <= latest
    });
    params.get("signature") == Some(&expected) && in_time && params.get("apiKey").is_some_and(|key| key == API_KEY)
}
