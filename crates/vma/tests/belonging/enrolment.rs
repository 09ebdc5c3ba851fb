//! From a code to an identity, and every way that can end.

use std::sync::Arc;

use model::FailureKind;
use model::status::EnrollmentStatus;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnel::{AgentIdentity, PairingCode};
use vma::VmaError;
use vma::enrol::{EnrolRequest, Enrolled, enrol};

use crate::hub::{Hub, soon};

struct Enrolling {
    outcome: JoinHandle<Result<Enrolled, VmaError>>,
    told: Arc<Mutex<Vec<String>>>,
    shutdown: CancellationToken,
}

fn begin(hub: &Hub, code: &str) -> Enrolling {
    let (config, shutdown) = (hub.config(), CancellationToken::new());
    let request = EnrolRequest { code: code.to_owned(), name: Some("vma-berlin".to_owned()) };
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let (hears, stop) = (Arc::clone(&told), shutdown.clone());
    let outcome = tokio::spawn(async move {
        enrol(&config, &request, |fingerprint| hears.lock().push(fingerprint.to_owned()), stop).await
    });
    Enrolling { outcome, told, shutdown }
}

async fn outcome(enrolling: Enrolling) -> Result<Enrolled, VmaError> {
    soon("the end of the enrolment", enrolling.outcome).await.unwrap()
}

#[tokio::test]
async fn an_approved_agent_has_an_identity_of_this_hub() {
    let hub = Hub::start().await;
    let code = hub.shared.code.text();
    let enrolling = begin(&hub, &code.expose().to_lowercase());
    hub.polled(1).await;
    let told = enrolling.told.lock().clone();
    hub.decide(EnrollmentStatus::Approved);
    let enrolled = outcome(enrolling).await.unwrap();
    assert_eq!((told.len(), &told[0]), (1, &enrolled.fingerprint));
    let identity = AgentIdentity::load(&hub.config().state_dir).unwrap().unwrap();
    assert_eq!(identity.facts().fingerprint, enrolled.fingerprint);
    assert_eq!((identity.facts().enrollment_id.as_str(), enrolled.enrollment_id.as_str()), ("e-1", "e-1"));
    assert_eq!(tunnel::certificate::fingerprint(identity.hub_ca()), hub.ca_fingerprint());

    let asked = hub.shared.known.lock().asked.clone();
    assert_eq!((asked.len(), asked[0].vma_name.as_str()), (1, "vma-berlin"));
    assert_eq!(asked[0].pairing_code, *hub.shared.code.secret(), "only the secret part is sent");
    let left: Vec<_> =
        std::fs::read_dir(hub.config().state_dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("enrolment.")), "{left:?}");
}

#[tokio::test]
async fn a_lost_answer_to_the_proof_is_no_failure() {
    let hub = Hub::start().await;
    hub.shared.known.lock().lost_answers = 1;
    let enrolling = begin(&hub, hub.shared.code.text().expose());
    hub.polled(1).await;
    hub.decide(EnrollmentStatus::Approved);
    outcome(enrolling).await.unwrap();
}

#[tokio::test]
async fn a_rejected_agent_forgets_its_key() {
    let hub = Hub::start().await;
    let enrolling = begin(&hub, hub.shared.code.text().expose());
    hub.polled(1).await;
    hub.decide(EnrollmentStatus::Rejected);
    let error = outcome(enrolling).await.unwrap_err();
    assert!(matches!(error, VmaError::NotApproved { status: EnrollmentStatus::Rejected }), "{error:?}");
    assert_eq!((error.kind(), error.remedy().is_some()), (FailureKind::Forbidden, true));
    assert!(AgentIdentity::load(&hub.config().state_dir).unwrap().is_none());
    let files = std::fs::read_dir(hub.config().state_dir).unwrap().map(|file| file.unwrap().file_name());
    assert!(!files.into_iter().any(|name| name == "enrolment.key" || name == "enrolment.id"));
}

#[tokio::test]
async fn an_interrupted_wait_goes_on_where_it_stopped() {
    let hub = Hub::start().await;
    let first = begin(&hub, hub.shared.code.text().expose());
    hub.polled(1).await;
    first.shutdown.cancel();
    let told = Arc::clone(&first.told);
    assert!(matches!(outcome(first).await, Err(VmaError::Cancelled)));
    hub.decide(EnrollmentStatus::Approved);
    let second = outcome(begin(&hub, hub.shared.code.text().expose())).await.unwrap();
    assert_eq!(*told.lock(), [second.fingerprint]);
    assert_eq!(hub.shared.known.lock().asked.len(), 1, "the code is used once");
}

#[tokio::test]
async fn wrong_codes_and_other_hubs_are_refused() {
    let hub = Hub::start().await;
    let error = outcome(begin(&hub, "short")).await.unwrap_err();
    assert!(matches!(error, VmaError::PairingCode(_)), "{error:?}");
    assert_eq!((error.kind(), error.remedy().is_some()), (FailureKind::Invalid, true));

    // Right form, right hub, but nobody made it.
    let ca = tunnel::CaPrefix::of(&ca_of(&hub));
    let made_up = format!("0000-0000-0000-{ca}");
    let error = outcome(begin(&hub, &made_up)).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Forbidden, "{error:?}");

    // The code of another hub: nothing is sent to this one.
    let other = Hub::start().await;
    let error = outcome(begin(&hub, other.shared.code.text().expose())).await.unwrap_err();
    assert!(matches!(error, VmaError::Tunnel(tunnel::TunnelError::NotThePinnedHub { .. })), "{error:?}");
    assert!(hub.shared.known.lock().asked.is_empty());
}

fn ca_of(hub: &Hub) -> rustls_pki_types::CertificateDer<'static> {
    let identity = hub.enrol(&hub.folder.path().join("another-agent"), time::Duration::ZERO);
    let code = PairingCode::generate(identity.hub_ca()).unwrap();
    assert_eq!(code.ca_prefix(), hub.shared.code.ca_prefix());
    identity.hub_ca().clone()
}
