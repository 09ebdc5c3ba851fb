//! A running agent: its connection, its local status, and its certificate's successor.

use model::FailureKind;
use tokio_util::sync::CancellationToken;
use tunnel::AgentIdentity;
use vma::{VmaConfig, VmaError};

use crate::hub::{Hub, soon};

/// Older than the twenty days after which a certificate of thirty is due.
const OLD: time::Duration = time::Duration::days(25);

#[tokio::test]
async fn an_agent_without_identity_does_not_start() {
    let hub = Hub::start().await;
    let error = vma::run(hub.config(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, VmaError::NotEnrolled), "{error:?}");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("migratekit enroll")));
}

#[tokio::test]
async fn a_certificate_that_is_due_is_replaced_and_used() {
    let mut hub = Hub::start().await;
    let config = hub.config();
    let old = hub.enrol(&config.state_dir, OLD);
    let (serial, fingerprint) = (old.facts().certificate_serial.clone(), old.facts().fingerprint.clone());
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(vma::run(config.clone(), shutdown.clone()));
    hub.connected().await;
    let renewed = async {
        loop {
            let identity = AgentIdentity::load(&config.state_dir).unwrap().unwrap();
            if identity.facts().certificate_serial != serial {
                return identity;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let fresh = soon("the new certificate", renewed).await;
    assert_eq!(fresh.facts().fingerprint, fingerprint, "the key stays");
    assert!(fresh.facts().expires_at > old.facts().expires_at + time::Duration::days(20));
    shutdown.cancel();
    soon("the end of the agent", agent).await.unwrap().unwrap();

    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(vma::run(config, shutdown.clone()));
    assert_eq!(hub.connected().await, fresh.facts().certificate_serial);
    shutdown.cancel();
    soon("the end of the agent", agent).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_local_status_shows_and_changes_nothing() {
    let mut hub = Hub::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = VmaConfig { listen: free, ..hub.config() };
    hub.enrol(&config.state_dir, time::Duration::ZERO);
    std::fs::create_dir_all(config.run_folder("job-old")).unwrap();
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(vma::run(config.clone(), shutdown.clone()));
    hub.connected().await;
    assert!(!config.run_folder("job-old").exists(), "what a killed process left is gone");
    let ask = async |method: &str, path: &str| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(free).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("GET", "/health").await.contains("\"protocol_version\":\"1\""));
    assert!(ask("GET", "/runs").await.ends_with("[]"));
    for (method, path, status) in [
        ("GET", "/runs/job-9", "404"),
        ("POST", "/runs", "405"),
        ("POST", "/runs/job-9/cancel", "404"),
        ("POST", "/discover", "404"),
        ("POST", "/vms/vm-1/remove-our-vm-snapshots", "404"),
    ] {
        let answer = ask(method, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }

    let taken = vma::run(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(taken, VmaError::Listen(_)), "{taken:?}");
    assert_eq!(taken.kind(), FailureKind::Conflict);
    shutdown.cancel();
    soon("the end of the agent", agent).await.unwrap().unwrap();
}
