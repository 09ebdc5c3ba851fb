//! Requests of the hub over connections the agents dialled: small, streaming, many at once, from many agents.

use std::convert::Infallible;
use std::sync::Arc;

use api::client::{Transport, TransportError};
use api::{Client, Problem};
use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use model::FailureKind;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnel::{ControlConnection, Route, TunnelError, serve_control};

use crate::support::{Agent, Hub, soon};

const CHUNK_BYTES: usize = 64 * 1024;

/// An agent's API for these tests; every answer says whose it is.
pub(crate) fn agent_api(name: &str) -> Router {
    let named = name.to_owned();
    Router::new()
        .route("/name", get(move || async move { Json(named) }))
        .route(
            "/add/{number}",
            post(|Path(number): Path<u64>, Json(other): Json<u64>| async move { Json(number + other) }),
        )
        .route("/chunks/{count}", get(|Path(count): Path<usize>| async move { Body::from_stream(chunks(count)) }))
        .route("/endless", get(|| async { Body::from_stream(chunks(usize::MAX)) }))
        .route("/refuse", get(|| async { Problem::new(FailureKind::Conflict, "a run is going on") }))
}

fn chunks(count: usize) -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    stream::iter((0..count).map(|index| Ok(Bytes::from(vec![index.to_le_bytes()[0]; CHUNK_BYTES]))))
}

/// One agent connected to the hub, and the task that serves on its side.
pub(crate) async fn connected(
    hub: &mut Hub,
    agent: &Agent,
    api: Router,
) -> (Arc<ControlConnection>, JoinHandle<Result<(), TunnelError>>, CancellationToken) {
    let dialer = hub.dialer(agent);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let served = tokio::spawn(async move { serve_control(dialer.dial_control().await?, api, stop).await });
    let accepted = hub.next().await;
    let Route::AgentControl(identity) = accepted.route else { panic!("{:?}", accepted.route) };
    let connection = ControlConnection::from_stream(accepted.stream, identity.enrollment_id).await.unwrap();
    (Arc::new(connection), served, shutdown)
}

#[tokio::test]
async fn the_hub_calls_the_agent() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let (connection, served, shutdown) = connected(&mut hub, &agent, agent_api("one")).await;
    let client = Client::new(Arc::clone(&connection) as Arc<dyn Transport>);
    let name: String = soon("the name", client.get("/name")).await.unwrap();
    assert_eq!(name, "one");

    let additions = (0..200u64).map(|number| {
        let client = client.clone();
        async move { client.post::<u64, u64>(&format!("/add/{number}"), &1000).await.unwrap() }
    });
    let sums = soon("200 additions at once", futures::future::join_all(additions)).await;
    assert_eq!(sums, (1000..1200).collect::<Vec<u64>>());

    let problem = client.get::<String>("/refuse").await.unwrap_err();
    assert_eq!(problem.kind(), FailureKind::Conflict);
    let unknown = client.get::<String>("/nowhere").await.unwrap_err();
    assert_eq!(unknown.kind(), FailureKind::NotFound);

    shutdown.cancel();
    soon("the end of the agent", served).await.unwrap().unwrap();
    soon("the end of the connection", connection.closed()).await;
    assert!(connection.is_closed());
    let error = client.get::<String>("/name").await.unwrap_err();
    assert!(matches!(error, api::ClientError::Transport(TransportError::Closed { .. })), "{error:?}");
}

#[tokio::test]
async fn large_answers_come_as_a_stream_and_one_nobody_reads_holds_up_no_other() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let (connection, _served, _shutdown) = connected(&mut hub, &agent, agent_api("one")).await;
    let client = Client::new(connection);

    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(soon("the head of an endless answer", client.stream("/endless")).await.unwrap());
    }
    let mut body = soon("the head", client.stream("/chunks/256")).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = soon("a chunk", body.next()).await {
        let chunk = chunk.unwrap();
        for byte in chunk {
            assert_eq!(byte, (bytes / CHUNK_BYTES).to_le_bytes()[0]);
            bytes += 1;
        }
    }
    assert_eq!(bytes, 256 * CHUNK_BYTES);
    let name: String = soon("the name", client.get("/name")).await.unwrap();
    assert_eq!(name, "one");
    drop(unread);
    let name: String = soon("the name", client.get("/name")).await.unwrap();
    assert_eq!(name, "one");
}

#[tokio::test]
async fn a_closed_connection_fails_what_is_in_flight() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let (connection, served, _shutdown) = connected(&mut hub, &agent, agent_api("one")).await;
    let client = Client::new(Arc::clone(&connection) as Arc<dyn Transport>);
    let mut body = client.stream("/endless").await.unwrap();
    assert!(soon("a first chunk", body.next()).await.unwrap().is_ok());
    connection.close();
    let failure = async {
        while let Some(chunk) = body.next().await {
            if let Err(error) = chunk {
                return Some(error);
            }
        }
        None
    };
    let error = soon("the failure of the body", failure).await;
    assert!(matches!(error, Some(TransportError::Unreachable { .. })), "{error:?}");
    soon("the end of the connection", connection.closed()).await;
    assert!(client.get::<String>("/name").await.is_err());
    let _ = soon("the end of the agent", served).await.unwrap();
}

#[tokio::test]
async fn many_agents_are_told_apart() {
    const AGENTS: usize = 24;
    let mut hub = Hub::start().await;
    let mut links = Vec::new();
    let shutdown = CancellationToken::new();
    for index in 0..AGENTS {
        let id = format!("e-{index}");
        let dialer = hub.dialer(&hub.enrol(&id));
        let stop = shutdown.clone();
        links
            .push(tokio::spawn(async move { serve_control(dialer.dial_control().await?, agent_api(&id), stop).await }));
    }
    let mut clients = Vec::new();
    for _ in 0..AGENTS {
        let accepted = hub.next().await;
        let Route::AgentControl(identity) = accepted.route else { panic!("{:?}", accepted.route) };
        let id = identity.enrollment_id;
        let connection = ControlConnection::from_stream(accepted.stream, id.clone()).await.unwrap();
        clients.push((id, Client::new(Arc::new(connection))));
    }
    let names = clients.iter().map(|(id, client)| async move { (id, client.get::<String>("/name").await.unwrap()) });
    let names = soon("all names", futures::future::join_all(names)).await;
    assert!(names.iter().all(|(id, name)| *id == name));
    let distinct: std::collections::BTreeSet<_> = names.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), AGENTS);
    shutdown.cancel();
    for link in links {
        soon("the end of an agent", link).await.unwrap().unwrap();
    }
}
