//! Property collectors with filters, and what changed since a client last asked.
//!
//! Compares rendered values; waiting itself is done by the method that asks.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use quick_xml::escape::escape;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::properties::{Rendered, Sight};
use super::value::{MoRef, write_element};
use super::xml::Element;

/// Filters one collector may hold.
const MAX_FILTERS: usize = 100;

/// What a client was told of the objects of one filter.
type Told = BTreeMap<MoRef, Rendered>;

#[derive(Debug, Default)]
struct Book {
    version: u64,
    told: HashMap<String, Told>,
    /// The book one version earlier: an answer that got lost can be asked for again.
    earlier: Option<HashMap<String, Told>>,
}

/// A property collector.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    filters: Mutex<BTreeMap<String, Element>>,
    book: Mutex<Book>,
    cancel: Mutex<CancellationToken>,
}

/// Updates found for one filter.
struct FilterUpdates {
    filter: String,
    objects: Vec<String>,
}

impl Collector {
    /// Adds a filter.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn add_filter(&self, id: String, spec: Element) -> Result<(), Fault> {
        let mut filters = self.filters.lock();
        if filters.len() >= MAX_FILTERS {
            return Err(Fault::system_error("too many property filters"));
        }
        filters.insert(id, spec);
        Ok(())
    }

    /// Removes a filter; `false` when there is none of that id.
    pub(crate) fn remove_filter(&self, id: &str) -> bool {
        self.book.lock().told.remove(id);
        self.filters.lock().remove(id).is_some()
    }

    /// Ends every wait that is under way.
    pub(crate) fn cancel(&self) {
        std::mem::take(&mut *self.cancel.lock()).cancel();
    }

    /// Fires when waits are to end.
    pub(crate) fn cancelled(&self) -> CancellationToken {
        self.cancel.lock().clone()
    }

    /// The `UpdateSet` since `version`, or `None` when nothing changed.
    ///
    /// # Errors
    /// `InvalidCollectorVersion` for a version that was never given or is too old.
    pub(crate) fn poll(&self, sight: &Sight<'_>, version: &str, limit: usize) -> Result<Option<String>, Fault> {
        let filters = self.filters.lock().clone();
        let mut book = self.book.lock();
        let baseline = book.baseline(version)?;
        let mut told = baseline.clone();
        let (mut updates, mut room) = (Vec::new(), limit);
        for (id, spec) in &filters {
            let now: Told = sight.evaluate(spec).unwrap_or_default().into_iter().collect();
            let before = told.entry(id.clone()).or_default();
            let objects = differences(before, &now, &mut room);
            if !objects.is_empty() {
                updates.push(FilterUpdates { filter: id.clone(), objects });
            }
        }
        if updates.is_empty() {
            return Ok(None);
        }
        book.version += 1;
        book.earlier = Some(baseline);
        book.told = told;
        Ok(Some(update_set(book.version, &updates, room == 0)))
    }
}

impl Book {
    fn baseline(&self, version: &str) -> Result<HashMap<String, Told>, Fault> {
        if version.is_empty() {
            return Ok(HashMap::new());
        }
        let asked: Option<u64> = version.parse().ok();
        match (asked, &self.earlier) {
            (Some(asked), _) if asked == self.version => Ok(self.told.clone()),
            (Some(asked), Some(earlier)) if asked + 1 == self.version => Ok(earlier.clone()),
            _ => Err(Fault::new("InvalidCollectorVersion", "The version is not known to the property collector.")),
        }
    }
}

/// Writes `ObjectUpdate`s and notes in `before` what they tell; stops when `room` is used up.
fn differences(before: &mut Told, now: &Told, room: &mut usize) -> Vec<String> {
    let mut updates = Vec::new();
    for (object, properties) in now {
        let known = before.get(object);
        let changed: Vec<_> =
            properties.iter().filter(|(path, value)| known.and_then(|k| k.get(*path)) != Some(value)).collect();
        let unset: Vec<_> =
            known.iter().flat_map(|k| k.keys()).filter(|path| !properties.contains_key(*path)).collect();
        if known.is_some() && changed.is_empty() && unset.is_empty() {
            continue;
        }
        if *room == 0 {
            return updates;
        }
        *room -= 1;
        let mut out = head(if known.is_some() { "modify" } else { "enter" }, object);
        for (path, value) in changed {
            out.push_str(&format!(
                "<changeSet><name>{}</name><op>assign</op>{value}</changeSet>",
                escape(path.as_str())
            ));
        }
        for path in unset {
            out.push_str(&format!("<changeSet><name>{}</name><op>assign</op></changeSet>", escape(path.as_str())));
        }
        updates.push(out);
        before.insert(object.clone(), properties.clone());
    }
    let gone: Vec<MoRef> = before.keys().filter(|object| !now.contains_key(*object)).cloned().collect();
    for object in gone.into_iter().take(*room) {
        *room -= 1;
        updates.push(head("leave", &object));
        before.remove(&object);
    }
    updates
}

fn head(kind: &str, object: &MoRef) -> String {
    let mut out = format!("<kind>{kind}</kind>");
    write_element(&mut out, "obj", "ref", &object.into());
    out
}

fn update_set(version: u64, updates: &[FilterUpdates], truncated: bool) -> String {
    let mut out = format!("<returnval><version>{version}</version>");
    for update in updates {
        out.push_str("<filterSet>");
        write_element(&mut out, "filter", "ref", &MoRef::new("PropertyFilter", update.filter.clone()).into());
        update.objects.iter().for_each(|object| out.push_str(&format!("<objectSet>{object}</objectSet>")));
        out.push_str("</filterSet>");
    }
    out.push_str(&format!("<truncated>{truncated}</truncated></returnval>"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(entries: &[(&str, &str)]) -> Told {
        entries
            .iter()
            .map(|(id, value)| {
                (MoRef::new("Task", *id), Rendered::from([("info.state".to_owned(), (*value).to_owned())]))
            })
            .collect()
    }

    #[test]
    fn objects_enter_change_and_leave_once() {
        let mut before = Told::new();
        let mut room = 10;
        let first = differences(&mut before, &told(&[("task-1", "<val>queued</val>")]), &mut room);
        assert!(first[0].starts_with("<kind>enter</kind>"));
        assert!(differences(&mut before, &told(&[("task-1", "<val>queued</val>")]), &mut room).is_empty());
        let second = differences(&mut before, &told(&[("task-1", "<val>success</val>")]), &mut room);
        assert!(second[0].starts_with("<kind>modify</kind>") && second[0].contains("success"));
        let third = differences(&mut before, &Told::new(), &mut room);
        assert!(third[0].starts_with("<kind>leave</kind>") && before.is_empty());
    }

    #[test]
    fn a_limit_leaves_the_rest_for_the_next_call() {
        let mut before = Told::new();
        let now = told(&[("task-1", "a"), ("task-2", "b"), ("task-3", "c")]);
        let mut room = 2;
        assert_eq!(differences(&mut before, &now, &mut room).len(), 2);
        room = 2;
        assert_eq!(differences(&mut before, &now, &mut room).len(), 1);
    }

    #[test]
    fn only_the_last_two_versions_are_known() {
        let mut book = Book { version: 3, ..Book::default() };
        assert!(book.baseline("").is_ok() && book.baseline("3").is_ok());
        assert!(book.baseline("2").is_err() && book.baseline("x").is_err());
        book.earlier = Some(HashMap::new());
        assert!(book.baseline("2").is_ok() && book.baseline("1").is_err());
    }
}
