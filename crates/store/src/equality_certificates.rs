//! `equality_certificates`: what was proven at each commit, signed. Written by the commit alone; goes with its disk.

use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use crate::commit::CommittedDisk;
use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::replication_jobs::ReplicationJob;
use crate::value::Timestamp;
use crate::vm_disks::VmDisk;

use entity::{Column, Entity};

pub use entity::Model as EqualityCertificate;

/// What these rows are called in errors.
const WHAT: &str = "certificate";

mod entity {
    use model::status::ReplicationType;
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A certificate of equality.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "equality_certificates")]
    pub struct Model {
        /// Row id, which the document names, too.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The VM.
        pub vm_context_id: String,
        /// The disk (row id).
        pub vm_disk_id: String,
        /// The replication it was issued for, while its row is kept.
        pub job_id: Option<String>,
        /// `disk-<device key>`.
        pub disk_id: String,
        /// The change id the replica is equal to the source at.
        pub change_id: String,
        /// The root over all leaves, hex.
        pub root_digest: String,
        /// Size of the disk in bytes.
        pub capacity_bytes: Count,
        /// Size of a leaf in bytes.
        pub leaf_size_bytes: Count,
        /// Leaves of the disk.
        pub leaves_total: Count,
        /// Leaves verified in this replication.
        pub leaves_verified: Count,
        /// How it was found what to copy.
        pub sync_type: Stored<ReplicationType>,
        /// The one of the same disk before it.
        pub previous_certificate_id: Option<String>,
        /// Exactly what was signed.
        pub document: String,
        /// Its signature, hex.
        pub signature: String,
        /// The public key, hex.
        pub public_key: String,
        /// When it was committed.
        pub created_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The certificate of one disk, to be committed with its change id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// Id, which the document names, too.
    pub id: String,
    /// The root over all leaves, hex.
    pub root_digest: String,
    /// Size of a leaf in bytes.
    pub leaf_size_bytes: u64,
    /// Leaves of the disk.
    pub leaves_total: u64,
    /// Leaves verified in this replication.
    pub leaves_verified: u64,
    /// The one of the same disk before it.
    pub previous_certificate_id: Option<String>,
    /// Exactly what was signed.
    pub document: String,
    /// Its signature, hex.
    pub signature: String,
    /// The public key, hex.
    pub public_key: String,
}

/// Stores the certificate of a disk, in the transaction of its commit.
pub(crate) async fn insert(
    transaction: &DatabaseTransaction,
    job: &ReplicationJob,
    row: &VmDisk,
    disk: &CommittedDisk,
) -> Result<(), StoreError> {
    let new = disk.certificate.clone();
    let certificate = EqualityCertificate {
        id: new.id,
        vm_context_id: job.vm_context_id.clone(),
        vm_disk_id: row.id.clone(),
        job_id: Some(job.id.clone()),
        disk_id: disk.disk_id.clone(),
        change_id: disk.change_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        root_digest: new.root_digest,
        capacity_bytes: disk.capacity_bytes.into(),
        leaf_size_bytes: new.leaf_size_bytes.into(),
        leaves_total: new.leaves_total.into(),
        leaves_verified: new.leaves_verified.into(),
        sync_type: disk.sync_type.into(),
        previous_certificate_id: new.previous_certificate_id,
        document: new.document,
        signature: new.signature,
        public_key: new.public_key,
        created_at: Timestamp::now(),
    };
    let insert = Entity::insert(certificate.into_active_model()).exec_without_returning(transaction);
    insert.await.map(|_| ()).map_err(while_doing("store a certificate"))
}

/// One certificate.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn by_id(store: &Store, id: &str) -> Result<EqualityCertificate, StoreError> {
    let row = Entity::find_by_id(id).one(store.connection()).await.map_err(while_doing("read a certificate"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, id))
}

/// The newest certificate of a disk (row id), if it has one.
///
/// # Errors
/// The database fails.
pub async fn newest(store: &Store, vm_disk_id: &str) -> Result<Option<EqualityCertificate>, StoreError> {
    let query = Entity::find().filter(Column::VmDiskId.eq(vm_disk_id)).order_by_desc(Column::CreatedAt);
    let query = query.order_by_desc(Column::Id);
    query.one(store.connection()).await.map_err(while_doing("read the newest certificate of a disk"))
}

/// The certificates a replication was committed with, by disk.
///
/// # Errors
/// The database fails.
pub async fn of_job(store: &Store, job_id: &str) -> Result<Vec<EqualityCertificate>, StoreError> {
    let query = Entity::find().filter(Column::JobId.eq(job_id)).order_by_asc(Column::DiskId);
    query.all(store.connection()).await.map_err(while_doing("list the certificates of a replication"))
}

/// Certificates, of one VM or of all, newest first, at most `limit`, older than the one with the id `before`.
///
/// # Errors
/// The database fails.
pub async fn list(
    store: &Store,
    context_id: Option<&str>,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<EqualityCertificate>, StoreError> {
    // Ids are UUIDv7: they sort by the time they were made.
    let query = Entity::find()
        .apply_if(context_id, |query, context_id| query.filter(Column::VmContextId.eq(context_id)))
        .apply_if(before, |query, before| query.filter(Column::Id.lt(before)))
        .order_by_desc(Column::Id)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list certificates"))
}
