//! API keys: a file of their hashes, made by the command line and read by the server.
//!
//! A key is 32 random bytes, so one round of SHA-256 is enough to make the file useless to whoever reads it: there is
//! nothing to guess. The key itself is shown once, when it is made.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every key begins with, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "rhk_";

const HEADER: &str =
    "# API keys of reelhook: names, rights and SHA-256 hashes. Written by `reelhook keys`.\n";
const NAME_MAX: usize = 64;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Create jobs, which spends credits.
    Submit,
    /// See jobs, events and files.
    Read,
    /// Cancel, retry and resolve jobs.
    Operate,
    /// Everything, the bodies of callbacks included.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        })
    }
}

/// A key that was presented and is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What its owner called it.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
}

impl Found {
    /// Whether the key may do what `scope` allows. [`Scope::Admin`] implies every other.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// What the file keeps of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Unique in its file: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What it may do; never empty.
    pub scopes: BTreeSet<Scope>,
    /// SHA-256 of the whole key.
    #[serde(with = "hex::serde")]
    sha256: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it is refused; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Record {
    /// Whether the key is refused because of its age.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// A key file that cannot be used, or a change that cannot be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("the key file {} cannot be {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// It is not what `reelhook keys` writes.
    #[error("{} is not a key file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        reason: String,
    },
    /// Another key has the name.
    #[error("there is a key `{0}` already; revoke it first or choose another name")]
    NameTaken(String),
    /// The name cannot be used.
    #[error("`{0}` cannot name a key; a name is 1 to 64 of A-Z a-z 0-9 . _ -")]
    InvalidName(String),
    /// A key without a scope could do nothing.
    #[error("a key needs at least one scope: submit, read, operate or admin")]
    NoScope,
    /// No key has the name.
    #[error("there is no key `{0}`")]
    NotFound(String),
    /// The system gave no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(getrandom::Error),
}

/// The keys of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFile {
    keys: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "key")]
    keys: Vec<Record>,
}

