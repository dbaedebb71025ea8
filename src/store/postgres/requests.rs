//! Requests, kept at hand while their jobs are submitted: they never change, so none is asked for twice.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use sqlx::Row as _;

use super::{PostgresStore, link::Trouble, row};
use crate::{lifecycle::JobId, store::StoreError};

/// Requests at hand, at most.
const MOST: usize = 512;
/// A longer one is asked for each time, in bytes.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<HashMap<JobId, Bytes>>);

impl Requests {
    pub(super) fn put(&self, id: JobId, document: &Bytes) {
        if document.is_empty() || document.len() > LONGEST {
            return;
        }
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= MOST {
            requests.clear(); // rare, and each costs one round trip to have again
        }
        requests.insert(id, document.clone());
    }

    pub(super) fn forget(&self, id: JobId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn get(&self, id: JobId) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl PostgresStore {
    pub(super) async fn request(&self, id: JobId) -> Result<Option<Bytes>, StoreError> {
        if let Some(document) = self.requests.get(id).filter(|_| !self.link.is_closed()) {
            return Ok(Some(document));
        }
        let sql = format!("SELECT document FROM requests WHERE job_id = '{}'", row::uuid(id));
        let rows = self.link.ask(&sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let document = Bytes::from(row.try_get::<Vec<u8>, _>(0).map_err(Trouble::from)?);
        self.requests.put(id, &document);
        Ok(Some(document))
    }
}
