//! One reply, and where in it the task stands.

use super::{Mapping, pointers, tree::Tree, words::classify};
use crate::provider::request::valid_task_id;

/// Where a task object may stand; the first that shows an id or a status is it.
const CANDIDATES: [&str; 8] =
    ["/data", "/data/result/0", "", "/payload/task", "/task", "/data/task", "/output", "/data/data"];

#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) root: &'a Tree,
    /// The task object; the root where none was recognised.
    pub(super) task: &'a Tree,
    /// Whether the task object was recognised as one.
    pub(super) found: bool,
    /// An event with the task in its `data`: the event's own id is not the task's.
    pub(super) envelope: bool,
    /// The task is one of several: what stands outside of it may be about the others.
    one_of_several: bool,
    pub(super) mapping: &'a Mapping,
}

impl<'a> Body<'a> {
    /// Finds the task object; in a list, the one whose id is `ours`, else the first.
    pub(super) fn new(root: &'a Tree, ours: Option<&str>, mapping: &'a Mapping) -> Self {
        let plain = Self { root, task: root, found: false, envelope: false, one_of_several: false, mapping };
        let data = root.child("data").unwrap_or(&Tree::Null);
        if data.is_object() && is_envelope(root) {
            return Self { task: data, found: true, envelope: true, ..plain };
        }
        let list = if root.is_object() { data.items() } else { root.items() };
        let is_ours = |item: &&Tree| ours.is_some() && plain.with_task(item).ids_within().next() == ours;
        if let Some(task) = list.iter().find(is_ours).or(list.iter().find(|item| item.is_object())) {
            return Self { task, found: true, one_of_several: root.is_object() && list.len() > 1, ..plain };
        }
        for candidate in CANDIDATES {
            let Some(task) = root.at(candidate).into_iter().find(|tree| tree.is_object()) else { continue };
            let body = plain.with_task(task);
            // A bare status at the root is often that of the call ("success"): there only an id makes a task.
            if body.ids_within().next().is_some() || (!candidate.is_empty() && body.has_status_within()) {
                return Self { found: true, ..body };
            }
        }
        plain
    }

    fn with_task(&self, task: &'a Tree) -> Self {
        Self { task, ..*self }
    }

    fn ids_within(&self) -> impl Iterator<Item = &'a str> {
        pointers::TASK_ID.iter().flat_map(|pointer| self.inside(pointer)).filter_map(Tree::scalar)
    }

    fn has_status_within(&self) -> bool {
        let states = |pointer: &&str| {
            let words: Vec<_> = self.inside(pointer).into_iter().filter_map(Tree::scalar).collect();
            words.iter().any(|word| !pointer.ends_with("/type") || classify(word, self.mapping).is_some())
        };
        pointers::STATUS.iter().any(states)
    }

    /// Where a pointer leads with the task object in the place of its `/data`.
    pub(super) fn inside(&self, pointer: &str) -> Vec<&'a Tree> {
        let below = pointer.strip_prefix("/data").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        below.map(|rest| self.task.at(rest)).unwrap_or_default()
    }

    /// Where a pointer leads as it stands.
    pub(super) fn outside(&self, pointer: &str) -> Vec<&'a Tree> {
        if self.one_of_several { Vec::new() } else { self.root.at(pointer) }
    }

    /// Everything that pointers lead to, each with its pointer: inside the task object first.
    pub(super) fn values<'p, P: Iterator<Item = &'p str> + Clone>(
        &self,
        pointers: P,
    ) -> impl Iterator<Item = (&'p str, &'a Tree)> + use<'a, 'p, P> {
        let body = *self;
        let inside =
            pointers.clone().flat_map(move |at| body.inside(at).into_iter().map(move |tree| (at, tree)));
        let outside = pointers.flat_map(move |at| body.outside(at).into_iter().map(move |tree| (at, tree)));
        inside.chain(outside)
    }

    /// A field: what the operator's pointers lead to, then the built-in ones.
    pub(super) fn field(
        &self,
        told: &'a [String],
        built_in: &'static [&'static str],
    ) -> impl Iterator<Item = (&'a str, &'a Tree)> + use<'a> {
        self.values(told.iter().map(String::as_str)).chain(self.values(built_in.iter().copied()))
    }

    /// The ids that are certainly meant as task ids, in the order of trust.
    pub(super) fn sure_ids(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let told = self.values(self.mapping.task_id.iter().map(String::as_str));
        told.filter_map(|(_, tree)| tree.scalar()).chain(self.built_in_ids(pointers::TASK_ID))
    }

    fn built_in_ids(&self, pointers: &'static [&'static str]) -> impl Iterator<Item = &'a str> + use<'a> {
        let body = *self;
        // A list of results carries no id of its task.
        let pointers = if self.root.is_object() { pointers } else { &[] };
        let elsewhere = if self.envelope { &[] } else { pointers };
        let inside = pointers.iter().flat_map(move |at| body.inside(at));
        inside.chain(elsewhere.iter().flat_map(move |at| body.outside(at))).filter_map(Tree::scalar)
    }

    /// The task's id, last of what elsewhere are trace ids. If the most trusted one is unusable, so is the answer: a
    /// lesser one may be another thing's.
    pub(super) fn task_id(&self) -> Option<&'a str> {
        let mut ids = self.sure_ids().chain(self.built_in_ids(pointers::REQUEST_ID));
        ids.next().filter(|id| valid_task_id(id))
    }

    /// As [`Body::task_id`], of the ids that are certainly meant as such.
    pub(super) fn sure_task_id(&self) -> Option<&'a str> {
        self.sure_ids().next().filter(|id| valid_task_id(id))
    }
}

fn is_envelope(root: &Tree) -> bool {
    let word = |key| root.child(key).and_then(Tree::text);
    word("object") == Some("event") || word("type").is_some_and(|kind| kind.contains('.'))
}
