//! Pairing, enrolment, connections, audit, credentials and tokens, on both databases.

use model::FailureKind;
use model::status::{AuditEvent, ConnectionStatus, EnrollmentStatus, Role};
use store::api_tokens::NewToken;
use store::vma_enrollments::{Decision, Enrollment, NewEnrollment};
use store::vmware_credentials::NewCredential;
use store::{
    Store, StoreError, api_tokens, users, vma_active_connections as connections, vma_connection_audit as audit,
    vma_enrollments as enrollments, vma_pairing_codes as codes, vmware_credentials,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::backend::{Backend, Database};

const NOW: OffsetDateTime = datetime!(2026-05-06 07:08:09 UTC);

#[tokio::test]
async fn agents_on_sqlite() {
    agents(&Backend::sqlite()).await;
}

#[tokio::test]
async fn agents_on_mariadb() {
    agents(&Backend::mariadb()).await;
}

async fn agents(backend: &Backend) {
    a_pairing_code_works_once(&backend.database("codes").await).await;
    an_enrolment_is_decided_step_by_step(&backend.database("decisions").await).await;
    a_key_enrols_again_only_after_it_came_to_nothing(&backend.database("keys").await).await;
    tokens_speak_for_active_users(&backend.database("tokens").await).await;
    the_default_credential_is_one(&backend.database("credentials").await).await;
}

fn agent(code_hash: &str, fingerprint: &str) -> NewEnrollment {
    NewEnrollment {
        code_hash: code_hash.to_owned(),
        vma_name: "agent".to_owned(),
        vma_version: "0.1.0".to_owned(),
        vma_fingerprint: fingerprint.to_owned(),
        vma_public_key: "key".to_owned(),
        vma_ip_address: "192.0.2.7".to_owned(),
        challenge_nonce: "bm9uY2U=".to_owned(),
        expires_at: NOW + Duration::hours(1),
    }
}

async fn paired(store: &Store, code_hash: &str, fingerprint: &str) -> Enrollment {
    codes::create(store, code_hash, "admin", NOW + Duration::minutes(10)).await.unwrap();
    enrollments::enroll(store, &agent(code_hash, fingerprint), NOW).await.unwrap()
}

fn decision(to: EnrollmentStatus) -> Decision {
    Decision { to, by: "admin".to_owned(), source_ip: "192.0.2.1".to_owned() }
}

async fn a_pairing_code_works_once(database: &Database<'_>) {
    let store = &database.store;
    codes::create(store, "code", "admin", NOW + Duration::minutes(10)).await.unwrap();
    let tries = (0..12).map(|n| {
        let (store, agent) = (store.clone(), agent("code", &format!("fingerprint-{n}")));
        tokio::spawn(async move { enrollments::enroll(&store, &agent, NOW).await })
    });
    let tries: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(tries.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in tries.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(error.to_string().contains("it was used already"), "{error}");
    }
    assert_eq!(enrollments::list(store).await.unwrap().len(), 1);
    assert_eq!(
        database.number("SELECT COUNT(*) FROM vma_pairing_codes WHERE used_by_enrollment_id IS NOT NULL").await,
        1
    );

    codes::create(store, "old", "admin", NOW).await.unwrap();
    let error = enrollments::enroll(store, &agent("old", "late"), NOW).await.unwrap_err();
    assert!(error.to_string().contains("it has expired"), "{error}");
    codes::note_failure(store, "old").await.unwrap();
    codes::note_failure(store, "old").await.unwrap();
    assert_eq!(database.number("SELECT failed_attempts FROM vma_pairing_codes WHERE code_hash = 'old'").await, 2);
    let error = enrollments::enroll(store, &agent("guessed", "guess"), NOW).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    assert!(!error.to_string().contains("guessed"), "a guess is repeated in the error");
}

async fn an_enrolment_is_decided_step_by_step(database: &Database<'_>) {
    let store = &database.store;
    let row = paired(store, "code", "fp").await;
    let decide = |to| enrollments::decide(store, &row.id, Box::leak(Box::new(decision(to))), NOW);
    let error = decide(EnrollmentStatus::Approved).await.unwrap_err();
    assert!(matches!(error, StoreError::Transition { .. }), "approved without proof: {error:?}");
    assert_eq!(enrollments::approved(store, "fp").await.unwrap(), None);
    let error = enrollments::set_certificate(store, &row.id, "01", NOW).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict);
    decide(EnrollmentStatus::AwaitingApproval).await.unwrap();
    let late = NOW + Duration::hours(2);
    let error = enrollments::decide(store, &row.id, &decision(EnrollmentStatus::Approved), late).await.unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
    let approved = decide(EnrollmentStatus::Approved).await.unwrap();
    assert_eq!((approved.approved_by.as_deref(), approved.approved_at.map(|at| *at)), (Some("admin"), Some(NOW)));
    enrollments::set_certificate(store, &row.id, "01", NOW + Duration::days(30)).await.unwrap();
    assert_eq!(enrollments::expire_abandoned(store, late).await.unwrap(), 0, "an approved agent expired");

    connections::connected(store, &row.id, "192.0.2.7:5555", "migratekit-agent/1").await.unwrap();
    connections::seen(store, &row.id, Some(3)).await.unwrap();
    connections::disconnected(store, None).await.unwrap();
    connections::connected(store, &row.id, "192.0.2.7:5556", "migratekit-agent/1").await.unwrap();
    decide(EnrollmentStatus::Revoked).await.unwrap();
    assert_eq!(enrollments::approved(store, "fp").await.unwrap(), None);
    let error = connections::connected(store, &row.id, "192.0.2.7:5557", "migratekit-agent/1").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict);
    let connection = connections::list(store).await.unwrap().remove(0);
    assert_eq!(*connection.connection_status, ConnectionStatus::Revoked);
    assert_eq!((connection.revoked_by.as_deref(), connection.round_trip_ms.map(|ms| *ms)), (Some("admin"), Some(3)));

    // The audit outlives the enrolment.
    database.sql("DELETE FROM vma_enrollments").await.unwrap();
    assert_eq!(connections::list(store).await.unwrap(), []);
    let lines = audit::list(store, None, 10).await.unwrap();
    let events: Vec<_> = lines.iter().map(|line| *line.event_type).collect();
    let told = [AuditEvent::Revocation, AuditEvent::Approval, AuditEvent::Verification, AuditEvent::Enrollment];
    assert_eq!(events, told);
    assert!(lines.iter().all(|line| line.enrollment_id.is_none() && line.vma_fingerprint.as_deref() == Some("fp")));
    assert_eq!(audit::list(store, Some(&lines[2].id), 10).await.unwrap().len(), 1);
}

