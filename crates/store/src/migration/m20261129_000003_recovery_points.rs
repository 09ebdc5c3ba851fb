//! The third migration: recovery points, and how many of them a VM keeps.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::schema::{Dialect, recovery_point_statements};

/// Makes `recovery_points` and adds `keep_points` to the VMs.
pub(super) struct RecoveryPoints;

impl MigrationName for RecoveryPoints {
    fn name(&self) -> &'static str {
        "m20261129_000003_recovery_points"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for RecoveryPoints {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let dialect = match connection.get_database_backend() {
            DbBackend::MySql => Dialect::MariaDb,
            _ => Dialect::Sqlite,
        };
        for statement in recovery_point_statements(dialect) {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