impl KeyFile {
    /// Reads a file that must be there.
    ///
    /// # Errors
    /// It cannot be read, or is not a key file.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = fs::read_to_string(path).map_err(|source| io_error(path, "read", source))?;
        Self::parse(&text).map_err(|reason| KeyFileError::Malformed { path: path.to_owned(), reason })
    }

    /// Reads a file; one that is not there has no keys yet.
    ///
    /// # Errors
    /// As [`KeyFile::load`].
    pub fn load_or_empty(path: &Path) -> Result<Self, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            result => result,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Document { keys } = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut names = BTreeSet::new();
        for key in &keys {
            check_name(&key.name).map_err(|error| error.to_string())?;
            if key.scopes.is_empty() {
                return Err(format!("the key `{}` has no scope", key.name));
            }
            if !names.insert(&key.name) {
                return Err(format!("two keys are called `{}`", key.name));
            }
        }
        Ok(Self { keys })
    }

    /// All keys, in the order of their making.
    pub fn keys(&self) -> &[Record] {
        &self.keys
    }

    /// The key that was presented, unless it is unknown or expired at `now`. Takes as long for a wrong key as for a
    /// right one.
    pub fn find(&self, presented: &str, now: Timestamp) -> Option<Found> {
        let hash = hash(presented);
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.sha256.ct_eq(&hash)) {
                found = Some(key);
            }
        }
        let key = found.filter(|key| !key.is_expired(now))?;
        Some(Found { name: key.name.clone(), scopes: key.scopes.clone() })
    }

    /// Makes a key, adds its hash to the file at `path` (made when it is not there) and returns the key: the only
    /// time that it can be seen.
    ///
    /// # Errors
    /// The name is taken or unusable, there is no scope, or the file cannot be read or written.
    pub fn create(
        path: &Path,
        name: &str,
        scopes: BTreeSet<Scope>,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<SecretString, KeyFileError> {
        check_name(name)?;
        if scopes.is_empty() {
            return Err(KeyFileError::NoScope);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(KeyFileError::Random)?;
        let key = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let record = Record { name: name.to_owned(), scopes, sha256: hash(&key), created_at, expires_at };
        Self::change(path, |keys| {
            if keys.iter().any(|key| key.name == name) {
                return Err(KeyFileError::NameTaken(name.to_owned()));
            }
            keys.push(record);
            Ok(())
        })?;
        Ok(key.into())
    }

    /// Takes a key out of the file at `path`.
    ///
    /// # Errors
    /// There is no such key, or the file cannot be read or written.
    pub fn revoke(path: &Path, name: &str) -> Result<(), KeyFileError> {
        Self::change(path, |keys| {
            let index = keys.iter().position(|key| key.name == name);
            keys.remove(index.ok_or_else(|| KeyFileError::NotFound(name.to_owned()))?);
            Ok(())
        })
    }

    /// Reads, changes and replaces the file. The folder is locked meanwhile, since of two changes at once the first
    /// would be lost.
    fn change(
        path: &Path,
        change: impl FnOnce(&mut Vec<Record>) -> Result<(), KeyFileError>,
    ) -> Result<(), KeyFileError> {
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let folder = File::open(folder).map_err(|source| io_error(path, "written", source))?;
        folder.lock().map_err(|source| io_error(path, "written", source))?;
        let mut keys = Self::load_or_empty(path)?.keys;
        change(&mut keys)?;
        replace(path, &folder, &keys).map_err(|source| io_error(path, "written", source))
    }
}

/// Whole or not at all, also across a power cut, and for the owner's eyes only.
fn replace(path: &Path, folder: &File, keys: &[Record]) -> io::Result<()> {
    let text = toml::to_string(&Document { keys: keys.to_vec() }).map_err(io::Error::other)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let temporary = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    // Left by a crash; under the lock nobody else writes it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().open(&temporary)?;
    file.write_all(HEADER.as_bytes())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    folder.sync_all()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn check_name(name: &str) -> Result<(), KeyFileError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(KeyFileError::InvalidName(name.chars().take(NAME_MAX).collect()))
    }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), what, source }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        (folder, path)
    }

    fn make(path: &Path, name: &str, scopes: &[Scope], expires_at: Option<Timestamp>) -> String {
        let scopes = scopes.iter().copied().collect();
        KeyFile::create(path, name, scopes, NOW, expires_at).unwrap().expose_secret().to_owned()
    }

    #[test]
    fn a_key_is_found_by_itself_and_by_nothing_else() {
        let (_folder, path) = folder();
        let (one, two) =
            (make(&path, "one", &[Scope::Read], None), make(&path, "two", &[Scope::Submit], None));
        let file = KeyFile::load(&path).unwrap();
        assert_eq!(file.find(&one, NOW).unwrap().name, "one");
        assert_eq!(file.find(&two, NOW).unwrap().name, "two");
        for wrong in ["", "rhk_", &one[..one.len() - 1], &format!("{one} "), &one.to_lowercase()] {
            assert_eq!(file.find(wrong, NOW), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_the_prefix_and_43_characters_and_no_two_are_alike() {
        let (_folder, path) = folder();
        let keys = ["a", "b"].map(|name| make(&path, name, &[Scope::Read], None));
        assert_ne!(keys[0], keys[1]);
        for key in keys {
            let rest = key.strip_prefix(PREFIX).unwrap();
            assert_eq!(rest.len(), 43);
            assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{key}");
        }
    }

    #[test]
    fn the_file_holds_the_hash_and_not_the_key_and_is_the_owners_alone() {
        let (folder, path) = folder();
        let key = make(&path, "app", &[Scope::Submit, Scope::Read], None);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&key[PREFIX.len()..]));
        assert!(text.contains(&hex::encode(Sha256::digest(&key))));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_key_is_refused_from_the_instant_of_its_expiry() {
        let (_folder, path) = folder();
        let end = NOW + jiff::SignedDuration::from_secs(60);
        let key = make(&path, "short", &[Scope::Read], Some(end));
        let file = KeyFile::load(&path).unwrap();
        assert!(file.find(&key, end - jiff::SignedDuration::from_millis(1)).is_some());
        assert_eq!(file.find(&key, end), None);
    }

    #[test]
    fn admin_implies_every_scope_and_the_others_only_themselves() {
        let found = |scope| Found { name: "k".into(), scopes: BTreeSet::from([scope]) };
        let all = [Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin];
        for scope in all {
            assert!(found(Scope::Admin).allows(scope));
            for other in all.into_iter().filter(|other| *other != scope && scope != Scope::Admin) {
                assert!(!found(scope).allows(other), "{scope} must not allow {other}");
            }
        }
    }

    #[test]
    fn a_revoked_key_is_gone_and_the_others_stay() {
        let (_folder, path) = folder();
        let (one, two) = (make(&path, "one", &[Scope::Read], None), make(&path, "two", &[Scope::Read], None));
        KeyFile::revoke(&path, "one").unwrap();
        let file = KeyFile::load(&path).unwrap();
        assert_eq!((file.find(&one, NOW), file.find(&two, NOW).is_some()), (None, true));
        assert!(matches!(KeyFile::revoke(&path, "one"), Err(KeyFileError::NotFound(_))));
    }

    #[test]
    fn names_that_are_taken_or_unusable_and_keys_without_scopes_change_nothing() {
        let (_folder, path) = folder();
        make(&path, "app", &[Scope::Read], None);
        let before = fs::read(&path).unwrap();
        let create = |name: &str, scopes: &[Scope]| {
            KeyFile::create(&path, name, scopes.iter().copied().collect(), NOW, None).unwrap_err()
        };
        assert!(matches!(create("app", &[Scope::Read]), KeyFileError::NameTaken(_)));
        assert!(matches!(create("new", &[]), KeyFileError::NoScope));
        for name in ["", "a b", "a\nb", "ä", &"x".repeat(65)] {
            assert!(matches!(create(name, &[Scope::Read]), KeyFileError::InvalidName(_)), "{name:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_whole() {
        let record = |name: &str, scopes: &str, hash: &str| {
            format!(
                "[[key]]\nname = \"{name}\"\nscopes = {scopes}\nsha256 = \"{hash}\"\ncreated_at = \"2026-11-01T00:00:00Z\"\n"
            )
        };
        let hash = "00".repeat(32);
        assert_eq!(KeyFile::parse(&record("a", "[\"read\"]", &hash)).unwrap().keys().len(), 1);
        for text in [
            "nonsense".to_owned(),
            "keys = []".to_owned(),
            record("a", "[]", &hash),
            record("a", "[\"write\"]", &hash),
            record("a", "[\"read\"]", "00"),
            record("a b", "[\"read\"]", &hash),
            record("a", "[\"read\"]", &hash).repeat(2),
        ] {
            assert!(KeyFile::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_made_at_once_are_all_kept() {
        let (_folder, path) = folder();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || make(path, &format!("key{n}"), &[Scope::Read], None));
            }
        });
        assert_eq!(KeyFile::load(&path).unwrap().keys().len(), 8);
    }
}
