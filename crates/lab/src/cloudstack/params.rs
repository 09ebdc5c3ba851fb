//! Parameters of a request: names lower-cased as the server does, typed reads with the server's own refusals, paging.
//!
//! Unknown parameters are ignored, as CloudStack ignores them.

use std::collections::BTreeMap;

use super::json::{Json, Object};
use super::refusal::Refusal;

/// The decoded parameters of one request.
#[derive(Debug, Clone)]
pub(crate) struct Params {
    command: String,
    values: BTreeMap<String, String>,
}

impl Params {
    /// Takes the decoded pairs. Names are lower-cased up to their first dot; map sub-keys keep their case.
    pub(crate) fn new(command: &str, pairs: &[(String, String)]) -> Result<Self, Refusal> {
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            let is_control = |character: char| character.is_control() && !matches!(character, '\n' | '\r');
            if value.chars().any(is_control) {
                return Err(Refusal::parameter(format!(
                    "Received value containing illegal ASCII non-printable characters for parameter {name}"
                )));
            }
            values.insert(lower_name(name), value.clone());
        }
        Ok(Self { command: command.to_owned(), values })
    }

    /// The command these parameters came with.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// A parameter's text; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A parameter's text that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| Refusal::missing(&self.command, name))
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.text(name)
            .map(|value| value.parse().map_err(|_| Refusal::bad_value(&self.command, name, value)))
            .transpose()
    }

    /// A boolean; like Java, everything but `true` is false.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A comma-separated list.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.text(name)
            .map(|value| value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
            .unwrap_or_default()
    }

    /// The sub-keys of one map entry: `name[index].key=value`.
    pub(crate) fn map_entry(&self, name: &str, index: usize) -> BTreeMap<String, String> {
        let prefix = format!("{name}[{index}].");
        self.values
            .iter()
            .filter_map(|(key, value)| key.strip_prefix(&prefix).map(|rest| (rest.to_owned(), value.clone())))
            .collect()
    }

    /// All entries of a map parameter, lowest index first.
    pub(crate) fn map_entries(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let prefix = format!("{name}[");
        let mut indexes: Vec<usize> =
            self.values.keys().filter_map(|key| key.strip_prefix(&prefix)?.split(']').next()?.parse().ok()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.into_iter().map(|index| self.map_entry(name, index)).collect()
    }

    /// Tag pairs in the `tags[0].key=…&tags[0].value=…` form.
    pub(crate) fn tags(&self) -> Vec<(String, Option<String>)> {
        self.map_entries("tags")
            .into_iter()
            .filter_map(|mut entry| entry.remove("key").map(|key| (key, entry.remove("value"))))
            .collect()
    }

    /// The refusal for an id that names nothing.
    pub(crate) fn no_such(&self, name: &str) -> Refusal {
        Refusal::no_such_entity(&self.command, name, self.text(name).unwrap_or_default())
    }
}

fn lower_name(name: &str) -> String {
    match name.split_once('.') {
        Some((head, tail)) => format!("{}.{tail}", head.to_lowercase()),
        None => name.to_lowercase(),
    }
}

/// Which rows of a list are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    first: usize,
    rows: usize,
}

