//! The neutral description of a table: columns, keys and references, without a word of SQL.

/// Longest id, in characters.
pub(super) const ID_CHARS: u32 = 64;
/// Longest name, in characters.
pub(super) const NAME_CHARS: u32 = 255;
/// Longest VMware path, in characters.
pub(super) const PATH_CHARS: u32 = 1024;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bounded text, at most this many characters.
    Text(u32),
    /// A free text.
    LongText,
    /// One of these texts.
    OneOf(Vec<&'static str>),
    /// A structured document.
    Json,
    /// A whole number, never negative.
    Count,
    /// A whole number.
    Integer,
    /// A number that the database hands out, rising.
    Serial,
    /// A fraction.
    Double,
    /// Yes or no.
    Flag,
    /// A point in time, UTC, microseconds.
    Time,
}

/// What happens to a row when the row it refers to is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDelete {
    /// It is deleted, too.
    Cascade,
    /// The reference is cleared.
    SetNull,
    /// The deletion is refused. `NO ACTION` in SQL: both databases then report a foreign key violation, which
    /// `RESTRICT` is not on SQLite.
    Refuse,
}

/// A reference to a column of a table (`table.column`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    pub(super) on_delete: OnDelete,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) unique: bool,
    pub(super) reference: Option<Reference>,
}

impl Column {
    /// The column may be null.
    pub(super) fn optional(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// No two rows have the same value.
    pub(super) fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// The row goes with the row of `table` it names.
    pub(super) fn owned_by(self, table: &'static str, column: &'static str) -> Self {
        self.references(table, column, OnDelete::Cascade)
    }

    /// The value is cleared with the row of `table` it names; makes the column optional.
    pub(super) fn refers_to(self, table: &'static str, column: &'static str) -> Self {
        self.references(table, column, OnDelete::SetNull).optional()
    }

    /// The row of `table` it names cannot be deleted while this one exists.
    pub(super) fn holds(self, table: &'static str, column: &'static str) -> Self {
        self.references(table, column, OnDelete::Refuse)
    }

    fn references(mut self, table: &'static str, column: &'static str, on_delete: OnDelete) -> Self {
        self.reference = Some(Reference { table, column, on_delete });
        self
    }
}

fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: false, unique: false, reference: None }
}

/// An id.
pub(super) fn id(name: &'static str) -> Column {
    column(name, Kind::Text(ID_CHARS))
}

/// A name, an address or any other short text.
pub(super) fn name(name: &'static str) -> Column {
    column(name, Kind::Text(NAME_CHARS))
}

/// A VMware path.
pub(super) fn path(name: &'static str) -> Column {
    column(name, Kind::Text(PATH_CHARS))
}

/// A free text.
pub(super) fn text(name: &'static str) -> Column {
    column(name, Kind::LongText)
}

/// One of `texts`.
pub(super) fn one_of(name: &'static str, texts: Vec<&'static str>) -> Column {
    column(name, Kind::OneOf(texts))
}

/// A document.
pub(super) fn json(name: &'static str) -> Column {
    column(name, Kind::Json)
}

/// A number of bytes or things.
pub(super) fn count(name: &'static str) -> Column {
    column(name, Kind::Count)
}

/// A whole number that may be negative.
pub(super) fn integer(name: &'static str) -> Column {
    column(name, Kind::Integer)
}

/// A rising number the database hands out: only as primary key.
pub(super) fn serial(name: &'static str) -> Column {
    column(name, Kind::Serial)
}

/// A percentage or a rate.
pub(super) fn double(name: &'static str) -> Column {
    column(name, Kind::Double)
}

/// Yes or no.
pub(super) fn flag(name: &'static str) -> Column {
    column(name, Kind::Flag)
}

/// A point in time.
pub(super) fn time(name: &'static str) -> Column {
    column(name, Kind::Time)
}

/// A table. Its first column is the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) uniques: Vec<&'static [&'static str]>,
    pub(super) indexes: Vec<&'static [&'static str]>,
    /// Conditions over several columns: name and SQL both databases understand.
    pub(super) checks: Vec<(&'static str, &'static str)>,
}

impl Table {
    /// A table of these columns, the primary key first.
    pub(super) fn new(name: &'static str, columns: impl IntoIterator<Item = Column>) -> Self {
        Self { name, columns: columns.into_iter().collect(), uniques: vec![], indexes: vec![], checks: vec![] }
    }

    /// Adds `created_at` and `updated_at`.
    pub(super) fn timestamped(mut self) -> Self {
        self.columns.extend([time("created_at"), time("updated_at")]);
        self
    }

    /// No two rows agree in all of `columns`.
    pub(super) fn unique(mut self, columns: &'static [&'static str]) -> Self {
        self.uniques.push(columns);
        self
    }

    /// Rows are looked up by `columns`.
    pub(super) fn index(mut self, columns: &'static [&'static str]) -> Self {
        self.indexes.push(columns);
        self
    }

    /// Every row fulfils `condition`.
    pub(super) fn check(mut self, name: &'static str, condition: &'static str) -> Self {
        self.checks.push((name, condition));
        self
    }

    /// Name of the primary key column.
    pub(super) fn primary_key(&self) -> &'static str {
        self.columns.first().map_or("id", |column| column.name)
    }

    /// Whether a look-up by `column` alone finds an index that is declared anyway.
    fn leads_a_key(&self, column: &str) -> bool {
        self.primary_key() == column || self.uniques.iter().chain(&self.indexes).any(|key| key.first() == Some(&column))
    }

    /// The unique keys, those of single columns included.
    pub(super) fn all_uniques(&self) -> Vec<Vec<&'static str>> {
        let single = self.columns.iter().filter(|column| column.unique).map(|column| vec![column.name]);
        single.chain(self.uniques.iter().map(|key| key.to_vec())).collect()
    }

    /// The indexes, those that foreign keys need included.
    pub(super) fn all_indexes(&self) -> Vec<Vec<&'static str>> {
        let referring = self.columns.iter().filter(|c| c.reference.is_some() && !c.unique && !self.leads_a_key(c.name));
        let for_references = referring.map(|column| vec![column.name]);
        self.indexes.iter().map(|key| key.to_vec()).chain(for_references).collect()
    }
}
