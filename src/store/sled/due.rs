//! The due index, in pages: what a group makes due is written together, for an entry of its own in the tree costs far
//! more than its bytes do.
//!
//! A page is stored under its first entry and holds those of one duty that lie within [`SPAN`] of it. A change adds
//! entries and removes none: whoever sweeps a page asks the record of each entry whether it still vouches for it, and
//! drops it if not. So an entry may be stale or there twice, and none may be missing.

use sled::IVec;

use super::{
    keys::{self, DueKey},
    record,
    source::Source,
    txn::{Txn, engine},
    value::{self, Fault},
};
use crate::store::StoreError;

/// Milliseconds that the entries of a page lie apart at most.
pub(super) const SPAN: i64 = 10_000;
/// What a page repeats of the key of each entry: all but what its own key says.
const TAIL: usize = size_of::<DueKey>() - PREFIX;
const PREFIX: usize = 3;
/// Entries of a page at most: it is one stored value.
const FULL: usize = value::SHORT / TAIL;

/// A page as it was read.
pub(super) struct Page {
    pub(super) key: IVec,
    /// In order.
    pub(super) entries: Vec<DueKey>,
}

/// The first page whose key is in a range. A damaged one is set aside, and the index is made anew at the next start.
pub(super) fn first(txn: &mut Txn, from: &[u8], to: &[u8]) -> Result<Option<Page>, StoreError> {
    while let Some((key, head)) = txn.scan(from, to, 1).map_err(engine)?.pop() {
        match value::join(txn, &key, &head).and_then(|payload| parse(&key, &payload)) {
            Ok(entries) => return Ok(Some(Page { key, entries })),
            Err(Fault::Damaged) => {
                txn.set_aside(&key, head)?;
                txn.state.tally.recount = true;
                tracing::error!(
                    "a page of the due index is damaged and was set aside; start reelhook again: it then \
                     makes the index anew"
                );
            }
            Err(fault) => return Err(fault.of(|| "the due index".into())),
        }
    }
    Ok(None)
}

/// The first entry whose page is in a range: that page's name.
pub(super) fn earliest(source: &impl Source, from: &[u8], to: &[u8]) -> Result<Option<DueKey>, StoreError> {
    let row = source.scan(from, to, 1).map_err(engine)?.pop();
    Ok(row.and_then(|(key, _)| key.as_ref().try_into().ok()))
}

/// Whether the record of the entry's job says so too. Of a damaged record nobody knows.
pub(super) fn vouched(source: &impl Source, entry: &DueKey) -> Result<bool, Fault> {
    let (_, id) = keys::parse_due(entry);
    match record::read_former(source, id) {
        Ok(found) => Ok(found.is_some_and(|former| former.card.owes(id, entry))),
        Err(Fault::Damaged) => Ok(true),
        Err(fault) => Err(fault),
    }
}

pub(super) fn parse(key: &[u8], payload: &[u8]) -> Result<Vec<DueKey>, Fault> {
    let (tails, rest) = payload.as_chunks::<TAIL>();
    let prefix = key.first_chunk::<PREFIX>().filter(|_| rest.is_empty() && !tails.is_empty());
    let prefix = prefix.ok_or(Fault::Damaged)?;
    let entry = |tail: &[u8; TAIL]| {
        let mut entry = [0; size_of::<DueKey>()];
        entry[..PREFIX].copy_from_slice(prefix);
        entry[PREFIX..].copy_from_slice(tail);
        entry
    };
    Ok(tails.iter().map(entry).collect())
}

impl Page {
    /// Leaves of the page what is kept of its entries.
    pub(super) fn keep(self, txn: &mut Txn, kept: Vec<DueKey>) -> Result<(), StoreError> {
        if kept.len() == self.entries.len() {
            return Ok(());
        }
        txn.unmark(&self.key);
        add(txn, kept)
    }
}

/// Adds entries to the index, in any order.
pub(super) fn add(txn: &mut Txn, mut entries: Vec<DueKey>) -> Result<(), StoreError> {
    entries.sort_unstable();
    entries.dedup();
    let mut rest = entries.as_slice();
    while let Some(first) = rest.first() {
        let together = |entry: &&DueKey| entry[..PREFIX] == first[..PREFIX] && within(first, entry);
        let (page, later) = rest.split_at(rest.iter().take(FULL).take_while(together).count());
        rest = later;
        put(txn, page)?;
    }
    Ok(())
}