impl Page {
    /// Reads `page` and `pagesize`, which only come together.
    pub(crate) fn read(params: &Params, page_size_max: u64) -> Result<Self, Refusal> {
        let page = params.integer("page")?;
        let size = params.integer("pagesize")?;
        let largest = usize::try_from(page_size_max).unwrap_or(usize::MAX);
        match (page, size) {
            (None, None) => Ok(Self { first: 0, rows: largest }),
            (None, Some(-1)) => Ok(Self { first: 0, rows: usize::MAX }),
            (None, Some(_)) => Err(Refusal::invalid("\"page\" parameter is required when \"pagesize\" is specified")),
            (Some(_), None) => Err(Refusal::invalid("\"pagesize\" parameter is required when \"page\" is specified")),
            (Some(page), Some(_)) if page < 1 => Err(Refusal::bad_value(params.command(), "page", &page.to_string())),
            (Some(_), Some(size)) if size < 1 => {
                Err(Refusal::bad_value(params.command(), "pagesize", &size.to_string()))
            }
            (Some(_), Some(size)) if size.unsigned_abs() > page_size_max => {
                Err(Refusal::invalid(format!("Page size can't exceed max allowed page size value: {page_size_max}")))
            }
            (Some(page), Some(size)) => {
                let rows = usize::try_from(size).unwrap_or(usize::MAX);
                let before = usize::try_from(page - 1).unwrap_or(usize::MAX);
                Ok(Self { first: before.saturating_mul(rows), rows })
            }
        }
    }

    /// The content of the envelope: nothing at all without rows, only `count` past the end.
    pub(crate) fn envelope(self, key: &str, rows: Vec<Object>) -> Object {
        if rows.is_empty() {
            return Object::new();
        }
        let count = rows.len();
        let shown: Vec<Json> = rows.into_iter().skip(self.first).take(self.rows).map(Json::Object).collect();
        let answer = Object::new().put("count", count);
        if shown.is_empty() { answer } else { answer.put(key, shown) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let owned: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Params::new("listVolumes", &owned).expect("readable parameters")
    }

    #[test]
    fn names_are_lowered_up_to_the_first_dot() {
        let params = params(&[
            ("ZoneId", "z"),
            ("Details[0].rootDiskController", "virtio"),
            ("tags[1].key", "b"),
            ("tags[0].key", "a"),
            ("tags[0].value", "1"),
            ("empty", ""),
        ]);
        assert_eq!(params.text("zoneid"), Some("z"));
        assert_eq!(params.text("empty"), None);
        assert_eq!(params.map_entry("details", 0).get("rootDiskController").map(String::as_str), Some("virtio"));
        assert_eq!(params.tags(), [("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)]);
        assert_eq!(
            params.required("id").map_err(|refusal| refusal.text),
            Err("Unable to execute API command listvolumes due to missing parameter id".to_owned())
        );
    }

    #[test]
    fn control_characters_are_refused() {
        let pairs = [("name".to_owned(), "a\u{7}b".to_owned())];
        assert!(Params::new("createVolume", &pairs).is_err());
    }

    #[test]
    fn pages() {
        let row = |number: usize| Object::new().put("n", number);
        let rows = || (1..=5).map(row).collect::<Vec<_>>();
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("page", "1"), ("pagesize", "2")], r#"{"count":5,"volume":[{"n":1},{"n":2}]}"#),
            (&[("page", "3"), ("pagesize", "2")], r#"{"count":5,"volume":[{"n":5}]}"#),
            (&[("page", "4"), ("pagesize", "2")], r#"{"count":5}"#),
            (&[], r#"{"count":5,"volume":[{"n":1},{"n":2},{"n":3},{"n":4}]}"#),
            (&[("pagesize", "-1")], r#"{"count":5,"volume":[{"n":1},{"n":2},{"n":3},{"n":4},{"n":5}]}"#),
            (&[("pagesize", "2")], r#""page" parameter is required when "pagesize" is specified"#),
            (&[("page", "2")], r#""pagesize" parameter is required when "page" is specified"#),
            (&[("page", "1"), ("pagesize", "5")], "Page size can't exceed max allowed page size value: 4"),
        ];
        for (pairs, expected) in cases {
            let found = match Page::read(&params(pairs), 4) {
                Ok(page) => Json::from(page.envelope("volume", rows())).render(),
                Err(refusal) => refusal.text,
            };
            assert_eq!(found, expected, "{pairs:?}");
        }
        let page = Page::read(&params(&[]), 4).expect("a page");
        assert_eq!(Json::from(page.envelope("volume", Vec::new())).render(), "{}");
    }
}
