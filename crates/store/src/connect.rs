//! Opening the database: what each of the two needs so that both behave alike.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Secret;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, SqlxMySqlConnector, SqlxSqliteConnector,
    TransactionOptions, TransactionTrait,
};
use serde::{Deserialize, Serialize};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::error::{StoreError, while_doing};
use crate::migration;
use crate::schema::{Dialect, MARIADB_COLLATION};

/// How long SQLite waits for another writer before it says busy.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections to a SQLite file: readers work beside the one writer.
const SQLITE_MAX_CONNECTIONS: u32 = 8;
/// Connections of one process to MariaDB; its default limit for everybody is 151.
const MARIADB_MAX_CONNECTIONS: u32 = 16;
/// How long a query waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// MariaDB's port.
const MARIADB_PORT: u16 = 3306;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DatabaseConfig {
    /// A file on this machine: the default.
    Sqlite {
        /// The file; made with mode 0600 when absent.
        path: PathBuf,
    },
    /// A MariaDB server (10.6 or newer): for several processes or machines.
    MariaDb {
        /// Name or address of the server.
        host: String,
        /// Its port.
        #[serde(default = "mariadb_port")]
        port: u16,
        /// The database; must exist.
        database: String,
        /// The user; needs all privileges on that database.
        username: String,
        /// File with the user's password.
        password_file: PathBuf,
        /// How the connection is protected.
        tls: MariaDbTls,
    },
}

fn mariadb_port() -> u16 {
    MARIADB_PORT
}

/// How the connection to MariaDB is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum MariaDbTls {
    /// Not at all: only for a server on this machine.
    Disabled,
    /// TLS; the server's certificate must come from a CA of the file and carry the host's name or address.
    VerifyIdentity {
        /// CA certificates, PEM.
        ca_file: PathBuf,
    },
}

/// An open database. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Store {
    connection: DatabaseConnection,
    dialect: Dialect,
}

impl Store {
    /// Opens the database. The schema is not touched: see [`Store::migrate`].
    ///
    /// # Errors
    /// A file of the configuration cannot be read, or the database cannot be opened.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, StoreError> {
        match config {
            DatabaseConfig::Sqlite { path } => Self::open_sqlite(path).await,
            DatabaseConfig::MariaDb { host, port, database, username, password_file, tls } => {
                let password = Secret::from_file(password_file)
                    .map_err(|source| StoreError::File { path: password_file.clone(), source })?;
                let options = MySqlConnectOptions::new()
                    .host(host)
                    .port(*port)
                    .database(database)
                    .username(username)
                    .password(password.expose())
                    .charset("utf8mb4");
                Self::open_mariadb(protect(options, tls)?, format!("{database} on {host}:{port}")).await
            }
        }
    }

    async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        create_private(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A change id that is gone after a power loss is harmless; a deleted volume whose change id came back is not.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(SQLITE_BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(quiet(options))
            .await
            .map_err(|source| StoreError::Connect { database: path.display().to_string(), source })?;
        let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
        Ok(Self { connection, dialect: Dialect::Sqlite })
    }

    async fn open_mariadb(options: MySqlConnectOptions, name: String) -> Result<Self, StoreError> {
        let pool = MySqlPoolOptions::new()
            .max_connections(MARIADB_MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for statement in SESSION_SETTINGS {
                        sqlx::Executor::execute(&mut *connection, *statement).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(quiet(options))
            .await
            .map_err(|source| StoreError::Connect { database: name, source })?;
        let connection = SqlxMySqlConnector::from_sqlx_mysql_pool(pool);
        Ok(Self { connection, dialect: Dialect::MariaDb })
    }

    /// Brings the schema up to date. Safe to call from several processes at once: one does it, the others wait.
    ///
    /// # Errors
    /// A migration fails, or another process takes too long with it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        migration::run(self).await
    }

    /// Whether the database answers: for health checks.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.connection.ping().await.map_err(while_doing("reach the database"))
    }

    /// Closes every connection; other clones stop working, too.
    ///
    /// # Errors
    /// The database does not close.
    pub async fn close(self) -> Result<(), StoreError> {
        self.connection.close().await.map_err(while_doing("close the database"))
    }

    /// For single statements.
    pub(crate) fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Begins a transaction that will write: on SQLite it waits for its turn now instead of failing later.
    pub(crate) async fn begin_write(&self) -> Result<DatabaseTransaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        self.connection.begin_with_options(options).await.map_err(while_doing("begin a transaction"))
    }
}

/// What every MariaDB connection needs: reads that see what others have committed, strict values, UTC.
const SESSION_SETTINGS: &[&str] = &[
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,PIPES_AS_CONCAT'",
    "SET SESSION time_zone = '+00:00'",
];

/// Statements are not logged: the log of a job is itself written with statements.
fn quiet<O: ConnectOptions>(options: O) -> O {
    options.disable_statement_logging()
}

fn protect(options: MySqlConnectOptions, tls: &MariaDbTls) -> Result<MySqlConnectOptions, StoreError> {
    match tls {
        MariaDbTls::Disabled => Ok(options.ssl_mode(MySqlSslMode::Disabled)),
        MariaDbTls::VerifyIdentity { ca_file } => {
            // sqlx reads the file only when it connects and then does not say which one it could not read.
            std::fs::File::open(ca_file).map_err(|source| StoreError::File { path: ca_file.clone(), source })?;
            Ok(options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(ca_file))
        }
    }
}

/// Makes an empty file only we can read; SQLite gives its companions the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// `ALTER DATABASE`: everything made later (also the migrations' own table) gets our character set.
pub(crate) fn database_defaults() -> String {
    format!("ALTER DATABASE CHARACTER SET utf8mb4 COLLATE {MARIADB_COLLATION}")
}
