//! `reelhook download`: copies a job's files here, whole and proven by their hash, or not at all.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Component, Path, PathBuf},
};

use backon::BackoffBuilder as _;
use reqwest::{Method, StatusCode, header};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    client::{Client, Connection, patience},
    exit::{Exit, Failure},
    job::{self, Job, Snapshot},
    output::{self, Output},
    progress::Progress,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the job
    id: String,
    /// Where to put the file, or a folder; without it, here under the job's id
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the file of this name
    #[arg(long)]
    name: Option<String>,
}

pub(crate) async fn run(args: Args, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::new(connection)?;
    let Snapshot { job, .. } = Snapshot::get(&client, &args.id).await?;
    for (file, path) in places(&job, args.name.as_deref(), args.output.as_deref())? {
        copy(&client, &job, file, &path, output).await?;
        if output.is_json() {
            let record =
                json!({ "job_id": job.id, "file": path, "bytes": file.bytes, "sha256": file.sha256 });
            output.record(&record)?;
        } else {
            output.line(&path.to_string_lossy())?;
        }
    }
    Ok(())
}

/// Copies all files of a finished job to `target`: a file, or a folder for several.
pub(crate) async fn save(client: &Client, job: &Job, target: &Path, output: &Output) -> Result<(), Failure> {
    for (file, path) in places(job, None, Some(target))? {
        copy(client, job, file, &path, output).await?;
    }
    Ok(())
}

/// The wanted files of a job, and where each goes.
fn places<'a>(
    job: &'a Job,
    name: Option<&str>,
    target: Option<&Path>,
) -> Result<Vec<(&'a job::File, PathBuf)>, Failure> {
    let wanted = |file: &&job::File| name.is_none_or(|name| name == file.name);
    let files: Vec<&job::File> = job.files.iter().filter(wanted).collect();
    let several = files.len() > 1;
    let place = |file: &'a job::File| match target {
        Some(target) if target.is_dir() => Ok((file, target.join(default_name(job, file, several)?))),
        Some(target) if !several => Ok((file, target.to_owned())),
        Some(_) => {
            let detail =
                format!("{} has {} files: give a folder, or choose one with --name", job.id, job.files.len());
            Err(Failure::usage(detail))
        }
        None => Ok((file, default_name(job, file, several)?)),
    };
    match files.is_empty() {
        true => Err(nothing_to_fetch(job, name)),
        false => files.into_iter().map(place).collect(),
    }
}

async fn copy(
    client: &Client,
    job: &Job,
    file: &job::File,
    path: &Path,
    output: &Output,
) -> Result<(), Failure> {
    let copy = Copy::new(client, &job.id, file, path)?;
    tokio::select! {
        result = copy.make(output) => result,
        _ = tokio::signal::ctrl_c() => {
            let detail = "interrupted; what is here already is kept, and the same command goes on from there";
            Err(Failure::new(Exit::Download, detail))
        }
    }
}

fn nothing_to_fetch(job: &Job, name: Option<&str>) -> Failure {
    let id = &job.id;
    match (name, job.is_settled()) {
        (Some(name), _) if !job.files.is_empty() => {
            Failure::new(Exit::NotFound, format!("{id} has no file `{name}`"))
        }
        (_, false) => {
            let detail =
                format!("{id} is {} and has no file yet; `reelhook jobs watch {id}`", job.status.as_str());
            Failure::new(Exit::Conflict, detail)
        }
        (_, true) => match job.outcome() {
            Err(failure) => failure,
            Ok(()) => Failure::new(Exit::NotFound, format!("{id} has no file (any more)")),
        },
    }
}

/// The job's id with the file's extension; where there are several, with the file's name.
fn default_name(job: &Job, file: &job::File, several: bool) -> Result<PathBuf, Failure> {
    let plain = |text: &str| matches!(Path::new(text).components().collect::<Vec<_>>()[..], [Component::Normal(part)] if part == text);
    if !plain(&file.name) || !plain(&job.id) {
        let detail =
            format!("the server names a file `{}`, which is no name here: choose one with -o", file.name);
        return Err(Failure::new(Exit::Download, detail));
    }
    Ok(if several {
        PathBuf::from(format!("{}-{}", job.id, file.name))
    } else {
        PathBuf::from(&job.id).with_extension(Path::new(&file.name).extension().unwrap_or_default())
    })
}