fn within(first: &DueKey, entry: &DueKey) -> bool {
    let at = |entry| keys::parse_due(entry).0;
    at(entry).since(at(first)) <= SPAN
}

/// Writes a page. One that has the same first entry is there when a due time came back before it was swept: nothing in it
/// may be lost.
fn put(txn: &mut Txn, entries: &[DueKey]) -> Result<(), StoreError> {
    let Some(first) = entries.first() else { return Ok(()) };
    let same = self::first(txn, first, &[first.as_slice(), &[0]].concat())?;
    let mut whole = same.map_or_else(Vec::new, |page| page.entries);
    whole.extend_from_slice(entries);
    whole.sort_unstable();
    whole.dedup();
    let (page, rest) = whole.split_at(whole.len().min(FULL));
    let payload: Vec<u8> = page.iter().flat_map(|entry| &entry[PREFIX..]).copied().collect();
    txn.put_over(first, &payload, 0);
    if rest.is_empty() { Ok(()) } else { add(txn, rest.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lifecycle::{Due, Duty, JobId, Millis},
        store::sled::state::State,
    };

    fn entry(duty: Duty, at: i64, n: u64) -> DueKey {
        let mut unique = [0; 10];
        unique[..8].copy_from_slice(&n.to_be_bytes());
        keys::due(Due { duty, urgent: false, at: Millis(at) }, JobId::new(Millis(1), &unique))
    }

    fn all(txn: &mut Txn) -> Vec<Vec<DueKey>> {
        let (mut from, mut pages) = (vec![keys::DUE], Vec::new());
        while let Some(page) = first(txn, &from, &[keys::DUE + 1]).unwrap() {
            from = [&*page.key, &[0]].concat();
            pages.push(page.entries);
        }
        pages
    }

    fn txn() -> Txn {
        let db = sled::Config::new().temporary(true).open().unwrap();
        Txn::new((*db).clone(), State::default())
    }

    #[test]
    fn a_page_holds_one_duty_one_span_and_one_value_and_pages_hold_everything() {
        let mut txn = txn();
        let mut entries: Vec<_> = (0..400).map(|n| entry(Duty::Ask, 5, n)).collect();
        entries.extend((0..30).map(|n| entry(Duty::Fetch, -SPAN + 1_000 * n, 7)));
        add(&mut txn, entries.iter().rev().copied().collect()).unwrap();
        let pages = all(&mut txn);
        let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
        assert_eq!(sizes, [FULL, FULL, 400 - 2 * FULL, 11, 11, 8]);
        entries.sort_unstable();
        assert_eq!(pages.concat(), entries);
    }

    #[test]
    fn a_page_with_the_first_entry_of_another_takes_that_one_in() {
        let mut txn = txn();
        let page =
            |numbers: std::ops::Range<u64>| numbers.map(|n| entry(Duty::Ask, 5, n)).collect::<Vec<_>>();
        add(&mut txn, page(0..3)).unwrap();
        add(&mut txn, [page(0..1), page(9..11)].concat()).unwrap();
        assert_eq!(all(&mut txn), [[page(0..3), page(9..11)].concat()]);
        add(&mut txn, [page(0..1), page(100..300)].concat()).unwrap();
        assert_eq!(all(&mut txn).concat(), [page(0..3), page(9..11), page(100..300)].concat());
    }

    #[test]
    fn what_is_left_of_a_page_is_found_under_its_new_first_entry() {
        let mut txn = txn();
        let entries: Vec<_> = (0..5).map(|n| entry(Duty::Ask, 5, n)).collect();
        add(&mut txn, entries.clone()).unwrap();
        let page = first(&mut txn, &[keys::DUE], &[keys::DUE + 1]).unwrap().unwrap();
        page.keep(&mut txn, entries[2..].to_vec()).unwrap();
        assert_eq!(all(&mut txn), [entries[2..].to_vec()]);
        let page = first(&mut txn, &[keys::DUE], &[keys::DUE + 1]).unwrap().unwrap();
        page.keep(&mut txn, Vec::new()).unwrap();
        assert!(all(&mut txn).is_empty());
    }

    #[test]
    fn a_damaged_page_is_set_aside_and_asks_for_a_new_index() {
        let mut txn = txn();
        add(&mut txn, vec![entry(Duty::Ask, 5, 1)]).unwrap();
        txn.mark(&entry(Duty::Ask, 4, 1));
        assert_eq!(all(&mut txn), [[entry(Duty::Ask, 5, 1)]]);
        assert!(txn.state.tally.recount);
    }
}
