//! What must hold of the description whatever the database.

use std::collections::HashSet;

use super::description::Table;
use super::{Dialect, all_tables, certificate_statements, initial_statements, recovery_point_statements, tables};

/// The tables of every migration.
fn every_table() -> Vec<Table> {
    all_tables().into_iter().chain(tables::certificates()).chain(tables::recovery_points()).collect()
}

#[test]
fn every_table_of_the_schema_is_described_once() {
    let tables = every_table();
    let names: Vec<_> = tables.iter().map(|table| table.name).collect();
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert_eq!(names.len(), 40, "{names:?}");
}

#[test]
fn every_reference_names_a_key_of_a_described_table() {
    let tables = every_table();
    for table in &tables {
        for column in &table.columns {
            let Some(to) = &column.reference else { continue };
            let target = tables.iter().find(|t| t.name == to.table).expect("referenced table");
            let key = target.columns.iter().find(|c| c.name == to.column).expect("referenced column");
            assert!(key.unique || target.primary_key() == key.name, "{}.{}", table.name, column.name);
            assert_eq!(key.kind, column.kind, "{}.{}", table.name, column.name);
        }
    }
}

#[test]
fn constraint_names_stay_distinct_when_shortened() {
    for dialect in [Dialect::Sqlite, Dialect::MariaDb] {
        let later = [certificate_statements(dialect), recovery_point_statements(dialect)].concat();
        let sql = [initial_statements(dialect), later].concat().join("\n");
        let mut seen = HashSet::new();
        for line in sql.lines().filter(|line| line.contains("CONSTRAINT ")) {
            let name = line.split("CONSTRAINT ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            assert!(seen.insert(name.to_owned()), "{name} is used twice");
        }
        assert!(seen.len() > 200, "{}", seen.len());
    }
}
