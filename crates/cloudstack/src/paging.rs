//! Lists: every page of them, each row once.
//!
//! An empty list has neither count nor array; `count` is the total over all pages; rows may move between pages while
//! they are read, hence the check for repeats. Both `page` and `pagesize` are always sent: without them the server
//! silently stops at 500 rows.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{Client, decode};
use crate::error::CloudstackError;
use crate::params::Params;

/// Rows asked for at once: the default of the server's `default.page.size`.
const PAGE_ROWS: u64 = 500;
/// Most pages read of one list: 100,000 rows.
const MAX_PAGES: u32 = 200;

/// A row of a list.
pub(crate) trait Listed: DeserializeOwned {
    /// The key of the array; its case differs between versions and does not count.
    const OBJECT: &'static str;
    /// What makes two rows the same one.
    fn identity(&self) -> String;
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    total: Option<u64>,
    rows: Vec<Value>,
}

impl Client {
    /// All rows of a list.
    pub(crate) async fn list<T: Listed>(&self, params: Params) -> Result<Vec<T>, CloudstackError> {
        let command = params.command();
        let mut page_rows = PAGE_ROWS;
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        let mut received = 0_u64;
        let mut page = 1_u32;
        while page <= MAX_PAGES {
            let request = params.clone().set("page", page).set("pagesize", page_rows);
            let payload = match self.read_payload(&request).await {
                Ok(payload) => payload,
                Err(error) => {
                    // Only the first page can be too large; then the server names what it allows.
                    page_rows = smaller_page(&error, page_rows).filter(|_| page == 1).ok_or(error)?;
                    continue;
                }
            };
            let Page { total, rows: found } = split_page(payload, T::OBJECT);
            let last = found.is_empty();
            received += u64::try_from(found.len()).unwrap_or(u64::MAX);
            for row in found {
                let row: T = decode(command, row)?;
                if seen.insert(row.identity()) {
                    rows.push(row);
                }
            }
            if last || total.is_some_and(|total| received >= total) {
                return Ok(rows);
            }
            page += 1;
        }
        Err(CloudstackError::TooManyPages { command: command.to_owned(), pages: MAX_PAGES })
    }
}

fn split_page(payload: Value, object: &str) -> Page {
    let Value::Object(mut payload) = payload else { return Page { total: None, rows: Vec::new() } };
    let total = payload.get("count").and_then(Value::as_u64);
    let named = payload.keys().find(|key| key.eq_ignore_ascii_case(object)).cloned();
    let key = named.or_else(|| {
        let mut arrays = payload.iter().filter(|(_, value)| value.is_array()).map(|(key, _)| key.clone());
        arrays.next().filter(|_| arrays.next().is_none())
    });
    match key.and_then(|key| payload.remove(&key)) {
        Some(Value::Array(rows)) => Page { total, rows },
        _ => Page { total, rows: Vec::new() },
    }
}

/// `Page size can't exceed max allowed page size value: 500`: the size to use instead.
fn smaller_page(error: &CloudstackError, used: u64) -> Option<u64> {
    let CloudstackError::Refused(refusal) = error else { return None };
    let (_, rest) = refusal.text.split_once("max allowed page size value:")?;
    let digits: String = rest.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|&allowed| allowed > 0 && allowed < used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pages_come_in_several_shapes() {
        for (payload, total, rows) in [
            (json!({}), None, 0),
            (json!({"count": 7}), Some(7), 0),
            (json!({"count": 1, "volume": [{"id": "a"}]}), Some(1), 1),
            (json!({"count": 1, "Volume": [{"id": "a"}]}), Some(1), 1),
            (json!({"count": 2, "other": [{"id": "a"}, {"id": "b"}]}), Some(2), 2),
            (json!({"count": 2, "other": [1], "more": [2]}), Some(2), 0),
            (json!({"volume": "x"}), None, 0),
        ] {
            let page = split_page(payload.clone(), "volume");
            assert_eq!((page.total, page.rows.len()), (total, rows), "{payload}");
        }
    }
}