async fn a_key_enrols_again_only_after_it_came_to_nothing(database: &Database<'_>) {
    let store = &database.store;
    let abandoned = paired(store, "code-1", "fp").await;
    let late = NOW + Duration::hours(1);
    assert_eq!(enrollments::expire_abandoned(store, late - Duration::microseconds(1)).await.unwrap(), 0);
    assert_eq!(enrollments::expire_abandoned(store, late).await.unwrap(), 1);
    let row = paired(store, "code-2", "fp").await;
    assert_eq!(enrollments::by_id(store, &abandoned.id).await.unwrap_err().kind(), FailureKind::NotFound);
    for to in [EnrollmentStatus::AwaitingApproval, EnrollmentStatus::Approved] {
        enrollments::decide(store, &row.id, &decision(to), NOW).await.unwrap();
    }
    codes::create(store, "code-3", "admin", NOW + Duration::minutes(10)).await.unwrap();
    let error = enrollments::enroll(store, &agent("code-3", "fp"), NOW).await.unwrap_err();
    assert!(error.to_string().contains("belongs to an agent that is approved"), "{error}");
    assert_eq!(database.number("SELECT COUNT(*) FROM vma_pairing_codes WHERE used_at IS NULL").await, 1);
}

async fn tokens_speak_for_active_users(database: &Database<'_>) {
    let store = &database.store;
    let admin = users::create(store, "admin", Role::Operator).await.unwrap();
    assert!(matches!(users::create(store, "admin", Role::Viewer).await.unwrap_err(), StoreError::Duplicate { .. }));
    assert_eq!(users::by_name(store, "admin").await.unwrap(), Some(admin.clone()));
    let token = NewToken {
        user_id: admin.id.clone(),
        name: "first".to_owned(),
        token_hash: "hash".to_owned(),
        role: Role::Administrator,
        expires_at: Some(NOW + Duration::hours(1)),
    };
    let kept = api_tokens::create(store, &token).await.unwrap();
    let bearer = api_tokens::verify(store, "hash", NOW).await.unwrap().unwrap();
    assert_eq!((bearer.user_name.as_str(), bearer.role), ("admin", Role::Operator));
    api_tokens::note_use(store, &kept.id, NOW).await.unwrap();
    assert_eq!(api_tokens::of_user(store, &admin.id).await.unwrap()[0].last_used_at.map(|at| *at), Some(NOW));
    assert_eq!(api_tokens::verify(store, "hash", NOW + Duration::hours(1)).await.unwrap(), None);
    assert_eq!(api_tokens::verify(store, "HASH", NOW).await.unwrap(), None, "hashes compare byte by byte");
    database.sql("UPDATE users SET is_active = 0").await.unwrap();
    assert_eq!(api_tokens::verify(store, "hash", NOW).await.unwrap(), None);
    api_tokens::delete(store, &kept.id).await.unwrap();
    assert_eq!(api_tokens::delete(store, &kept.id).await.unwrap_err().kind(), FailureKind::NotFound);
}

async fn the_default_credential_is_one(database: &Database<'_>) {
    let store = &database.store;
    let credential = |name: &str, is_default| NewCredential {
        id: model::id::new_id(),
        credential_name: name.to_owned(),
        vcenter_host: format!("{name}.example"),
        username: "migratekit@vsphere.local".to_owned(),
        password_encrypted: "v1:sealed".to_owned(),
        datacenter: String::new(),
        tls_thumbprint: None,
        is_default,
        created_by: None,
    };
    assert_eq!(vmware_credentials::default(store).await.unwrap_err().kind(), FailureKind::NotFound);
    let first = vmware_credentials::create(store, &credential("a", false)).await.unwrap();
    assert_eq!(vmware_credentials::default(store).await.unwrap().id, first.id, "the only one");
    vmware_credentials::create(store, &credential("b", false)).await.unwrap();
    assert_eq!(vmware_credentials::default(store).await.unwrap_err().kind(), FailureKind::Conflict);
    vmware_credentials::create(store, &credential("c", true)).await.unwrap();
    let last = vmware_credentials::create(store, &credential("d", true)).await.unwrap();
    assert_eq!(vmware_credentials::default(store).await.unwrap().id, last.id);
    vmware_credentials::note_use(store, &last.id).await.unwrap();
    let used = vmware_credentials::find(store, "d").await.unwrap();
    assert_eq!((*used.usage_count, used.last_used.is_some()), (1, true));
    vmware_credentials::delete(store, &last.id).await.unwrap();
    assert_eq!(vmware_credentials::list(store).await.unwrap().len(), 3);
}
