//! From the neutral description to the SQL of one database.

use super::MARIADB_COLLATION;
use super::description::{Column, Kind, OnDelete, Table};

/// Longest identifier MariaDB takes, in characters.
const MAX_IDENTIFIER_CHARS: usize = 64;

/// The SQL of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SQLite 3.37 or newer (`STRICT` tables).
    Sqlite,
    /// MariaDB 10.6 or newer.
    MariaDb,
}

impl Dialect {
    /// A quoted identifier.
    fn quote(self, identifier: &str) -> String {
        match self {
            Self::Sqlite => format!("\"{identifier}\""),
            Self::MariaDb => format!("`{identifier}`"),
        }
    }

    fn quote_all(self, identifiers: &[&str]) -> String {
        identifiers.iter().map(|name| self.quote(name)).collect::<Vec<_>>().join(", ")
    }

    /// `CREATE TABLE` with everything but the references to tables that are not `known` yet (MariaDB only), and
    /// the indexes SQLite wants apart.
    pub(super) fn create_table(self, table: &Table, known: &[&str]) -> Vec<String> {
        let mut parts: Vec<String> = table.columns.iter().map(|column| self.column(table, column)).collect();
        parts.extend(table.all_uniques().iter().map(|columns| self.unique(table, columns)));
        parts.extend(table.columns.iter().filter_map(|column| self.value_check(table, column)));
        parts.extend(table.checks.iter().map(|(name, condition)| {
            format!("CONSTRAINT {} CHECK ({condition})", self.quote(&constraint("ck", table, &[name])))
        }));
        let early = |column: &&Column| {
            self == Self::Sqlite || column.reference.as_ref().is_none_or(|to| known.contains(&to.table))
        };
        parts.extend(table.columns.iter().filter(early).filter_map(|column| self.foreign_key(table, column)));
        if self == Self::MariaDb {
            parts.extend(table.all_indexes().iter().map(|columns| {
                format!("KEY {} ({})", self.quote(&constraint("ix", table, columns)), self.quote_all(columns))
            }));
        }
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  {}\n) {}",
            self.quote(table.name),
            parts.join(",\n  "),
            self.table_options()
        );
        std::iter::once(create).chain(self.separate_indexes(table)).collect()
    }

    fn table_options(self) -> String {
        match self {
            Self::Sqlite => "STRICT".to_owned(),
            Self::MariaDb => format!("ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={MARIADB_COLLATION}"),
        }
    }

    fn separate_indexes(self, table: &Table) -> Vec<String> {
        if self == Self::MariaDb {
            return Vec::new();
        }
        let create = |columns: &Vec<&str>| {
            format!(
                "CREATE INDEX IF NOT EXISTS {} ON {} ({})",
                self.quote(&constraint("ix", table, columns)),
                self.quote(table.name),
                self.quote_all(columns)
            )
        };
        table.all_indexes().iter().map(create).collect()
    }

    /// The references to tables made after `table`: MariaDB takes them only once those exist.
    pub(super) fn late_foreign_keys(self, table: &Table, known: &[&str]) -> Vec<String> {
        if self == Self::Sqlite {
            return Vec::new();
        }
        let late = table.columns.iter().filter(|c| c.reference.as_ref().is_some_and(|to| !known.contains(&to.table)));
        let add = |column: &Column| {
            let key = self.foreign_key(table, column)?;
            let key = key.replacen("FOREIGN KEY", "FOREIGN KEY IF NOT EXISTS", 1);
            Some(format!("ALTER TABLE {} ADD {key}", self.quote(table.name)))
        };
        late.filter_map(add).collect()
    }

    /// `ALTER TABLE` that adds a number which is 0 in the rows that exist. SQLite changes its schema in a transaction, so
    /// only MariaDB may meet the column again.
    pub(super) fn add_count(self, table: &str, column: &Column) -> String {
        let if_absent = if self == Self::MariaDb { "IF NOT EXISTS " } else { "" };
        let (table, name, kind) = (self.quote(table), self.quote(column.name), self.type_name(&column.kind));
        // The check belongs to the column: MariaDB has no name for it, and skips it together with the column.
        format!("ALTER TABLE {table} ADD COLUMN {if_absent}{name} {kind} NOT NULL DEFAULT 0 CHECK ({name} >= 0)")
    }

    fn column(self, table: &Table, column: &Column) -> String {
        let name = self.quote(column.name);
        let primary = table.primary_key() == column.name;
        if column.kind == Kind::Serial {
            return match self {
                Self::Sqlite => format!("{name} INTEGER PRIMARY KEY AUTOINCREMENT"),
                Self::MariaDb => format!("{name} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY"),
            };
        }
        let null = if column.nullable { "NULL" } else { "NOT NULL" };
        let key = if primary { " PRIMARY KEY" } else { "" };
        format!("{name} {} {null}{key}", self.type_name(&column.kind))
    }

    fn type_name(self, kind: &Kind) -> String {
        let (sqlite, mariadb) = match kind {
            Kind::Text(chars) => ("TEXT", format!("VARCHAR({chars})")),
            Kind::OneOf(_) => ("TEXT", format!("VARCHAR({MAX_IDENTIFIER_CHARS})")),
            Kind::LongText => ("TEXT", "TEXT".to_owned()),
            // MariaDB's JSON brings its own json_valid CHECK, but an unnamed one and another collation.
            Kind::Json => ("TEXT", "LONGTEXT".to_owned()),
            Kind::Count | Kind::Integer | Kind::Serial => ("INTEGER", "BIGINT".to_owned()),
            Kind::Double => ("REAL", "DOUBLE".to_owned()),
            Kind::Flag => ("INTEGER", "BOOLEAN".to_owned()),
            // Text `YYYY-MM-DD HH:MM:SS.ffffff` sorts like the times it stands for. TIMESTAMP would end in 2038.
            Kind::Time => ("TEXT", "DATETIME(6)".to_owned()),
        };
        match self {
            Self::Sqlite => sqlite.to_owned(),
            Self::MariaDb => mariadb,
        }
    }

    fn unique(self, table: &Table, columns: &[&str]) -> String {
        let name = self.quote(&constraint("uq", table, columns));
        match self {
            Self::Sqlite => format!("CONSTRAINT {name} UNIQUE ({})", self.quote_all(columns)),
            Self::MariaDb => format!("UNIQUE KEY {name} ({})", self.quote_all(columns)),
        }
    }

    fn value_check(self, table: &Table, column: &Column) -> Option<String> {
        let name = self.quote(column.name);
        let condition = match (&column.kind, self) {
            (Kind::OneOf(texts), _) => format!("{name} IN ('{}')", texts.join("', '")),
            (Kind::Json, _) => format!("json_valid({name})"),
            (Kind::Count, _) => format!("{name} >= 0"),
            (Kind::Flag, _) => format!("{name} IN (0, 1)"),
            // MariaDB refuses what is too long by the column's type.
            (Kind::Text(chars), Self::Sqlite) => format!("length({name}) <= {chars}"),
            _ => return None,
        };
        let constraint = self.quote(&constraint("ck", table, &[column.name]));
        Some(format!("CONSTRAINT {constraint} CHECK ({condition})"))
    }

    fn foreign_key(self, table: &Table, column: &Column) -> Option<String> {
        let reference = column.reference.as_ref()?;
        let action = match reference.on_delete {
            OnDelete::Cascade => "CASCADE",
            OnDelete::SetNull => "SET NULL",
            OnDelete::Refuse => "NO ACTION",
        };
        Some(format!(
            "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {action}",
            self.quote(&constraint("fk", table, &[column.name])),
            self.quote(column.name),
            self.quote(reference.table),
            self.quote(reference.column)
        ))
    }
}

/// `<prefix>_<table>_<columns>`, shortened to what MariaDB takes: unique as long as the columns of a table are.
fn constraint(prefix: &str, table: &Table, columns: &[&str]) -> String {
    let full = format!("{prefix}_{}_{}", table.name, columns.join("_"));
    full.chars().take(MAX_IDENTIFIER_CHARS).collect()
}
