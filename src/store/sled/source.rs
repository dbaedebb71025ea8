//! Where values are read from: the tree as everybody sees it, or the committer's view of it.

use sled::{IVec, Tree};

/// A key and its stored value.
pub(super) type Row = (IVec, IVec);

/// Something that has values under keys.
pub(super) trait Source {
    /// The stored value.
    fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>>;

    /// Up to `limit` rows from `from` on and before `to`, in order.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> sled::Result<Vec<Row>>;
}

impl Source for Tree {
    fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        Self::get(self, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> sled::Result<Vec<Row>> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.range(from..to).take(limit).collect()
    }
}