/// One file on its way from the server to its place.
struct Copy<'a> {
    client: &'a Client,
    job_id: &'a str,
    file: &'a job::File,
    path: &'a Path,
    /// Beside the target, and named by the content: a later run continues it only if the file is the same.
    partial: PathBuf,
}

impl<'a> Copy<'a> {
    fn new(
        client: &'a Client,
        job_id: &'a str,
        file: &'a job::File,
        path: &'a Path,
    ) -> Result<Self, Failure> {
        let name =
            path.file_name().ok_or_else(|| Failure::usage(format!("{} names no file", path.display())))?;
        let short: String = file.sha256.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let partial = path.with_file_name(format!(".{}.{short}.part", name.to_string_lossy()));
        Ok(Self { client, job_id, file, path, partial })
    }

    async fn make(&self, output: &Output) -> Result<(), Failure> {
        let mut progress = Progress::new(output);
        progress.bytes(&self.file.name, 0, self.file.bytes);
        let mut writing = Writing::resume(&self.partial).map_err(|error| self.local(&error))?;
        if writing.length > self.file.bytes {
            writing.restart().map_err(|error| self.local(&error))?;
        }
        self.receive_all(&mut writing, &mut progress).await?;
        let sha256 = hex::encode(writing.hash.finalize());
        if !sha256.eq_ignore_ascii_case(&self.file.sha256) {
            drop(std::fs::remove_file(&self.partial));
            let detail = format!(
                "{} is not what the server stored: {} bytes with sha256 {sha256} came, {} bytes with {} were \
                 promised; nothing was kept, try again",
                self.file.name, writing.length, self.file.bytes, self.file.sha256
            );
            return Err(Failure::new(Exit::Download, detail));
        }
        writing
            .file
            .sync_all()
            .and_then(|()| std::fs::rename(&self.partial, self.path))
            .map_err(|error| self.local(&error))?;
        drop(progress);
        output.note(&format!("{} {} sha256 {sha256}", self.path.display(), output::bytes(self.file.bytes)));
        Ok(())
    }

    /// Goes on where the connection broke, for as long as the server can be expected to come back.
    async fn receive_all(&self, writing: &mut Writing, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let mut pauses = patience().build();
        while writing.length < self.file.bytes {
            let before = writing.length;
            let failure = match self.receive(writing, progress).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.exit == Exit::Unreachable => failure,
                Err(failure) => return Err(failure),
            };
            if writing.length > before {
                pauses = patience().build();
            }
            let Some(pause) = pauses.next() else {
                let detail = format!(
                    "{failure}; what is here already is kept, and the same command goes on from there"
                );
                return Err(Failure::new(Exit::Download, detail));
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// One request for what is missing.
    async fn receive(&self, writing: &mut Writing, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let segments = ["v1", "jobs", self.job_id, "files", &self.file.name];
        // So asked, the server hands the file over itself and redirects to nobody.
        let mut request = self.client.request(Method::GET, &segments).query(&[("download", "1")]);
        if writing.length > 0 {
            request = request
                .header(header::RANGE, format!("bytes={}-", writing.length))
                .header(header::IF_RANGE, format!("\"{}\"", self.file.sha256));
        }
        let mut response = self.client.send(request).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            writing.restart().map_err(|error| self.local(&error))?;
        }
        while let Some(chunk) = self.client.chunk(&mut response).await? {
            writing.write(&chunk).map_err(|error| self.local(&error))?;
            progress.bytes(&self.file.name, writing.length, self.file.bytes);
            if writing.length > self.file.bytes {
                break;
            }
        }
        Ok(())
    }

    fn local(&self, error: &io::Error) -> Failure {
        Failure::new(Exit::Download, format!("cannot write {}: {error}", self.path.display()))
    }
}

/// The part that is here, and the hash of it.
struct Writing {
    file: File,
    length: u64,
    hash: Sha256,
}

impl Writing {
    fn resume(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut length = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { file, length, hash }),
                count => {
                    hash.update(&buffer[..count]);
                    length += count as u64;
                }
            }
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.length, self.hash) = (0, Sha256::new());
        Ok(())
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hash.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }
}
