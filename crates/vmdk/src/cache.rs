//! What was read of tables and unpacked of grains, the least recently used first to go. Bounded in bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

/// A file of the image by its number, and a byte of it.
pub(crate) type Key = (usize, u64);

/// A bounded cache that threads share.
pub(crate) struct Cache {
    max_bytes: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    entries: HashMap<Key, (u64, Arc<[u8]>)>,
    /// The same by age.
    by_age: BTreeMap<u64, Key>,
    bytes: usize,
    clock: u64,
}

impl Cache {
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, held: Mutex::default() }
    }

    pub fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut held = self.held.lock();
        held.clock += 1;
        let now = held.clock;
        let (used, bytes) = held.entries.get_mut(&key)?;
        let before = std::mem::replace(used, now);
        let bytes = Arc::clone(bytes);
        held.by_age.remove(&before);
        held.by_age.insert(now, key);
        Some(bytes)
    }

    /// Keeps `bytes` unless they alone are more than the bound.
    pub fn put(&self, key: Key, bytes: &Arc<[u8]>) {
        if bytes.len() > self.max_bytes {
            return;
        }
        let mut held = self.held.lock();
        held.clock += 1;
        let now = held.clock;
        if let Some((before, old)) = held.entries.insert(key, (now, Arc::clone(bytes))) {
            held.by_age.remove(&before);
            held.bytes -= old.len();
        }
        held.by_age.insert(now, key);
        held.bytes += bytes.len();
        while held.bytes > self.max_bytes {
            let Some((_, oldest)) = held.by_age.pop_first() else { break };
            if let Some((_, gone)) = held.entries.remove(&oldest) {
                held.bytes -= gone.len();
            }
        }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> usize {
        self.held.lock().bytes
    }
}

/// The tables that one call used last: most of its grains are in the same few, and threads need not wait for each other.
#[derive(Default)]
pub(crate) struct Recent {
    kept: [Option<(Key, Arc<[u8]>)>; RECENT_TABLES],
    next: usize,
}

/// A directory and a table for each of four links of a chain.
const RECENT_TABLES: usize = 8;

impl Recent {
    pub fn get(&self, key: Key) -> Option<Arc<[u8]>> {
        self.kept.iter().flatten().find(|(kept, _)| *kept == key).map(|(_, bytes)| Arc::clone(bytes))
    }

    pub fn put(&mut self, key: Key, bytes: &Arc<[u8]>) {
        self.kept[self.next] = Some((key, Arc::clone(bytes)));
        self.next = (self.next + 1) % RECENT_TABLES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_bound_holds() {
        let cache = Cache::new(30);
        let bytes: Arc<[u8]> = vec![7; 10].into();
        for offset in 0..3 {
            cache.put((0, offset), &bytes);
        }
        assert!(cache.get((0, 0)).is_some());
        cache.put((0, 3), &bytes);
        assert!(cache.get((0, 0)).is_some());
        assert!(cache.get((0, 1)).is_none());
        cache.put((0, 3), &bytes);
        assert_eq!(cache.held_bytes(), 30);
        cache.put((1, 0), &vec![0; 31].into());
        assert!(cache.get((1, 0)).is_none());
        assert_eq!(cache.held_bytes(), 30);
    }
}
