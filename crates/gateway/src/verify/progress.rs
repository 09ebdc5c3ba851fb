//! How far the verifications under way are, for whoever waits for one. Counts; stops nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Leaves a verification has compared. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    /// So many leaves are compared now.
    pub(crate) fn is_at(&self, leaves: u64) {
        self.0.store(leaves, Relaxed);
    }
}

/// Those under way, by export: as many as there are requests that wait for them.
#[derive(Debug, Default)]
pub(crate) struct Verifications(Mutex<HashMap<String, Counter>>);

impl Verifications {
    /// One begins; it is known until this is dropped. Where there are two of one export, the younger is told of.
    pub(crate) fn begin(self: &Arc<Self>, export_name: &str) -> UnderWay {
        let counter = Counter::default();
        self.0.lock().insert(export_name.to_owned(), counter.clone());
        UnderWay { all: Arc::clone(self), export_name: export_name.to_owned(), counter }
    }

    /// How many leaves the one of an export has compared.
    pub(crate) fn leaves_of(&self, export_name: &str) -> Option<u64> {
        self.0.lock().get(export_name).map(|counter| counter.0.load(Relaxed))
    }
}

/// A verification that is under way.
pub(crate) struct UnderWay {
    all: Arc<Verifications>,
    export_name: String,
    counter: Counter,
}

impl UnderWay {
    /// What it counts with.
    pub(crate) fn counter(&self) -> Counter {
        self.counter.clone()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if all.get(&self.export_name).is_some_and(|known| Arc::ptr_eq(&known.0, &self.counter.0)) {
            all.remove(&self.export_name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_is_told_of_while_it_lasts() {
        let all = Arc::new(Verifications::default());
        assert_eq!(all.leaves_of("a"), None);
        let first = all.begin("a");
        first.counter().is_at(7);
        assert_eq!(all.leaves_of("a"), Some(7));
        let second = all.begin("a");
        drop(first);
        assert_eq!(all.leaves_of("a"), Some(0), "the younger one is still under way");
        drop(second);
        assert_eq!((all.leaves_of("a"), all.0.lock().len()), (None, 0));
    }
}
