//! The committer's view: the tree under everything that the group has written so far.

use std::{collections::BTreeMap, ops::Bound};

use sled::{Batch, IVec, Tree};

use super::{
    due,
    keys::{self, DueKey},
    log,
    source::{Row, Source},
    state::State,
    value,
};
use crate::{
    lifecycle::{CallbackId, Millis},
    store::StoreError,
};

/// Keys with what is stored under them; none where the key is removed.
pub(super) type Writes = BTreeMap<IVec, Option<IVec>>;

/// Judges a group of requests, each against all before it, and gathers what they write.
pub(super) struct Txn {
    tree: Tree,
    /// Changed by requests, stored with the group.
    pub(super) state: State,
    stored: State,
    writes: Writes,
    /// Events in the order of their numbers, the first of which follows the stored head's.
    events: Vec<Vec<u8>>,
    /// Entries of the inbound log in the order of their ids, which all follow the stored head's.
    callbacks: Vec<(CallbackId, Vec<u8>)>,
    /// What becomes due.
    dues: Vec<DueKey>,
    bytes: usize,
    /// What a request that fails half-way has to put back.
    undo: Vec<(IVec, Option<Option<IVec>>)>,
    before: State,
}

impl Source for Txn {
    fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.tree.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> sled::Result<Vec<Row>> {
        let mut rows = Vec::new();
        if from >= to {
            return Ok(rows);
        }
        let mut under = self.tree.range(from..to);
        let mut over = self.writes.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let mut below = under.next().transpose()?;
        let mut above = over.next();
        while rows.len() < limit {
            let written = match (&below, &above) {
                (None, None) => break,
                (Some((low, _)), Some((high, _))) => high <= &low,
                (below, _) => below.is_none(),
            };
            if !written {
                rows.extend(below.take());
                below = under.next().transpose()?;
                continue;
            }
            if let Some((key, value)) = above.take() {
                if below.as_ref().is_some_and(|(low, _)| low == key) {
                    below = under.next().transpose()?;
                }
                rows.extend(value.clone().map(|value| (key.clone(), value)));
            }
            above = over.next();
        }
        Ok(rows)
    }
}

impl Txn {
    pub(super) fn new(tree: Tree, state: State) -> Self {
        Self {
            tree,
            state,
            stored: state,
            writes: Writes::new(),
            events: Vec::new(),
            callbacks: Vec::new(),
            dues: Vec::new(),
            bytes: 0,
            undo: Vec::new(),
            before: state,
        }
    }

    /// Runs one request; when it fails, nothing of it stays.
    pub(super) fn attempt<T>(
        &mut self,
        judge: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.undo.clear();
        self.before = self.state;
        let (logged, heard, owed) = (self.events.len(), self.callbacks.len(), self.dues.len());
        let verdict = judge(self);
        if verdict.is_err() {
            self.state = self.before;
            self.events.truncate(logged);
            self.callbacks.truncate(heard);
            self.dues.truncate(owed);
            while let Some((key, value)) = self.undo.pop() {
                match value {
                    Some(value) => self.writes.insert(key, value),
                    None => self.writes.remove(&key),
                };
            }
        }
        verdict
    }

