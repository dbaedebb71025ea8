//! Whose content may have a name of the bucket.
//!
//! One request can create a file only where nothing has its name. Of joined pieces GCS and Azure cannot ask that, and some
//! S3 servers look and join in two steps. So every name is reserved first, by a small file of ours that one request creates:
//! it says whose content the name is for. A reservation belongs to content, not to an instance, and never has to expire;
//! one that a copy without an end left behind can go as soon as nothing more is stored for its job.

use futures_util::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, path::Path};

use super::{
    ArchiveError, HIDDEN,
    bucket::{Bucket, Fault, is_taken},
};

const NAMES: &str = "names";
/// Times that a reservation may end between two looks at it: each is another upload of the same file that ended.
const TRIES: u32 = 3;

impl Bucket {
    /// Whether the name is for the content of this hash from now on; if not, it is for other content. Look at what has
    /// the name after this: a reservation ends when the file is there.
    pub(super) async fn reserve(&self, location: &Path, sha256: &str) -> Result<bool, ArchiveError> {
        let place = place(location);
        for _ in 0..TRIES {
            let options = PutOptions::from(PutMode::Create);
            match self.store.put_opts(&place, sha256.to_owned().into(), options).await {
                Ok(_) => return Ok(true),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(self.troubled(&error)),
            }
            let reserved = match self.store.get(&place).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            match reserved {
                Ok(reserved) => return Ok(reserved == sha256.as_bytes()),
                // It ended in between: then what it was for is there, and that is for the next look to tell.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.troubled(&error)),
            }
        }
        Err(Fault::Away("other uploads of the same file end at this very moment".to_owned()).into())
    }

    /// The names that are reserved; where a reservation stays behind, for nobody any more.
    pub(super) async fn reserved(&self) -> Result<Vec<Path>, ArchiveError> {
        let names = Path::from_iter([HIDDEN, NAMES]);
        let listed: Vec<_> =
            self.store.list(Some(&names)).try_collect().await.map_err(|e| self.reading(e))?;
        let name = |place: Path| place.prefix_match(&names).map(|parts| parts.collect());
        Ok(listed.into_iter().filter_map(|place| name(place.location)).collect())
    }

    /// Ends a reservation, once something has the name or nothing ever will. One that stays behind does no harm.
    pub(super) async fn release(&self, location: &Path) {
        if let Err(error) = self.store.delete(&place(location)).await {
            tracing::warn!(%location, %error, "the reservation of a file's name could not be removed; the next round of retention tries again");
        }
    }
}

fn place(location: &Path) -> Path {
    Path::from_iter([HIDDEN, NAMES]).parts().chain(location.parts()).collect()
}
