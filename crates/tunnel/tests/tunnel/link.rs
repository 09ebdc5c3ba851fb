//! The supervisor of an agent's connection: it comes back after every loss and says what it is doing.

use std::sync::Arc;
use std::time::Duration;

use api::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tunnel::link::LinkTimings;
use tunnel::{AgentLink, ControlConnection, Dialer, HubAddress, LinkState, Refusal, refusal};

use crate::control::agent_api;
use crate::proxy::Proxy;
use crate::support::{Hub, soon};

fn quick() -> LinkTimings {
    LinkTimings {
        min_pause: Duration::from_millis(20),
        max_pause: Duration::from_millis(200),
        ..LinkTimings::default()
    }
}

async fn until(state: &mut watch::Receiver<LinkState>, what: &str, wanted: impl Fn(&LinkState) -> bool) -> LinkState {
    soon(what, state.wait_for(|state| wanted(state))).await.unwrap().clone()
}

#[tokio::test]
async fn a_cut_link_comes_back() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let proxy = Proxy::to(hub.address).await;
    let address = HubAddress::parse(&proxy.address.to_string()).unwrap();
    let link = AgentLink::new(Arc::new(Dialer::new(address, &agent.identity).unwrap()), quick());
    let mut state = link.state();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { link.run(agent_api("one"), stop).await });

    for _ in 0..3 {
        let connection = Arc::new(ControlConnection::from_stream(hub.next().await.stream, "e-1").await.unwrap());
        until(&mut state, "a connection", |state| matches!(state, LinkState::Connected { .. })).await;
        let client = Client::new(Arc::clone(&connection) as Arc<dyn api::Transport>);
        let name: String = soon("the name", client.get("/name")).await.unwrap();
        assert_eq!(name, "one");
        proxy.cut();
        soon("the hub to notice", connection.closed()).await;
        until(&mut state, "the agent to notice", |state| !matches!(state, LinkState::Connected { .. })).await;
    }
    shutdown.cancel();
    soon("the end of the link", running).await.unwrap();
    assert_eq!(*state.borrow(), LinkState::Stopped);
}

#[tokio::test]
async fn a_refused_link_says_what_to_do_and_comes_up_once_approved() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let link = AgentLink::new(hub.dialer(&agent), quick());
    let mut state = link.state();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { link.run(agent_api("one"), stop).await });

    refusal::refuse(hub.next().await.stream, Refusal::NotApproved).await;
    let waiting = until(&mut state, "the refusal", |state| matches!(state, LinkState::Waiting { .. })).await;
    let LinkState::Waiting { attempt, error, remedy, .. } = &waiting else { panic!("{waiting:?}") };
    assert_eq!(*attempt, 1);
    assert!(error.contains("not approved"), "{error}");
    assert!(remedy.as_ref().is_some_and(|remedy| remedy.contains("migratekit agent approve")));
    let json = serde_json::to_value(&waiting).unwrap();
    assert_eq!(json["state"], "waiting");

    let _connection = ControlConnection::from_stream(hub.next().await.stream, "e-1").await.unwrap();
    until(&mut state, "the connection", |state| matches!(state, LinkState::Connected { .. })).await;
    shutdown.cancel();
    soon("the end of the link", running).await.unwrap();
}

#[tokio::test]
async fn a_link_without_a_hub_keeps_trying_and_stops_when_told() {
    let hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HubAddress::parse(&free.local_addr().unwrap().to_string()).unwrap();
    drop(free);
    let link = AgentLink::new(Arc::new(Dialer::new(address, &agent.identity).unwrap()), quick());
    let mut state = link.state();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { link.run(agent_api("one"), stop).await });
    let third = until(&mut state, "a third attempt", |state| matches!(state, LinkState::Waiting { attempt: 3.., .. }));
    let LinkState::Waiting { error, remedy, pause_ms, .. } = third.await else { panic!() };
    assert!(error.contains("cannot be reached") && remedy.is_some(), "{error}");
    assert!((20..=200).contains(&pause_ms), "{pause_ms}");
    shutdown.cancel();
    soon("the end of the link", running).await.unwrap();
    assert_eq!(*state.borrow(), LinkState::Stopped);
}
