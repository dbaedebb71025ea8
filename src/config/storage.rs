//! Where videos are kept and backups of the store: folders or buckets.

use std::{fmt, path::PathBuf};

use bytesize::ByteSize;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::{
    Backup,
    check::{Checker, is_database},
    file,
};

/// `[storage]`: where videos are kept.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Root folder of the `file:` archive; of a bucket, the folder in which files wait for their upload.
    pub root: PathBuf,
    /// The bucket, when `[storage] url` names one.
    pub bucket: Option<Bucket>,
    /// Folder of a job's files in the archive: contains `{job_id}`, may contain `{date}`, no `..`.
    pub key_template: String,
    /// No download starts with less free bytes on the disk of `root`; 0 to 1 PiB.
    pub min_free: u64,
}

/// A bucket of an object store; only in builds with its feature. It is shown as its URL.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whose it is.
    pub cloud: Cloud,
    /// Its name: of a bucket, or of a container of Azure.
    pub name: String,
    /// What all keys begin with: a path without slashes at its ends, or empty.
    pub prefix: String,
    /// Where the service is, http or https; `None`: as the environment says, else the cloud's own.
    pub endpoint: Option<Url>,
    /// The region of S3; `None`: as the environment says, else `us-east-1`.
    pub region: Option<String>,
    /// `ID:SECRET` for S3, `ACCOUNT:KEY` for Azure, the JSON of a service account for GCS; `None`: as the environment
    /// says, by the variables that the cloud's own tools know.
    pub credentials: Option<SecretString>,
    /// How stored files are handed out.
    pub serve: Serve,
}

impl Bucket {
    /// The credentials as an id and its secret, where they are set and have that form.
    #[must_use]
    pub fn key(&self) -> Option<(&str, &str)> {
        let (id, secret) = self.credentials.as_ref()?.expose_secret().split_once(':')?;
        (!id.is_empty() && !secret.is_empty()).then_some((id, secret))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}://{}{slash}{}", self.cloud.scheme(), self.name, self.prefix)
    }
}

/// Whose object store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3 and what speaks like it: feature `s3`.
    S3,
    /// Google Cloud Storage: feature `gcs`.
    Gcs,
    /// Azure Blob Storage: feature `azure`.
    Azure,
}

impl Cloud {
    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Self::S3),
            "gs" => Some(Self::Gcs),
            "az" => Some(Self::Azure),
            _ => None,
        }
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    /// Its name, the feature of the build that knows it, and whether this is such a build.
    const fn feature(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::S3 => ("S3", "s3", cfg!(feature = "s3")),
            Self::Gcs => ("Google Cloud Storage", "gcs", cfg!(feature = "gcs")),
            Self::Azure => ("Azure", "azure", cfg!(feature = "azure")),
        }
    }
}

/// How the files of a bucket are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serve {
    /// Through this server.
    #[default]
    Proxy,
    /// By a redirect to a signed URL of the bucket.
    Redirect,
}

pub(super) fn storage(c: &mut Checker<'_>, file: &file::File) -> Storage {
    let f = &file.storage;
    let (key, template) = ("storage.key_template", &f.key_template);
    if !template.contains("{job_id}") {
        c.problem(key, "must contain {job_id}: files of different jobs would overwrite each other");
    }
    if template.split('/').any(|part| part.is_empty() || part.starts_with('.')) || template.contains('\\') {
        c.problem(key, "must be a relative path without `..`, hidden or empty folders");
    }
    if template.replace("{job_id}", "").replace("{date}", "").contains(['{', '}']) {
        c.problem(key, "knows {job_id} and {date} only");
    }
    let serve = serve(c, &f.serve);
    let named = named(&f.url);
    let bucket = named.and_then(|named| bucket(c, f, "storage.url", named, serve));
    let root = match named {
        Some(_) if f.spool.as_os_str().is_empty() => {
            c.reject("storage.spool", "must name a folder").unwrap_or_default()
        }
        Some(_) => c.path(&f.spool),
        None => {
            let backs_up = file.store.backup.as_deref().is_some_and(|url| self::named(url).is_some());
            folder(c, f, serve, backs_up)
        }
    };
    Storage {
        root,
        bucket,
        key_template: template.clone(),
        min_free: c.size("storage.min_free", &f.min_free, ByteSize::b(0)..=ByteSize::pib(1)),
    }
}

