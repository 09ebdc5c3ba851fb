//! The second migration: certificates of equality.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::schema::{Dialect, certificate_statements};

/// Makes `equality_certificates`.
pub(super) struct Certificates;

impl MigrationName for Certificates {
    fn name(&self) -> &'static str {
        "m20261129_000002_certificates"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Certificates {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let dialect = match connection.get_database_backend() {
            DbBackend::MySql => Dialect::MariaDb,
            _ => Dialect::Sqlite,
        };
        for statement in certificate_statements(dialect) {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
