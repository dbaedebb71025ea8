//! Where a backup is kept.

use std::{
    fs, io,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use object_store::{
    GetResult, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    local::LocalFileSystem, path::Path,
};

use super::catalog::{self, Catalog, STORE};

/// Where a backup is kept: a folder, or the part of a bucket below a prefix.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Of a folder: its own path, since a volume that is gone leaves a folder in its place.
    pub(super) folder: Option<PathBuf>,
}

impl Target {
    /// A folder, which only its owner may read when it is made.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(path: &FsPath) -> io::Result<Self> {
        let mut folder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(folder.recursive(true), 0o700);
        folder.create(path)?;
        Self::existing_folder(path)
    }

    /// A folder that is there.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub fn existing_folder(path: &FsPath) -> io::Result<Self> {
        let store = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), folder: Some(path.to_owned()) })
    }

    /// What a client of an object store reaches; its paths begin where the backup does.
    #[must_use]
    pub fn bucket(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: None }
    }

    pub(super) async fn list(&self) -> object_store::Result<Catalog> {
        Catalog::list(&*self.store).await
    }

    pub(super) async fn get(&self, path: &Path) -> object_store::Result<GetResult> {
        self.store.get(path).await
    }

    /// Stores an object whole or not at all.
    pub(super) async fn put(&self, path: &Path, payload: PutPayload) -> object_store::Result<()> {
        self.ensure_there()?;
        self.store.put(path, payload).await.map(drop)
    }

    /// Stores an object unless there is one of that name; whether it did.
    pub(super) async fn create(&self, path: &Path, payload: PutPayload) -> object_store::Result<bool> {
        if *path != Path::from(STORE) {
            self.ensure_there()?;
        }
        match self.store.put_opts(path, payload, PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins an object that is stored when it is complete.
    pub(super) async fn upload(&self, path: &Path) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.ensure_there()?;
        self.store.put_multipart(path).await
    }

    /// Takes a number for a run of groups that no other process has.
    pub(super) async fn claim(&self) -> object_store::Result<catalog::Generation> {
        let catalog = self.list().await?;
        let mut generation = catalog.generations.last().map_or(1, |newest| newest + 1);
        while !self.create(&catalog::claim(generation), PutPayload::default()).await? {
            generation += 1;
        }
        Ok(generation)
    }

    /// Where it is, of a folder.
    pub(super) fn place(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    /// Removes objects; one that is gone already is as good.
    pub(super) async fn delete_all(&self, paths: Vec<Path>) -> object_store::Result<()> {
        let mut deleted = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(deleted) = deleted.next().await {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what killed processes left half-written in the folders of older generations; buckets hide that by themselves.
    pub(super) async fn sweep(&self, before: catalog::Generation) -> object_store::Result<()> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let swept = tokio::task::spawn_blocking(move || {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_name().to_str().and_then(catalog::number).is_some_and(|of| of < before) {
                    fs::remove_dir_all(entry.path())?;
                }
            }
            Ok::<_, io::Error>(())
        });
        let swept = swept.await.map_err(io::Error::other).flatten();
        swept.map_err(|error| object_store::Error::Generic { store: "backup", source: error.into() })
    }

    /// A folder in which the backup no longer is, is not the one that was opened: its volume is gone.
    pub(super) fn ensure_there(&self) -> object_store::Result<()> {
        match &self.folder {
            Some(folder) if !folder.join(STORE).exists() => Err(object_store::Error::Generic {
                store: "backup",
                source: format!("{} is gone, or not mounted", folder.display()).into(),
            }),
            _ => Ok(()),
        }
    }
}
