//! What `listen` remembers of an app between its runs: the signing secret, and up to where events were forwarded.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use etcetera::base_strategy::{BaseStrategy as _, Xdg};
use reelhook::{entropy::Entropy, provider::signing::SigningKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::cli::exit::{Exit, Failure};

/// A place in the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Everything up to here was forwarded, or is not wanted.
    pub(super) seq: u64,
    /// The id of the event there, where it was forwarded: another log has another one.
    pub(super) event_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    server: Url,
    forward_to: Url,
    secret: String,
    position: Option<Position>,
}

/// The file of one server and one app, for the owner's eyes only.
pub(crate) struct State {
    path: PathBuf,
    content: Content,
}

impl State {
    /// Reads the file, or makes it with a new secret.
    pub(crate) fn open(server: &Url, forward_to: &Url) -> Result<Self, Failure> {
        let folder = folder()?;
        let name = hex::encode(Sha256::digest(format!("{server}\n{forward_to}")));
        let path = folder.join(format!("{}.json", &name[..16]));
        let read = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(content) = read.map_err(|error| unusable(&path, &error))? {
            return Ok(Self { path, content });
        }
        let random = Entropy::system().bytes();
        let random = random.map_err(|error| Failure::new(Exit::Failure, format!("no secret: {error}")))?;
        let secret = SigningKey::text(&random).expose_secret().to_owned();
        let (server, forward_to) = (server.clone(), forward_to.clone());
        let state = Self { path, content: Content { server, forward_to, secret, position: None } };
        fs::create_dir_all(&folder).map_err(|error| unusable(&folder, &error))?;
        state.write()?;
        Ok(state)
    }

    /// Keeps others from forwarding to the same app while the answer lives.
    pub(super) fn lock(&self) -> Result<File, Failure> {
        let path = self.path.with_extension("lock");
        let file = File::create(&path).map_err(|error| unusable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                let detail = format!("another `listen` forwards to {} already", self.content.forward_to);
                Err(Failure::new(Exit::Conflict, detail))
            }
            Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
        }
    }

    /// The secret that was made for this app.
    pub(crate) fn secret(&self) -> SecretString {
        self.content.secret.clone().into()
    }

    /// Where an earlier run stopped.
    pub(super) fn position(&self) -> Option<&Position> {
        self.content.position.as_ref()
    }

    /// Remembers durably that everything up to here is done.
    pub(super) fn advance(&mut self, position: Position) -> Result<(), Failure> {
        self.content.position = Some(position);
        self.write()
    }

    /// Whole or not at all, also across a power cut.
    fn write(&self) -> Result<(), Failure> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let replace = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, &self.content)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            File::open(folder)?.sync_all()
        };
        replace().map_err(|error| unusable(&self.path, &error))
    }
}

/// `$XDG_STATE_HOME/reelhook/listen`, or the usual place of it.
fn folder() -> Result<PathBuf, Failure> {
    let base = Xdg::new().ok().and_then(|strategy| strategy.state_dir());
    let base = base.ok_or_else(|| Failure::usage("there is no home folder: set $XDG_STATE_HOME"))?;
    Ok(base.join("reelhook").join("listen"))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot keep the position in {}: {error}", path.display()))
}
