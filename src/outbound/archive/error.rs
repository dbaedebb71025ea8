//! What can go wrong in the archive, and what becomes of the errors of `object_store`.

use std::{error::Error, io};

use super::bucket::Fault;
use crate::disk::Trouble;

/// What can go wrong in the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The volume is full.
    #[error("the disk of the archive has too little room: {0}")]
    NoSpace(String),
    /// It takes nothing: less than `[storage] min_free` would be left, it is read-only, or gone.
    #[error(transparent)]
    Disk(#[from] Trouble),
    /// The bucket is away, or refuses us.
    #[error(transparent)]
    Bucket(#[from] Fault),
    /// There is no such file.
    #[error("there is no `{0}` in the archive")]
    NotFound(String),
    /// The range begins behind the end of the file.
    #[error("the file has no such range: {0}")]
    Range(String),
    /// The caller asked to stop.
    #[error("the upload was stopped")]
    Stopped,
    /// Everything else: permissions, a broken disk.
    #[error("the archive failed: {0}")]
    Io(String),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Of a folder; those of a bucket are read by [`Fault::reading`] and [`Fault::writing`].
impl From<object_store::Error> for ArchiveError {
    fn from(error: object_store::Error) -> Self {
        if let object_store::Error::NotFound { path, .. } = &error {
            return Self::NotFound(path.clone());
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return io::Error::new(io.kind(), error.to_string()).into();
            }
            cause = inner.source();
        }
        Self::Io(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_volume_is_told_apart_from_a_broken_one_wherever_in_the_chain_it_is() {
        let within = |kind: io::ErrorKind| object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(object_store::Error::Generic {
                store: "inner",
                source: Box::new(io::Error::from(kind)),
            }),
        };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(matches!(ArchiveError::from(within(kind)), ArchiveError::NoSpace(_)));
        }
        assert!(matches!(ArchiveError::from(within(io::ErrorKind::ReadOnlyFilesystem)), ArchiveError::Io(_)));
    }
}
