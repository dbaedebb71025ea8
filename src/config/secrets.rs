//! Secrets: typed in, in the file that `x_file` names, or handed over by systemd.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use super::{check::Checker, report::Origin};

/// No key is longer; a wrong path (a device, a video) must not fill the memory.
const MAX_BYTES: u64 = 64 * 1024;

/// By which a changed secret is told from an unchanged one. Not shown: a short secret could be guessed by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Checker<'_> {
    /// A secret as typed, or from its file or credential.
    pub(super) fn secret(
        &mut self,
        key: &str,
        typed: &Option<SecretString>,
        file: &Option<PathBuf>,
    ) -> Option<SecretString> {
        let secret = match self.stored(key, typed.is_some(), file) {
            Some(text) => text.trim().into(),
            None => typed.clone()?,
        };
        if is_blank(&secret) {
            self.problem(key, "is empty: give it a value or remove it");
        }
        self.note_secret(key, secret.expose_secret());
        Some(secret)
    }

    /// Several secrets, newest first; a file or credential holds one a line, or one JSON document.
    pub(super) fn secrets(
        &mut self,
        key: &str,
        typed: &Option<Vec<SecretString>>,
        file: &Option<PathBuf>,
    ) -> Vec<SecretString> {
        let typed = typed.as_deref().unwrap_or_default();
        let secrets: Vec<SecretString> = match self.stored(key, !typed.is_empty(), file) {
            Some(text) if text.trim().is_empty() => vec![SecretString::default()],
            // A set of public keys is one document on as many lines as it likes.
            Some(text) if text.trim_start().starts_with('{') => vec![text.trim().into()],
            Some(text) => {
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect()
            }
            None => typed.to_vec(),
        };
        if secrets.iter().any(is_blank) {
            self.problem(key, "holds an empty secret: give it a value or remove it");
        }
        if !secrets.is_empty() {
            let all: Vec<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
            self.note_secret(key, &all.join("\n"));
        }
        secrets
    }

    /// Notes what a secret is, without keeping it.
    pub(super) fn note_secret(&mut self, key: &str, secret: &str) {
        self.digests.insert(key.to_owned(), Digest(Sha256::digest(secret).into()));
    }

    /// What the secret's file or credential holds; that several are given is a problem, as nobody can tell which counts.
    fn stored(&mut self, key: &str, typed: bool, file: &Option<PathBuf>) -> Option<String> {
        let file_key = format!("{key}_file");
        let credential = self.credentials.map(|folder| folder.join(key)).filter(|path| path.exists());
        match (typed, file, credential) {
            (_, None, None) => None,
            (false, Some(path), None) => {
                let path = self.path(path);
                if world_readable(&path) {
                    self.warn(&file_key, format!("every user can read {}: chmod o-r it", path.display()));
                }
                self.readable(&file_key, &path)
            }
            (false, None, Some(path)) => {
                self.origins.insert(key.to_owned(), Origin::Credential);
                self.readable(key, &path)
            }
            (_, Some(_), None) => self.reject(&file_key, format!("is set, and so is `{key}`: keep one")),
            (_, None, Some(_)) => self.reject(key, "is set, and there is a systemd credential too: keep one"),
            (_, Some(_), Some(_)) => {
                self.reject(&file_key, "is set, and there is a systemd credential too: keep one")
            }
        }
    }

    fn readable(&mut self, key: &str, path: &Path) -> Option<String> {
        match read(path) {
            Ok(text) => Some(text),
            Err(error) => self.reject(key, format!("{} cannot be read: {error}", path.display())),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 64 KiB is no secret"));
    }
    Ok(text)
}

fn is_blank(secret: &SecretString) -> bool {
    secret.expose_secret().trim().is_empty()
}

#[cfg(unix)]
fn world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) && !is_handed_over(path)
}

/// Where containers find their secrets.
#[cfg(target_os = "linux")]
const HANDED_OVER: &str = "/run/secrets";

/// Whether a container was handed this file, as Docker and Podman do: by a mount of its own. Nobody else is there to read it,
/// and its modes are made elsewhere. On a host a file below that folder is one like any other.
#[cfg(target_os = "linux")]
fn is_handed_over(path: &Path) -> bool {
    path.starts_with(HANDED_OVER) && is_mount(path)
}

/// Whether something is mounted right here; not known before Linux 5.8.
#[cfg(target_os = "linux")]
fn is_mount(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_handed_over(_: &Path) -> bool {
    false
}

#[cfg(not(unix))]
fn world_readable(_: &Path) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_everybody_can_read_is_open_unless_a_container_was_handed_it_by_a_mount() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        fs::write(&key, "key").unwrap();
        for (mode, open) in [(0o644, true), (0o640, false)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(world_readable(&key), open);
        }
        assert!(!is_mount(&key) && !is_mount(folder.path()), "lies in a mount, and is none");
        assert!(is_mount(Path::new("/proc")));
        assert!(!is_handed_over(Path::new("/proc")), "not where secrets are");
        assert!(!is_handed_over(&Path::new(HANDED_OVER).join("no such key")));
    }
}
