//! Who may ask what, and how wrong requests are answered.

use std::os::unix::fs::PermissionsExt;

use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use model::status::Role;
use serde_json::json;

use crate::hub::{Hub, REMOTE, request, send};

/// What anybody may ask.
const PUBLIC: &[(&str, &str)] = &[
    ("get", "/health"),
    ("get", "/metrics"),
    ("post", "/api/v1/enroll"),
    ("post", "/api/v1/enroll/verify"),
    ("get", "/api/v1/enroll/{id}"),
    ("post", "/api/v1/enroll/{id}/renew"),
];

#[tokio::test]
async fn every_other_operation_of_the_document_needs_a_token() {
    let hub = Hub::start().await;
    let document = hub.ask_anonymously(Method::GET, "/api/v1/openapi.json", None, REMOTE).await;
    let document = document.expect(StatusCode::OK);
    let mut guarded = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if PUBLIC.contains(&(method, path)) {
                assert_eq!(item[method]["security"], json!([{}]), "{method} {path}");
                continue;
            }
            let verb: Method = method.to_uppercase().parse().unwrap();
            let sample = path.replace(['{', '}'], "");
            let answer = hub.ask_locally(request(verb.clone(), &sample, None, None)).await;
            assert_eq!(answer.headers.get("www-authenticate").unwrap(), "Bearer", "{method} {path}");
            let problem = answer.problem(StatusCode::UNAUTHORIZED);
            assert!(problem["remedy"].as_str().unwrap().contains("operator.token"), "{method} {path}");
            let wrong = hub.ask_locally(request(verb, &sample, Some("0123"), None)).await;
            wrong.problem(StatusCode::UNAUTHORIZED);
            guarded += 1;
        }
    }
    assert!(guarded >= 12, "{guarded}");
    hub.stop().await;
}

#[tokio::test]
async fn guessing_from_outside_is_braked_and_the_local_port_is_not() {
    let hub = Hub::start().await;
    let guess = || request(Method::GET, "/api/v1/jobs", Some("wrong"), None);
    for _ in 0..10 {
        send(hub.public(REMOTE).await, guess()).await.problem(StatusCode::UNAUTHORIZED);
    }
    send(hub.public(REMOTE).await, guess()).await.problem(StatusCode::TOO_MANY_REQUESTS);
    // Not even the right token is looked at then.
    hub.ask(Method::GET, "/api/v1/jobs", None).await.problem(StatusCode::TOO_MANY_REQUESTS);
    hub.ask_locally(guess()).await.problem(StatusCode::UNAUTHORIZED);
    let right = request(Method::GET, "/api/v1/jobs", Some(&hub.token), None);
    send(hub.public("203.0.113.1:1").await, right).await.expect(StatusCode::OK);
    hub.stop().await;
}

#[tokio::test]
async fn the_first_operator_s_token_is_private_and_made_once() {
    let hub = Hub::start().await;
    let file = hub.operator_token_file();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(&file).unwrap();
    oma::auth::create_first_operator(hub.state.store(), &file).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    // An operator who moved the file away does not get another token by a restart.
    std::fs::remove_file(&file).unwrap();
    oma::auth::create_first_operator(hub.state.store(), &file).await.unwrap();
    assert!(!file.exists());
    hub.ask(Method::GET, "/api/v1/agents", None).await.expect(StatusCode::OK);
    hub.stop().await;
}

#[tokio::test]
async fn a_first_start_that_died_half_way_is_completed() {
    let hub = Hub::start().await;
    let file = hub.operator_token_file();
    std::fs::rename(&file, file.with_extension("token.new")).unwrap();
    oma::auth::create_first_operator(hub.state.store(), &file).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), hub.token);
    hub.stop().await;
}

#[tokio::test]
async fn a_role_allows_what_it_says() {
    let hub = Hub::start().await;
    let store = hub.state.store();
    let user = store::users::create(store, "eve", Role::Viewer).await.unwrap();
    let token_hash = "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9".to_owned();
    let row = store::api_tokens::NewToken {
        user_id: user.id,
        name: "t".into(),
        // SHA-256 of `bob`.
        token_hash,
        role: Role::Administrator,
        expires_at: None,
    };
    store::api_tokens::create(store, &row).await.unwrap();
    let looks = request(Method::GET, "/api/v1/agents", Some("bob"), None);
    hub.ask_locally(looks).await.expect(StatusCode::OK);
    let acts = request(Method::POST, "/api/v1/agents/pairing-codes", Some("bob"), None);
    hub.ask_locally(acts).await.problem(StatusCode::FORBIDDEN);
    hub.stop().await;
}

#[tokio::test]
async fn wrong_requests_are_answered_with_problems() {
    let hub = Hub::start().await;
    let post = |body: String| {
        let builder = Request::post("/api/v1/enroll").header(CONTENT_TYPE, "application/json");
        builder.body(Full::from(body)).unwrap()
    };
    hub.ask_locally(post("{\"pairing_code\":".into())).await.problem(StatusCode::BAD_REQUEST);
    hub.ask_locally(post("{\"surprise\": 1}".into())).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
    let large = json!({ "pairing_code": "x".repeat(2 * 1024 * 1024) }).to_string();
    hub.ask_locally(post(large)).await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    let get = |path| request(Method::GET, path, Some(&hub.token), None);
    hub.ask_locally(get("/api/v1/nothing")).await.problem(StatusCode::NOT_FOUND);
    hub.ask_locally(get("/api/v1/enroll")).await.problem(StatusCode::METHOD_NOT_ALLOWED);
    hub.ask_locally(get("/api/v1/jobs?limit=many")).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
    hub.ask_locally(get("/api/v1/enroll/unknown")).await.problem(StatusCode::NOT_FOUND);
    let basic = Request::get("/api/v1/jobs").header(AUTHORIZATION, "Basic YTpi").body(Full::default()).unwrap();
    hub.ask_locally(basic).await.problem(StatusCode::UNAUTHORIZED);
    hub.stop().await;
}

#[tokio::test]
async fn health_is_for_everybody_and_metrics_for_this_machine() {
    let hub = Hub::start().await;
    let health = hub.ask_anonymously(Method::GET, "/health", None, REMOTE).await.expect(StatusCode::OK);
    assert_eq!((&health["status"], &health["connected_agents"]), (&json!("ok"), &json!(0)));
    let io = hyper_util::rt::TokioIo::new(hub.public(REMOTE).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let over_http2 = request(Method::GET, "http://hub/health", None, None);
    assert_eq!(sender.send_request(over_http2).await.unwrap().status(), StatusCode::OK);
    hub.ask_anonymously(Method::GET, "/metrics", None, REMOTE).await.problem(StatusCode::NOT_FOUND);
    let metrics = hub.ask_locally(request(Method::GET, "/metrics", None, None)).await.expect(StatusCode::OK);
    assert!(metrics.as_str().unwrap().contains("\nmigratekit_oma_database_up 1\n"), "{metrics}");
    hub.stop().await;
}
