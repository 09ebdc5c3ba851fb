//! The schema as values: tables described once, rendered for SQLite and MariaDB.
//!
//! This is what the migrations build, so it is history once released: a later change of the schema is a
//! migration of its own with statements of its own, never an edit of what is here. The drift test of the committed `schema.*.sql` files says when an edit
//! (also one of a status enum in `model`) would change what the first migration builds.

mod description;
mod render;
mod tables;
mod views;

pub(crate) use render::Dialect;

use description::Table;

/// The collation of every MariaDB table: compares bytes, like SQLite does, so that both databases agree on what is equal.
pub(crate) const MARIADB_COLLATION: &str = "utf8mb4_nopad_bin";

/// Every table of the first migration, parents before children where the circles allow it.
fn all_tables() -> Vec<Table> {
    let mut tables = tables::people();
    tables.extend(tables::agents());
    tables.extend(tables::scheduling());
    tables.extend(tables::core());
    tables.extend(tables::target());
    tables.extend(tables::joblog());
    tables.extend(tables::backup());
    tables
}

/// The statements of the first migration, in order; each may be repeated after an interruption.
pub(crate) fn initial_statements(dialect: Dialect) -> Vec<String> {
    let tables = all_tables();
    let mut statements = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for table in &tables {
        known.push(table.name);
        statements.extend(dialect.create_table(table, &known));
    }
    statements
        .extend(tables.iter().enumerate().flat_map(|(at, table)| dialect.late_foreign_keys(table, &known[..=at])));
    statements.extend(views::create_views(dialect));
    statements
}

/// The statements of the second migration, in order; each may be repeated after an interruption.
pub(crate) fn certificate_statements(dialect: Dialect) -> Vec<String> {
    let earlier = all_tables();
    let tables = tables::certificates();
    let known: Vec<&str> = earlier.iter().chain(&tables).map(|table| table.name).collect();
    tables.iter().flat_map(|table| dialect.create_table(table, &known)).collect()
}

/// The statements of the third migration, in order; each may be repeated after an interruption.
pub(crate) fn recovery_point_statements(dialect: Dialect) -> Vec<String> {
    let earlier = all_tables();
    let tables = tables::recovery_points();
    let known: Vec<&str> = earlier.iter().chain(&tables).map(|table| table.name).collect();
    let mut statements: Vec<String> = tables.iter().flat_map(|table| dialect.create_table(table, &known)).collect();
    statements.push(dialect.add_count("vm_replication_contexts", &tables::keep_points()));
    statements
}

#[cfg(test)]
mod tests;
