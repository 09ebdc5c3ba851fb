//! Bringing the schema up to date, one process at a time.
//!
//! SQLite changes its schema in a transaction. MariaDB does not, so every statement of a migration may be repeated,
//! and a named lock of the server keeps other processes out meanwhile.

mod m20261101_000001_initial;
mod m20261129_000002_certificates;
mod m20261129_000003_recovery_points;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, Statement};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use crate::connect::{Store, database_defaults};
use crate::error::StoreError;
use crate::schema::Dialect;

/// How long a process waits for another one's migration, in seconds.
const LOCK_WAIT_SECONDS: u32 = 120;

/// Every migration, oldest first. A released one is never edited.
struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261101_000001_initial::Initial),
            Box::new(m20261129_000002_certificates::Certificates),
            Box::new(m20261129_000003_recovery_points::RecoveryPoints),
        ]
    }
}

/// Applies what is not applied yet.
pub(crate) async fn run(store: &Store) -> Result<(), StoreError> {
    let transaction = store.begin_write().await?;
    match store.dialect() {
        Dialect::Sqlite => Migrator::up(&transaction, None).await.map_err(StoreError::Migrate)?,
        Dialect::MariaDb => under_lock(&transaction).await?,
    }
    transaction.commit().await.map_err(StoreError::Migrate)
}

/// The transaction only keeps everything on one connection: the lock belongs to it, and MariaDB commits at each
/// change of the schema anyway.
async fn under_lock(connection: &DatabaseTransaction) -> Result<(), StoreError> {
    let lock = format!("SELECT GET_LOCK(CONCAT('migratekit.', DATABASE()), {LOCK_WAIT_SECONDS}) AS taken");
    if number(connection, lock).await.map_err(StoreError::Migrate)? != Some(1) {
        return Err(StoreError::MigrationBusy { waited_seconds: LOCK_WAIT_SECONDS });
    }
    let applied = apply(connection).await;
    let unlock = "SELECT RELEASE_LOCK(CONCAT('migratekit.', DATABASE())) AS taken".to_owned();
    let released = number(connection, unlock).await;
    applied.and(released.map(|_| ())).map_err(StoreError::Migrate)
}

async fn apply(connection: &DatabaseTransaction) -> Result<(), DbErr> {
    connection.execute_unprepared(&database_defaults()).await?;
    Migrator::up(connection, None).await
}

#[derive(FromQueryResult)]
struct Taken {
    taken: Option<i64>,
}

async fn number(connection: &DatabaseTransaction, sql: String) -> Result<Option<i64>, DbErr> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = Taken::find_by_statement(statement).one(connection).await?;
    Ok(row.and_then(|row| row.taken))
}
