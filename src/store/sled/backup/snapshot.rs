//! Every row of the store as one object, while the store goes on.
//!
//! The engine has no snapshots: a row is read as it is when its turn comes. So what is uploaded is a state that the store
//! never had, until every group from the one it began behind to the one it ended in is applied to it again, in order: each
//! sets its keys to what it wrote, whatever was there, so the last one that wrote a key decides.

use std::sync::Arc;

use bytes::Bytes;
use object_store::WriteMultipart;
use sled::Tree;
use tokio::sync::mpsc;

use super::{
    catalog::{self, Generation},
    feed::Numbers,
    format::{self, Content, FORMAT, Heading, Manifest},
    now,
    target::Target,
};
use crate::store::{
    StoreError,
    sled::{txn::engine, value::SCHEMA},
};

/// Bytes of rows in a frame, about.
const FRAME: usize = 256 << 10;
/// Bytes of a part of the upload, of which two are under way: S3 wants at least 5 MiB.
const PART: usize = 8 << 20;

/// What a snapshot is to be.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) store: String,
    pub(super) generation: Generation,
    /// Every group up to this one is in the tree.
    pub(super) begin: u64,
}

/// Uploads every row. The manifest is for the caller to write, when every segment up to its end is there.
pub(super) async fn upload(
    plan: Plan,
    tree: Tree,
    numbers: Arc<Numbers>,
    target: Target,
) -> Result<Manifest, UploadError> {
    let path = catalog::snapshot(plan.generation, plan.begin);
    let mut upload = WriteMultipart::new_with_chunk_size(target.upload(&path).await?, PART);
    match copy(plan, tree, numbers, &mut upload).await {
        Ok(manifest) => {
            upload.finish().await?;
            Ok(manifest)
        }
        Err(error) => {
            upload.abort().await?;
            Err(error)
        }
    }
}

async fn copy(
    plan: Plan,
    tree: Tree,
    numbers: Arc<Numbers>,
    upload: &mut WriteMultipart,
) -> Result<Manifest, UploadError> {
    let Plan { store, generation, begin } = plan;
    let heading = format::heading(&Heading {
        format: FORMAT,
        schema: SCHEMA,
        store: store.clone(),
        generation,
        content: Content::Snapshot { begin },
    });
    let mut bytes = heading.len() as u64;
    upload.put(heading.into());
    let (sender, mut frames) = mpsc::channel::<Bytes>(2);
    let reading = tokio::task::spawn_blocking(move || {
        let mut rows = Rows::of(&tree);
        while let Some(frame) = rows.frame(FRAME)? {
            if sender.blocking_send(frame).is_err() {
                break; // nobody wants it any more
            }
        }
        // Whatever was seen of a group, that group had begun; and what begins from here on is durable later than now.
        let at = now();
        Ok::<_, StoreError>((rows.count, numbers.begun(), at))
    });
    while let Some(frame) = frames.recv().await {
        bytes += frame.len() as u64;
        upload.wait_for_capacity(2).await?;
        upload.put(frame);
    }
    let read = reading.await.map_err(|error| UploadError::Unread(error.to_string()))?;
    let (rows, end, at) = read.map_err(|error| UploadError::Unread(error.to_string()))?;
    Ok(Manifest { format: FORMAT, store, generation, begin, end, at, rows, bytes })
}

/// A snapshot was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Target(#[from] object_store::Error),
    #[error("the store cannot be read: {0}")]
    Unread(String),
}

/// Reads a tree frame by frame.
pub(super) struct Rows {
    rows: sled::Iter,
    pub(super) count: u64,
}

impl Rows {
    pub(super) fn of(tree: &Tree) -> Self {
        Self { rows: tree.iter(), count: 0 }
    }

    /// The next rows, of about so many bytes; none behind the last.
    pub(super) fn frame(&mut self, room: usize) -> Result<Option<Bytes>, StoreError> {
        let mut rows = Vec::new();
        while rows.len() < room {
            let Some(row) = self.rows.next() else { break };
            let (key, value) = row.map_err(engine)?;
            format::row(&mut rows, &key, Some(&value));
            self.count += 1;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let mut frame = Vec::with_capacity(rows.len() + 8);
        format::frame(&mut frame, &rows);
        Ok(Some(frame.into()))
    }
}
