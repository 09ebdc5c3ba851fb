//! What the name of an export asks for. Pure.
//!
//! `<export>`: the export itself; `<export>@<generation>`: writing that generation; `<export>@<generation>.ledger`: what
//! is durable of it; `point-<id>`: a recovery point, for reading.

use journal::index::is_generation;

/// What a recovery point's name begins with.
const POINT: &str = "point-";
/// What the name of a ledger ends with.
const LEDGER: &str = ".ledger";

/// A name, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// An export.
    Export(&'a str),
    /// An export, to write a generation.
    Writing { export: &'a str, generation: &'a str },
    /// What is durable of a generation.
    Ledger { export: &'a str, generation: &'a str },
    /// A recovery point (row id).
    Point(&'a str),
}

impl<'a> Asked<'a> {
    /// Understands a name; `None` when it cannot be one.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        if let Some(id) = name.strip_prefix(POINT) {
            return Some(Self::Point(id));
        }
        let Some((export, rest)) = name.split_once('@') else { return Some(Self::Export(name)) };
        let (generation, ledger) = match rest.strip_suffix(LEDGER) {
            Some(generation) => (generation, true),
            None => (rest, false),
        };
        let parsed = if ledger { Self::Ledger { export, generation } } else { Self::Writing { export, generation } };
        is_generation(generation).then_some(parsed)
    }

    /// What closing an export has to cut: its own name, or that of the recovery point.
    pub(crate) fn cut_with(&self, name: &'a str) -> &'a str {
        match *self {
            Self::Export(export) | Self::Writing { export, .. } | Self::Ledger { export, .. } => export,
            Self::Point(_) => name,
        }
    }
}

/// The name a recovery point is opened by.
pub(crate) fn point_name(id: &str) -> String {
    format!("{POINT}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_strictly() {
        let (export, generation) = ("migration-vol-1", "00aa");
        assert_eq!(Asked::parse("migration-vol-1"), Some(Asked::Export(export)));
        assert_eq!(Asked::parse("migration-vol-1@00aa"), Some(Asked::Writing { export, generation }));
        assert_eq!(Asked::parse("migration-vol-1@00aa.ledger"), Some(Asked::Ledger { export, generation }));
        assert_eq!(Asked::parse("point-7"), Some(Asked::Point("7")));
        assert_eq!(Asked::parse(&point_name("7")).unwrap().cut_with("point-7"), "point-7");
        assert_eq!(Asked::parse("migration-vol-1@00aa.ledger").unwrap().cut_with("…"), export);
        for bad in ["e@", "e@.ledger", "e@xyz", "e@00@11", "e@00.ledger.ledger", "e@00/.."] {
            assert_eq!(Asked::parse(bad), None, "{bad}");
        }
    }
}
