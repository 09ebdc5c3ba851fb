//! `vma_enrollments`: the agents that asked to belong to this hub, and which of them may.

use model::id;
use model::status::{AuditEvent, EnrollmentStatus, Transitions};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Stored, Timestamp, short_text};
use crate::vma_connection_audit::{self as audit, NewAudit};
use crate::{vma_active_connections as connections, vma_pairing_codes as codes};

pub use entity::Model as Enrollment;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "agent";

mod entity {
    use model::status::EnrollmentStatus;
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// An agent's enrolment.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vma_enrollments")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The pairing code it used.
        pub pairing_code_id: Option<String>,
        /// What the agent calls itself.
        pub vma_name: String,
        /// Its version.
        pub vma_version: String,
        /// Fingerprint of its public key.
        pub vma_fingerprint: String,
        /// Its public key.
        pub vma_public_key: String,
        /// Serial of its newest certificate.
        pub certificate_serial: Option<String>,
        /// When that ends.
        pub certificate_expires_at: Option<Timestamp>,
        /// Where it asked from.
        pub vma_ip_address: Option<String>,
        /// What it has to sign.
        pub challenge_nonce: Option<String>,
        /// Status.
        pub status: Stored<EnrollmentStatus>,
        /// Who approved it.
        pub approved_by: Option<String>,
        /// When.
        pub approved_at: Option<Timestamp>,
        /// When it expires unless approved.
        pub expires_at: Timestamp,
        /// When it asked.
        pub created_at: Timestamp,
        /// When the row changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An agent that asks to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnrollment {
    /// SHA-256 of the pairing code's secret part, hex.
    pub code_hash: String,
    /// What the agent calls itself.
    pub vma_name: String,
    /// Its version.
    pub vma_version: String,
    /// Fingerprint of its public key.
    pub vma_fingerprint: String,
    /// Its public key.
    pub vma_public_key: String,
    /// Where it asks from.
    pub vma_ip_address: String,
    /// What it has to sign.
    pub challenge_nonce: String,
    /// When the enrolment expires unless approved.
    pub expires_at: OffsetDateTime,
}

/// Uses the pairing code up and makes the enrolment, with its line in the audit, together. An earlier enrolment of the
/// same key that came to nothing is replaced; the key of an approved or revoked agent is refused.
///
/// # Errors
/// There is no such code, it was used or has expired; the key belongs to an agent; the database fails. The code is not
/// used up then.
pub async fn enroll(store: &Store, agent: &NewEnrollment, now: OffsetDateTime) -> Result<Enrollment, StoreError> {
    let enrolling = while_doing("enrol an agent");
    let now = Timestamp::from(now);
    let transaction = store.begin_write().await?;
    let code = codes::consume(&transaction, &agent.code_hash, now).await?;
    drop_abandoned(&transaction, &agent.vma_fingerprint).await?;
    let asked = agent.clone();
    let row = Enrollment {
        id: id::new_id(),
        pairing_code_id: Some(code.id.clone()),
        vma_name: short_text(&asked.vma_name),
        vma_version: short_text(&asked.vma_version),
        vma_fingerprint: asked.vma_fingerprint,
        vma_public_key: asked.vma_public_key,
        certificate_serial: None,
        certificate_expires_at: None,
        vma_ip_address: Some(short_text(&asked.vma_ip_address)),
        challenge_nonce: Some(asked.challenge_nonce),
        status: EnrollmentStatus::PendingVerification.into(),
        approved_by: None,
        approved_at: None,
        expires_at: asked.expires_at.into(),
        created_at: now,
        updated_at: now,
    };
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(&transaction);
    insert.await.map_err(&enrolling)?;
    codes::tie(&transaction, &code.id, &row.id).await?;
    audit::append_in(&transaction, &line(&row, AuditEvent::Enrollment, None, &asked.vma_ip_address)).await?;
    transaction.commit().await.map_err(&enrolling)?;
    Ok(row)
}

async fn drop_abandoned(transaction: &DatabaseTransaction, fingerprint: &str) -> Result<(), StoreError> {
    let dropping = while_doing("replace an abandoned enrolment");
    let known = Entity::find().filter(Column::VmaFingerprint.eq(fingerprint)).one(transaction);
    let Some(row) = known.await.map_err(&dropping)? else { return Ok(()) };
    if matches!(*row.status, EnrollmentStatus::Approved | EnrollmentStatus::Revoked) {
        return Err(StoreError::conflict(
            WHAT,
            row.id,
            format!("this key belongs to an agent that is {}", *row.status),
        ));
    }
    Entity::delete_by_id(row.id).exec(transaction).await.map(|_| ()).map_err(dropping)
}

fn line(row: &Enrollment, event: AuditEvent, approved_by: Option<&str>, source_ip: &str) -> NewAudit {
    NewAudit {
        enrollment_id: Some(row.id.clone()),
        event_type: event,
        vma_fingerprint: Some(row.vma_fingerprint.clone()),
        source_ip: source_ip.to_owned(),
        user_agent: None,
        approved_by: approved_by.map(str::to_owned),
        event_details: json!({ "vma_name": row.vma_name, "vma_version": row.vma_version }),
    }
}

/// The enrolment with this id.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_id(store: &Store, enrollment_id: &str) -> Result<Enrollment, StoreError> {
    get(store.connection(), enrollment_id).await
}

async fn get(connection: &impl ConnectionTrait, enrollment_id: &str) -> Result<Enrollment, StoreError> {
    let row = Entity::find_by_id(enrollment_id).one(connection).await.map_err(while_doing("read an agent"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, enrollment_id))
}

