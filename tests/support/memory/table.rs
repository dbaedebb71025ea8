//! A sorted table that a crash takes back to what was synced.

use std::{collections::BTreeMap, ops::RangeBounds};

#[derive(Debug)]
pub(crate) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    /// What a crash puts back, the newest last.
    unsynced: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), unsynced: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        let before = self.rows.insert(key.clone(), value);
        self.unsynced.push((key, before));
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(before) = self.rows.remove(key) {
            self.unsynced.push((key.clone(), Some(before)));
        }
    }

    /// The value that a crash would leave.
    pub(crate) fn synced(&self, key: &K) -> Option<&V> {
        let first = self.unsynced.iter().find(|(unsynced, _)| unsynced == key);
        first.map_or_else(|| self.rows.get(key), |(_, before)| before.as_ref())
    }

    pub(crate) fn sync(&mut self) {
        self.unsynced.clear();
    }

    pub(crate) fn crash(&mut self) {
        while let Some((key, before)) = self.unsynced.pop() {
            match before {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
    }
}
