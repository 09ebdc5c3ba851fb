//! The first migration: the whole schema as [`crate::schema`] describes it.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::schema::{Dialect, initial_statements};

/// Makes every table and view.
pub(super) struct Initial;

impl MigrationName for Initial {
    fn name(&self) -> &'static str {
        "m20261101_000001_initial"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Initial {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let dialect = match connection.get_database_backend() {
            DbBackend::MySql => Dialect::MariaDb,
            _ => Dialect::Sqlite,
        };
        for statement in initial_statements(dialect) {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
