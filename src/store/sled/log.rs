//! Logs in pages: what a group appends is written together, for an entry of its own in the tree costs an event far
//! more than its bytes do.
//!
//! A page is stored under the number or id of its first entry. Of events it holds the JSON of one after that of the
//! other.

use std::ops::Bound;

use sled::{IVec, Tree};

use super::{
    keys,
    read::readable,
    source::Source,
    txn::engine,
    value::{self, Fault},
};
use crate::{lifecycle::EventRecord, store::StoreError};

/// Gathers entries into pages that are one stored value each, or one long entry: the name of the first of each, and
/// the payload.
pub(super) fn pages<K>(entries: impl IntoIterator<Item = (K, Vec<u8>)>) -> Vec<(K, Vec<u8>)> {
    let mut pages: Vec<(K, Vec<u8>)> = Vec::new();
    for (name, entry) in entries {
        match pages.last_mut() {
            Some((_, page)) if page.len() + entry.len() <= value::SHORT => page.extend_from_slice(&entry),
            _ => pages.push((name, entry)),
        }
    }
    pages
}

/// Looks events up by number, best in rising order: it keeps the page that it read last.
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    newest: u64,
    page: Vec<(u64, EventRecord)>,
}

impl<'a> Reader<'a> {
    /// Reads up to `newest`, the durable end.
    pub(super) fn new(tree: &'a Tree, newest: u64) -> Self {
        Self { tree, newest, page: Vec::new() }
    }

    /// The first event that has the number `seq` or a higher one, is kept and can be read.
    pub(super) fn from(&mut self, seq: u64) -> Result<Option<(u64, EventRecord)>, StoreError> {
        let bounds = self.page.first().zip(self.page.last());
        if !bounds.is_some_and(|((first, _), (last, _))| (*first..=*last).contains(&seq)) {
            self.load(seq)?;
        }
        Ok(self.page.iter().find(|(number, _)| (seq..=self.newest).contains(number)).cloned())
    }

    /// Reads the page that holds `seq`, or else the next one.
    fn load(&mut self, seq: u64) -> Result<(), StoreError> {
        let (at, end) = (keys::event(seq), keys::event(self.newest));
        let holding = self.tree.range(vec![keys::EVENT]..=at.clone()).next_back();
        let following = (at < end).then(|| self.tree.range((Bound::Excluded(at), Bound::Included(end))));
        for row in holding.into_iter().chain(following.into_iter().flatten()) {
            let (key, head) = row.map_err(engine)?;
            self.page = readable(parse(self.tree, &key, &head), &key)?.unwrap_or_default();
            if self.page.last().is_some_and(|(last, _)| *last >= seq) {
                return Ok(());
            }
        }
        self.page.clear();
        Ok(())
    }
}

pub(super) fn parse(source: &impl Source, key: &[u8], head: &IVec) -> Result<Vec<(u64, EventRecord)>, Fault> {
    let first = keys::parse_seq(key).ok_or(Fault::Damaged)?;
    let page = value::join(source, key, head)?;
    let events = serde_json::Deserializer::from_slice(&page).into_iter();
    (first..).zip(events).map(|(seq, event)| Ok((seq, event.map_err(|_| Fault::Damaged)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_closed_before_it_needs_pieces_and_a_long_entry_has_one_of_its_own() {
        let entries = [vec![1; 2000], vec![2; 2000], vec![3; 2000], vec![4; 9000], vec![5; 10]];
        let pages = pages((7..).zip(entries));
        let shape: Vec<_> = pages.iter().map(|(first, page)| (*first, page.len())).collect();
        assert_eq!(shape, [(7, 4000), (9, 2000), (10, 9000), (11, 10)]);
    }
}
