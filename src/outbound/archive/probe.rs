//! Whether the archive does what it is for.

use uuid::Uuid;

use super::{Archive, ArchiveError, HIDDEN};

impl Archive {
    /// Stores a small file as a video is stored, reads it and removes it.
    ///
    /// # Errors
    /// The first step that failed; then the file may stay, hidden.
    pub async fn probe(&self) -> Result<(), ArchiveError> {
        let content = Uuid::now_v7().to_string();
        let location = format!("{HIDDEN}/probe-{content}");
        match &self.bucket {
            None => {
                let mut upload = self.writer(&location).await?;
                upload.put_part(content.clone().into()).await?;
                upload.complete().await?;
            }
            Some(bucket) => bucket.put(&location, content.clone().into()).await?,
        }
        let found = self.read(&location, None).await?.bytes().await?;
        self.remove(&location).await?;
        if found == content.as_bytes() {
            return Ok(());
        }
        Err(ArchiveError::Io("what was read is not what had been stored".to_owned()))
    }
}
