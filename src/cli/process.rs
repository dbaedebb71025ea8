//! What the process of a server asks of the system before it holds a secret or a socket.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Enough for every connection that the listeners take at once, and for the store and the downloads beside them.
const OPEN_FILES: u64 = 65_536;

/// No core file: it would hold every key and prompt. A program that the kernel hands cores to heeds no limit, so the
/// process is not to be dumped at all; nor can another of the same user read its memory then.
pub(crate) fn forbid_core_dumps() {
    let done = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!(%error, "core dumps cannot be forbidden: one would hold every key");
    }
}

/// A thousand files, the usual limit, are half as many connections as a stranger opens in a second.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::warn!(%error, wanted, "the limit of open files cannot be raised, and each connection is one");
    }
}