    fn set(&mut self, key: &[u8], value: Option<IVec>) {
        let key = IVec::from(key);
        self.bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        let before = self.writes.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    /// Appends an event to the log; its number.
    pub(super) fn log(&mut self, time: Millis, event: &[u8]) -> u64 {
        self.state.head.newest += 1;
        self.state.head.clock = Some(time);
        self.bytes += event.len();
        self.events.push(event.to_vec());
        self.state.head.newest
    }

    /// The id of the next entry of the inbound log: `wanted`, unless the log is past it.
    pub(super) fn next_callback(&self, wanted: CallbackId) -> CallbackId {
        self.state.head.heard.map_or(wanted, |newest| newest.next().max(wanted))
    }

    /// Appends to the inbound log under the id that came [next](Self::next_callback).
    pub(super) fn log_callback(&mut self, id: CallbackId, entry: Vec<u8>) {
        self.state.head.heard = Some(id);
        self.bytes += entry.len();
        self.callbacks.push((id, entry));
    }

    /// Adds an entry to the due index, where claims find it once the group is stored.
    pub(super) fn owe(&mut self, due: DueKey) {
        self.bytes += due.len();
        self.dues.push(due);
    }

    /// Sets an entry of an index, which is all in its key.
    pub(super) fn mark(&mut self, key: &[u8]) {
        self.set(key, Some(IVec::default()));
    }

    /// Removes an entry of an index.
    pub(super) fn unmark(&mut self, key: &[u8]) {
        self.set(key, None);
    }

    /// Stores bytes as they are, header and all.
    pub(super) fn put_raw(&mut self, key: &[u8], value: &[u8]) {
        self.set(key, Some(value.into()));
    }

    /// Stores a value under a key that has none.
    pub(super) fn put_new(&mut self, key: &[u8], payload: &[u8]) {
        self.put_over(key, payload, 0);
    }

    /// Stores a value, whatever is there.
    pub(super) fn put(&mut self, key: &[u8], payload: &[u8]) -> Result<(), StoreError> {
        let pieces = Source::get(self, key).map_err(engine)?.map_or(0, |old| value::pieces(&old));
        self.put_over(key, payload, pieces);
        Ok(())
    }

    /// Stores a value in place of one that has `pieces` pieces.
    pub(super) fn put_over(&mut self, key: &[u8], payload: &[u8], pieces: u64) {
        let (head, rest) = value::cut(payload);
        let mut number = 0;
        for piece in rest {
            self.set(&keys::piece(key, number), Some(piece.into()));
            number += 1;
        }
        for left in number..pieces {
            self.set(&keys::piece(key, left), None);
        }
        self.set(key, Some(head.into()));
    }

    /// Moves a stored value, readable or not, and its pieces to where nothing looks for it.
    pub(super) fn set_aside(&mut self, key: &[u8], head: IVec) -> Result<(), StoreError> {
        let aside = keys::quarantine(key);
        for number in 0..value::pieces(&head) {
            let from = keys::piece(key, number);
            // A damaged length may promise pieces that never were.
            let Some(piece) = Source::get(self, &from).map_err(engine)? else { break };
            self.set(&keys::piece(&aside, number), Some(piece));
            self.set(&from, None);
        }
        self.set(&aside, Some(head));
        self.set(key, None);
        Ok(())
    }

    /// Everything that the group writes, if anything, with the state after it.
    pub(super) fn writes(&mut self) -> Result<Option<Writes>, StoreError> {
        let dues = std::mem::take(&mut self.dues);
        due::add(self, dues)?;
        let events = (self.stored.head.newest + 1..).zip(std::mem::take(&mut self.events));
        for (first, page) in log::pages(events) {
            self.put_new(&keys::event(first), &page);
        }
        for (first, page) in log::pages(std::mem::take(&mut self.callbacks)) {
            self.put_new(&keys::callback(first), &page);
        }
        if self.state.head != self.stored.head {
            let head = json(&self.state.head)?;
            self.put(keys::HEAD, &head)?;
        }
        if self.state.tally != self.stored.tally {
            let tally = json(&self.state.tally.stored())?;
            self.put(keys::TALLY, &tally)?;
        }
        self.stored = self.state;
        self.bytes = 0;
        self.undo.clear();
        if self.writes.is_empty() {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.writes)))
    }

    /// The same, as the engine takes it.
    pub(super) fn batch(&mut self) -> Result<Option<Batch>, StoreError> {
        Ok(self.writes()?.map(batch))
    }

    /// Bytes that the group writes so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// As the engine takes it.
pub(super) fn batch(writes: impl IntoIterator<Item = (IVec, Option<IVec>)>) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    batch
}

pub(super) fn engine(error: sled::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// As JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}
