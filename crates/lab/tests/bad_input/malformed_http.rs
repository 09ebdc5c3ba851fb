//! Requests a client gets wrong, and requests that are no HTTP: each is answered with a problem or ends, and the hub
//! lives on.

use std::sync::Arc;

use api::{Client, ClientError};
use lab::world::World;
use model::FailureKind;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tunnel::{AgentIdentity, HubAddress, HubTrust, dial_http};

use crate::site::{DEADLINE, Site};

/// More than any route takes.
const OVERSIZED_BYTES: usize = (1 << 20) + 1;
const JSON: &str = "application/json";

struct Wrong {
    method: Method,
    path: &'static str,
    token: Option<String>,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    kind: &'static str,
}

/// Everything of this file.
pub async fn all(site: &Site) {
    for wrong in cases(&site.token()) {
        answered(&site.world, wrong).await;
    }
    no_http_at_all(&site.world).await;
    without_a_token_from_outside(site).await;
    let health = reqwest::get(format!("{}/health", site.world.hub_url())).await.unwrap();
    assert!(health.status().is_success());
}

fn cases(token: &str) -> Vec<Wrong> {
    let with = |method: Method, path, content_type, body: &str, status, kind| Wrong {
        method,
        path,
        token: Some(token.to_owned()),
        content_type,
        body: body.as_bytes().to_vec(),
        status,
        kind,
    };
    let as_somebody = |token: Option<&str>| Wrong {
        token: token.map(str::to_owned),
        ..with(Method::GET, "/api/v1/jobs", JSON, "", 401, "unauthenticated")
    };
    let replications = "/api/v1/replications";
    let oversized = format!("{{\"vm_context_id\":\"{}\"}}", "x".repeat(OVERSIZED_BYTES));
    let start = |body, status, kind| with(Method::POST, replications, JSON, body, status, kind);
    vec![
        as_somebody(None),
        as_somebody(Some("not-the-token")),
        as_somebody(Some(&token[1..])),
        as_somebody(Some(&"x".repeat(4096))),
        start("{\"vm_context_id\": ", 400, "invalid"),
        start("\u{0}\u{1}", 400, "invalid"),
        start("[]", 422, "invalid"),
        start("{\"vm_context_id\": 7}", 422, "invalid"),
        start("{\"vm_context_id\": \"x\", \"unknown_field\": 1}", 422, "invalid"),
        start("{\"vm_context_id\": \"x\", \"replication_type\": \"everything\"}", 422, "invalid"),
        start("{\"vm_context_id\": \"no-such-context\"}", 404, "not_found"),
        start(&oversized, 413, "invalid"),
        with(Method::POST, replications, "text/plain", "{}", 415, "invalid"),
        with(Method::POST, "/api/v1/discovery/add", JSON, "{\"vms\": []}", 422, "invalid"),
        with(Method::POST, "/api/v1/enroll", JSON, "{\"pairing_code\": \"\"}", 422, "invalid"),
        with(Method::DELETE, "/api/v1/jobs", JSON, "", 405, "invalid"),
        with(Method::GET, "/api/v1/no-such-thing", JSON, "", 404, "not_found"),
        with(Method::GET, "/", JSON, "", 404, "not_found"),
        with(Method::GET, "/api/v1/jobs/no-such-job", JSON, "", 404, "not_found"),
        with(Method::GET, "/api/v1/jobs?limit=many", JSON, "", 422, "invalid"),
        with(Method::GET, "/api/v1/jobs?status=happy", JSON, "", 422, "invalid"),
        with(Method::GET, "/api/v1/vm-contexts/%ff%fe", JSON, "", 422, "invalid"),
        with(Method::GET, "/api/v1/vm-contexts/..%2f..%2fetc%2fpasswd", JSON, "", 404, "not_found"),
        with(Method::POST, "/api/v1/agents/no-such-agent/approve", JSON, "", 404, "not_found"),
    ]
}

async fn answered(world: &World, wrong: Wrong) {
    let what = format!("{} {}", wrong.method, wrong.path);
    let client = reqwest::Client::new();
    let mut request = client.request(wrong.method, format!("{}{}", world.hub_url(), wrong.path));
    if let Some(token) = &wrong.token {
        request = request.bearer_auth(token);
    }
    let shown = String::from_utf8_lossy(&wrong.body[..wrong.body.len().min(80)]).into_owned();
    let answer = request.header("content-type", wrong.content_type).body(wrong.body).send().await.unwrap();
    let (status, media) = (answer.status().as_u16(), answer.headers().get("content-type").cloned());
    let text = answer.text().await.unwrap();
    let problem: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let seen = (status, problem["kind"].as_str());
    assert_eq!(seen, (wrong.status, Some(wrong.kind)), "{what} {shown}: {text}");
    assert_eq!(media.unwrap(), "application/problem+json", "{what}");
    assert_eq!(problem["status"], wrong.status, "{what}: {text}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{what}");
}

/// Bytes that are no request; the hub answers with a client error or hangs up.
async fn no_http_at_all(world: &World) {
    let address = world.hub_url().trim_start_matches("http://").to_owned();
    let long_header = format!("GET /health HTTP/1.1\r\nhost: hub\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let two_lengths =
        "POST /api/v1/enroll HTTP/1.1\r\nhost: hub\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde";
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET /health HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        long_header.as_bytes(),
        two_lengths.as_bytes(),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // The hub may hang up before it has read everything.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open after {:?}", &garbage[..garbage.len().min(40)]);
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.starts_with("HTTP/1.1 2"), "{text}");
    }
}

/// The one public port: HTTP/2 behind TLS, and no token.
async fn without_a_token_from_outside(site: &Site) {
    let identity = AgentIdentity::load(&site.dir().join("agent")).unwrap().unwrap();
    let hub = HubAddress::parse(&site.world.hub_address()).unwrap();
    let http = dial_http(&hub, HubTrust::Ca(identity.hub_ca().clone())).await.unwrap();
    let client = Client::new(Arc::new(http));
    for path in ["/api/v1/jobs", "/api/v1/agents", "/api/v1/vmware-credentials"] {
        match client.get::<Value>(path).await {
            Err(ClientError::Problem(problem)) => assert_eq!(problem.kind, FailureKind::Unauthenticated, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}