/// `[store] backup`. A bucket is reached as that of the videos is, where that is of the same cloud or a folder; one of
/// another cloud as the environment says.
pub(super) fn backup(c: &mut Checker<'_>, file: &file::File, videos: &Storage) -> Option<Backup> {
    let text = file.store.backup.as_deref()?;
    let key = "store.backup";
    if is_database(&file.store.url) {
        let message = "is for a store in a folder, and store.url names a database: use the database's own backup (archived \
                       write-ahead log and base backups), and recover it to its last commit";
        return c.reject(key, message);
    }
    let Some((cloud, rest)) = named(text) else {
        return Some(Backup::Folder(c.folder(key, text, "file")));
    };
    let bucket = match &videos.bucket {
        None => bucket(c, &file.storage, key, (cloud, rest), Serve::Proxy)?,
        Some(videos) => {
            let (name, prefix) = place(c, key, cloud, rest)?;
            let (endpoint, region, credentials) = if videos.cloud == cloud {
                (videos.endpoint.clone(), videos.region.clone(), videos.credentials.clone())
            } else {
                (None, None, None)
            };
            Bucket { cloud, name, prefix, endpoint, region, credentials, serve: Serve::Proxy }
        }
    };
    Some(Backup::Bucket(bucket))
}

/// The cloud that a URL names, and what comes behind it.
fn named(url: &str) -> Option<(Cloud, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((Cloud::of_scheme(scheme)?, rest))
}

fn serve(c: &mut Checker<'_>, text: &str) -> Serve {
    match text {
        "proxy" => Serve::Proxy,
        "redirect" => Serve::Redirect,
        other => c
            .reject("storage.serve", format!("must be \"proxy\" or \"redirect\", not `{other}`"))
            .unwrap_or_default(),
    }
}

fn folder(c: &mut Checker<'_>, f: &file::Storage, serve: Serve, backs_up: bool) -> PathBuf {
    if serve == Serve::Redirect {
        c.problem(
            "storage.serve",
            "is \"redirect\", and a folder has nowhere to redirect to: write \"proxy\"",
        );
    }
    let credentials = f.credentials.is_some() || f.credentials_file.is_some();
    c.note_secret("storage.credentials", f.credentials.as_ref().map_or("", ExposeSecret::expose_secret));
    for (key, is_set) in [
        ("storage.endpoint", f.endpoint.is_some()),
        ("storage.region", f.region.is_some()),
        ("storage.credentials", credentials),
    ] {
        if is_set && !backs_up {
            c.warn(key, "has no effect unless storage.url or store.backup names a bucket");
        }
    }
    let is_known = f.url.split_once(':').is_none_or(|(scheme, _)| scheme == "file");
    if !is_known {
        let message = "is of no kind that is known: write `file:./folder`, `s3://bucket/prefix`, \
                       `gs://bucket/prefix` or `az://container/prefix`";
        return c.reject("storage.url", message).unwrap_or_default();
    }
    c.folder("storage.url", &f.url, "file")
}

fn bucket(
    c: &mut Checker<'_>,
    f: &file::Storage,
    key: &str,
    (cloud, rest): (Cloud, &str),
    serve: Serve,
) -> Option<Bucket> {
    let (name, prefix) = place(c, key, cloud, rest)?;
    let bucket = Bucket {
        cloud,
        name,
        prefix,
        endpoint: f.endpoint.as_ref().and_then(|url| c.base_url("storage.endpoint", url)),
        region: f.region.clone(),
        credentials: c.secret("storage.credentials", &f.credentials, &f.credentials_file),
        serve,
    };
    credentials(c, &bucket);
    Some(bucket)
}

/// The name of a bucket, and the prefix of what is ours in it.
fn place(c: &mut Checker<'_>, key: &str, cloud: Cloud, rest: &str) -> Option<(String, String)> {
    let (called, feature, is_known) = cloud.feature();
    if !is_known {
        let message = format!(
            "names a bucket of {called}, which this build knows nothing of: take one with the feature `{feature}` \
             (`cargo install reelhook --features {feature}`), or write `file:./folder`"
        );
        return c.reject(key, message);
    }
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.=".contains(c))
    };
    if !plain(name) || !(prefix.is_empty() || prefix.split('/').all(plain)) {
        let message = "must be a bucket and, if you like, a prefix of letters, digits, `-`, `_`, `.`, `=` and `/`: \
                       write \"s3://bucket/videos\"";
        return c.reject(key, message);
    }
    Some((name.to_owned(), prefix.to_owned()))
}

/// No message repeats them.
fn credentials(c: &mut Checker<'_>, bucket: &Bucket) {
    let Some(secret) = bucket.credentials.as_ref() else { return };
    let (is_sound, wanted) = match bucket.cloud {
        Cloud::S3 => (bucket.key().is_some(), "the id of an access key and its secret: \"ID:SECRET\""),
        Cloud::Azure => (bucket.key().is_some(), "a storage account and its key: \"ACCOUNT:KEY\""),
        Cloud::Gcs => {
            let is_json =
                serde_json::from_str(secret.expose_secret()).is_ok_and(|json: Value| json.is_object());
            (is_json, "the JSON of a service account's key")
        }
    };
    if !is_sound && !c.is_rejected("storage.credentials") {
        c.problem("storage.credentials", format!("must be {wanted}"));
    }
}
