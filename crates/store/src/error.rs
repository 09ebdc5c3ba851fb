//! What can go wrong with the database, said in terms of what was being done.

use std::io;
use std::path::PathBuf;

use model::FailureKind;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file named in the configuration cannot be used.
    #[error("cannot use {path}, named in the database configuration")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database cannot be opened or reached at start.
    #[error("cannot open the database {database}")]
    Connect {
        /// Which, without its password.
        database: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] DbErr),
    /// Another process held the right to change the schema for too long.
    #[error("another process has been changing the database schema for {waited_seconds} s")]
    MigrationBusy {
        /// How long was waited, in seconds.
        waited_seconds: u32,
    },
    /// There is no such row.
    #[error("there is no {what} {id:?}")]
    NotFound {
        /// What kind of row.
        what: &'static str,
        /// Its id or name.
        id: String,
    },
    /// More than one row has that name.
    #[error("more than one {what} is called {name:?}")]
    Ambiguous {
        /// What kind of row.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The row is in a state that does not allow the change.
    #[error("{what} {id:?} is {from} and cannot become {to}")]
    Transition {
        /// What kind of row.
        what: &'static str,
        /// Its id.
        id: String,
        /// Its status.
        from: String,
        /// The status asked for.
        to: String,
    },
    /// Something else in the database stands against the change.
    #[error("{what} {id:?}: {reason}")]
    Conflict {
        /// What kind of row.
        what: &'static str,
        /// Its id.
        id: String,
        /// What stands against it.
        reason: String,
    },
    /// The lease was lost: another process works on this now.
    #[error("{what} {id:?} is worked on by another process")]
    Stale {
        /// What kind of row.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// What is to be written contradicts itself or lacks something.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was to be written.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Another row has the same unique value.
    #[error("cannot {doing}: it exists already")]
    Duplicate {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: DbErr,
    },
    /// A row that is referred to does not exist, or is still referred to.
    #[error("cannot {doing}: it refers to something that does not exist, or is still referred to")]
    ForeignKey {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: DbErr,
    },
    /// The database refuses the value.
    #[error("cannot {doing}: the database refuses a value")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: DbErr,
    },
    /// The database is busy or a deadlock was broken; the same may work at once.
    #[error("cannot {doing}: the database is busy")]
    Busy {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: DbErr,
    },
    /// The database cannot be reached.
    #[error("cannot {doing}: the database cannot be reached")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: DbErr,
    },
    /// The database has no space left.
    #[error("cannot {doing}: the database has no space left")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: DbErr,
    },
    /// Anything else.
    #[error("cannot {doing}")]
    Query {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: DbErr,
    },
}

impl StoreError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NotFound { .. } => FailureKind::NotFound,
            Self::Ambiguous { .. }
            | Self::Transition { .. }
            | Self::Conflict { .. }
            | Self::Stale { .. }
            | Self::Duplicate { .. }
            | Self::ForeignKey { .. } => FailureKind::Conflict,
            Self::File { .. } | Self::Invalid { .. } | Self::Refused { .. } => FailureKind::Invalid,
            Self::Connect { .. } | Self::MigrationBusy { .. } | Self::Busy { .. } | Self::Unreachable { .. } => {
                FailureKind::Unavailable
            }
            Self::Full { .. } => FailureKind::Exhausted,
            Self::Migrate(_) | Self::Query { .. } => FailureKind::Internal,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("Correct the path in the configuration, or the file's permissions."),
            Self::Connect { .. } | Self::Unreachable { .. } => {
                Some("Check that the database server runs, and its address, credentials and CA file.")
            }
            Self::Migrate(_) => Some("Restore the database from a backup or start the version that made it."),
            Self::Ambiguous { .. } => Some("Use the id instead of the name."),
            Self::Full { .. } => Some("Make space on the database's file system."),
            _ => None,
        }
    }

    /// A row that should have been there.
    pub(crate) fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }

    /// A conflict in words.
    pub(crate) fn conflict(what: &'static str, id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Conflict { what, id: id.into(), reason: reason.into() }
    }
}

/// Turns a database error met while `doing` something into a [`StoreError`].
pub(crate) fn while_doing(doing: &'static str) -> impl Fn(DbErr) -> StoreError {
    move |source| match nature(&source) {
        Nature::Duplicate => StoreError::Duplicate { doing, source },
        Nature::ForeignKey => StoreError::ForeignKey { doing, source },
        Nature::Refused => StoreError::Refused { doing, source },
        Nature::Busy => StoreError::Busy { doing, source },
        Nature::Unreachable => StoreError::Unreachable { doing, source },
        Nature::Full => StoreError::Full { doing, source },
        Nature::Other => StoreError::Query { doing, source },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Duplicate,
    ForeignKey,
    Refused,
    Busy,
    Unreachable,
    Full,
    Other,
}

fn nature(error: &DbErr) -> Nature {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => return Nature::Duplicate,
        Some(SqlErr::ForeignKeyConstraintViolation(_)) => return Nature::ForeignKey,
        _ => {}
    }
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Nature::Busy,
        DbErr::ConnectionAcquire(_) => Nature::Unreachable,
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => sqlx_nature(error),
        _ => Nature::Other,
    }
}

fn sqlx_nature(error: &sqlx::Error) -> Nature {
    match error {
        sqlx::Error::PoolTimedOut => Nature::Busy,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Nature::Unreachable
        }
        sqlx::Error::Database(error) => match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            Some(mariadb) => mariadb_nature(mariadb.number()),
            None => error.code().and_then(|code| code.parse().ok()).map_or(Nature::Other, sqlite_nature),
        },
        _ => Nature::Other,
    }
}

/// Server error codes, MariaDB knowledge base "MariaDB Error Codes".
fn mariadb_nature(number: u16) -> Nature {
    match number {
        // Lock wait timeout, deadlock, too many connections, changed since read.
        1205 | 1213 | 1040 | 1020 => Nature::Busy,
        // Server shutting down, killed, read-only because it is being switched over.
        1053 | 1317 | 1290 | 1927 => Nature::Unreachable,
        // Disk full, table full.
        1021 | 1114 => Nature::Full,
        // CHECK failed; too long; out of range; wrong value; null.
        4025 | 1406 | 1264 | 1265 | 1292 | 1366 | 1048 => Nature::Refused,
        _ => Nature::Other,
    }
}

/// Result codes, sqlite.org/rescode.html; the primary code is the lowest byte.
fn sqlite_nature(code: i32) -> Nature {
    match (code, code & 0xff) {
        // CHECK, NOT NULL, datatype of a STRICT table.
        (275 | 1299 | 3091, _) => Nature::Refused,
        (_, 5 | 6) => Nature::Busy,
        (_, 13) => Nature::Full,
        (_, 10 | 14) => Nature::Unreachable,
        _ => Nature::Other,
    }
}
