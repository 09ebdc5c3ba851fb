//! The two databases behind one face: a fresh, migrated database per case, and SQL past the store's queries.

use std::path::PathBuf;
use std::sync::Arc;

use store::{DatabaseConfig, Store};
use tempfile::TempDir;

use crate::mariadb::MariaDbServer;

/// One of the two databases.
pub(crate) enum Backend {
    Sqlite(TempDir),
    MariaDb(Arc<MariaDbServer>),
}

/// A fresh database of one case.
pub(crate) struct Database<'a> {
    backend: &'a Backend,
    name: &'static str,
    pub(crate) store: Store,
}

impl Backend {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn mariadb() -> Self {
        Self::MariaDb(Arc::new(MariaDbServer::start(None).unwrap_or_else(|error| panic!("{error}"))))
    }

    /// Makes the database `name` and migrates it.
    pub(crate) async fn database(&self, name: &'static str) -> Database<'_> {
        let config = match self {
            Self::Sqlite(_) => DatabaseConfig::Sqlite { path: self.path(name) },
            Self::MariaDb(server) => server.database(name).unwrap(),
        };
        let store = Store::connect(&config).await.unwrap();
        store.migrate().await.unwrap();
        Database { backend: self, name, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join(name),
            Self::MariaDb(_) => unreachable!("a server has no file"),
        }
    }
}

impl Database<'_> {
    /// Runs SQL past the store, as an operator with a database client would.
    pub(crate) async fn sql(&self, sql: &str) -> Result<(), String> {
        self.query(sql).await.map(|_| ())
    }

    /// The first column of every row, as text.
    pub(crate) async fn query(&self, sql: &str) -> Result<Vec<String>, String> {
        match self.backend {
            Backend::MariaDb(server) => {
                // On another thread: rollbacks of the store wait for this one.
                let (server, sql) = (server.clone(), format!("USE {}; {sql}", self.name));
                let shown = tokio::task::spawn_blocking(move || server.execute(&sql)).await.unwrap();
                let shown = shown.map_err(|error| error.to_string())?;
                Ok(shown.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect())
            }
            Backend::Sqlite(_) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.backend.path(self.name));
                let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
                let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&pool).await;
                let rows = rows.map_err(|error| error.to_string())?;
                Ok(rows.iter().map(first_as_text).collect())
            }
        }
    }

    /// The number a query answers with.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.query(sql).await.unwrap().first().and_then(|text| text.parse().ok()).unwrap_or(-1)
    }
}

fn first_as_text(row: &sqlx::sqlite::SqliteRow) -> String {
    use sqlx::Row;
    row.try_get::<String, _>(0)
        .or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string()))
        .unwrap_or_default()
}
