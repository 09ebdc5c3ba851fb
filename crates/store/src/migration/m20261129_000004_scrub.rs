//! The fourth migration: how far the scrub of each disk is.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::schema::{Dialect, scrub_statements};

/// Makes `disk_scrubs`.
pub(super) struct Scrub;

impl MigrationName for Scrub {
    fn name(&self) -> &'static str {
        "m20261129_000004_scrub"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Scrub {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let dialect = match connection.get_database_backend() {
            DbBackend::MySql => Dialect::MariaDb,
            _ => Dialect::Sqlite,
        };
        for statement in scrub_statements(dialect) {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