/// The enrolment of the key with this fingerprint, whatever its status.
///
/// # Errors
/// The database fails.
pub async fn by_fingerprint(store: &Store, fingerprint: &str) -> Result<Option<Enrollment>, StoreError> {
    let query = Entity::find().filter(Column::VmaFingerprint.eq(fingerprint));
    query.one(store.connection()).await.map_err(while_doing("read an agent"))
}

/// The agent with this fingerprint, if it may connect: what the gateway asks at each connection.
///
/// # Errors
/// The database fails.
pub async fn approved(store: &Store, fingerprint: &str) -> Result<Option<Enrollment>, StoreError> {
    Ok(by_fingerprint(store, fingerprint).await?.filter(|row| *row.status == EnrollmentStatus::Approved))
}

/// Every enrolment, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store) -> Result<Vec<Enrollment>, StoreError> {
    let query = Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    query.all(store.connection()).await.map_err(while_doing("list agents"))
}

/// A decision about an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The status it moves to.
    pub to: EnrollmentStatus,
    /// Who decided: a user, or the agent itself when it proved its key.
    pub by: String,
    /// Where from.
    pub source_ip: String,
}

/// Moves an enrolment, with its line in the audit; revoking also revokes its connection. An enrolment that has expired
/// cannot be approved.
///
/// # Errors
/// There is no such enrolment, its status forbids it, or it has expired; the database fails.
pub async fn decide(
    store: &Store,
    enrollment_id: &str,
    decision: &Decision,
    now: OffsetDateTime,
) -> Result<Enrollment, StoreError> {
    let deciding = while_doing("decide about an agent");
    let now = Timestamp::from(now);
    let to = decision.to;
    let transaction = store.begin_write().await?;
    let before = Entity::find_by_id(enrollment_id).lock_exclusive().one(&transaction).await.map_err(&deciding)?;
    let before = before.ok_or_else(|| StoreError::not_found(WHAT, enrollment_id))?;
    let lives_on = matches!(to, EnrollmentStatus::AwaitingApproval | EnrollmentStatus::Approved);
    if lives_on && before.expires_at <= now {
        return Err(StoreError::conflict(WHAT, enrollment_id, "its enrolment has expired: pair it again"));
    }
    let mut update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::UpdatedAt, Expr::value(now));
    if to == EnrollmentStatus::Approved {
        update = update
            .col_expr(Column::ApprovedBy, Expr::value(decision.by.as_str()))
            .col_expr(Column::ApprovedAt, Expr::value(now));
    }
    let from = may_precede(to).into_iter().filter(|from| **from != to);
    let update = update.filter(Column::Id.eq(enrollment_id)).filter(Column::Status.is_in(from));
    if update.exec(&transaction).await.map_err(&deciding)?.rows_affected == 0 {
        return Err(refused(WHAT, enrollment_id, Some(before.status), &to));
    }
    if to == EnrollmentStatus::Revoked {
        connections::revoke(&transaction, enrollment_id, &decision.by, now).await?;
    }
    if let Some(event) = event_of(to) {
        let audit_line = line(&before, event, Some(&decision.by), &decision.source_ip);
        audit::append_in(&transaction, &audit_line).await?;
    }
    let row = get(&transaction, enrollment_id).await?;
    transaction.commit().await.map_err(&deciding)?;
    Ok(row)
}

fn event_of(to: EnrollmentStatus) -> Option<AuditEvent> {
    match to {
        EnrollmentStatus::AwaitingApproval => Some(AuditEvent::Verification),
        EnrollmentStatus::Approved => Some(AuditEvent::Approval),
        EnrollmentStatus::Rejected => Some(AuditEvent::Rejection),
        EnrollmentStatus::Revoked => Some(AuditEvent::Revocation),
        EnrollmentStatus::PendingVerification | EnrollmentStatus::Expired => None,
    }
}

/// Records the newest certificate of an approved agent.
///
/// # Errors
/// There is no such agent, or it is not approved; the database fails.
pub async fn set_certificate(
    store: &Store,
    enrollment_id: &str,
    serial: &str,
    expires_at: OffsetDateTime,
) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::CertificateSerial, Expr::value(serial))
        .col_expr(Column::CertificateExpiresAt, Expr::value(Timestamp::from(expires_at)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(enrollment_id))
        .filter(Column::Status.eq(Stored(EnrollmentStatus::Approved)));
    let updated = update.exec(store.connection()).await.map_err(while_doing("record an agent's certificate"))?;
    if updated.rows_affected > 0 {
        return Ok(());
    }
    let row = by_id(store, enrollment_id).await?;
    Err(StoreError::conflict(WHAT, enrollment_id, format!("it is {} and gets no certificate", *row.status)))
}

/// Marks enrolments that nobody approved in time as expired; how many there were.
///
/// # Errors
/// The database fails.
pub async fn expire_abandoned(store: &Store, now: OffsetDateTime) -> Result<u64, StoreError> {
    let to = EnrollmentStatus::Expired;
    let now = Timestamp::from(now);
    let open = EnrollmentStatus::may_come_from(to).into_iter();
    let open = open.filter(|from| !matches!(from, EnrollmentStatus::Approved | EnrollmentStatus::Expired)).map(Stored);
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Status.is_in(open))
        .filter(Column::ExpiresAt.lte(now));
    let updated = update.exec(store.connection()).await.map_err(while_doing("expire abandoned enrolments"))?;
    Ok(updated.rows_affected)
}
