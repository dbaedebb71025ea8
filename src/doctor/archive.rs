//! Whether the archive keeps files as videos are kept there, and how many it still has room for.

use std::{path::Path, time::Instant};

use tokio::time::timeout;

use super::{Check, PATIENCE, span};
use crate::{
    disk,
    lifecycle::Status,
    outbound::archive::{Archive, Unfit},
    store::{JobFilter, Store},
};

pub(super) const NAME: &str = "archive";
const ROOM: &str = "disk";
/// Jobs whose files make the average.
const SAMPLE: usize = 100;
/// Fewer videos than this are no reserve.
const RESERVE: u64 = 20;

/// Waits for a probe: [`Archive::probe`], or that of its bucket alone.
pub(super) async fn check(probe: impl Future<Output = Result<(), Unfit>>) -> Check {
    let began = Instant::now();
    match timeout(PATIENCE, probe).await {
        Ok(Ok(())) => {
            Check::ok(NAME, format!("a file was stored, read and removed in {}", span(began.elapsed())))
        }
        // Videos are stored all the same.
        Ok(Err(unfit @ Unfit::Leavings(_))) => Check::warning(NAME, unfit.to_string(), remedy(&unfit)),
        Ok(Err(unfit)) => Check::failed(NAME, unfit.to_string(), remedy(&unfit)),
        Err(_) => Check::failed(
            NAME,
            format!("a small file was not stored, read and removed within {}", span(PATIENCE)),
            "find out what keeps the disk or the storage of [storage] url busy",
        ),
    }
}

const fn remedy(unfit: &Unfit) -> &'static str {
    match unfit {
        Unfit::Storing(_) | Unfit::Reading(_) | Unfit::Differs | Unfit::Removing(_) => {
            "check [storage] url, and that this process may write, read and delete there"
        }
        Unfit::Untried(_) => "ask again; if it stays so, look at the object store that [storage] url names",
        Unfit::Conditions(_) | Unfit::Overwrites => {
            "put [storage] url on an object store that knows conditional writes, or update this one; a proxy before it has to \
             hand `If-None-Match` on"
        }
        Unfit::Forgets => {
            "have the object store, or the proxy before it, hand metadata on (on S3 `x-amz-meta-sha256`)"
        }
        Unfit::Pieces(_) => {
            "let the credentials begin uploads in pieces (\"multipart\"), or put [storage] url on an object store that has them"
        }
        Unfit::Leavings(_) => {
            "let the credentials take uploads back (on S3 s3:AbortMultipartUpload), and have the bucket remove unfinished ones: \
             deploy/README.md has such a rule"
        }
    }
}

/// No server was ever started on it, or it is a mount point without its volume: nobody but a person can tell.
pub(super) fn not_begun(folder: &Path, is_spool: bool) -> Check {
    let (name, what) = if is_spool { (ROOM, "spool of the bucket") } else { (NAME, "archive") };
    Check::warning(
        name,
        format!("the {what} in {} is not begun yet", folder.display()),
        "is its volume mounted? Mount it before the server starts; if it is, or has none, the first start begins it",
    )
}

/// Compares what is free with what a video takes here.
pub(super) async fn room(archive: &Archive, store: &dyn Store) -> Check {
    judge(&archive.disk(), average(store).await)
}

pub(super) fn judge(report: &disk::Report, average: Option<u64>) -> Check {
    let fix = "make room, or give [storage] url a larger disk; downloads wait meanwhile, and links expire";
    if let Some(trouble) = report.no_writes.or(report.no_new_work) {
        return Check::failed(ROOM, trouble.to_string(), fix);
    }
    let Some(free) = report.free else {
        return Check::ok(ROOM, "the archive is no disk of this machine");
    };
    let usable = free.saturating_sub(report.min_free);
    let free = bytesize::ByteSize::b(free);
    match average {
        None => Check::ok(ROOM, format!("{free} are free; no video is stored yet to compare with")),
        Some(average) => {
            let (videos, average) = (usable / average.max(1), bytesize::ByteSize::b(average));
            let detail = format!("{free} are free, room for {videos} videos of {average}, the average here");
            if videos < RESERVE { Check::warning(ROOM, detail, fix) } else { Check::ok(ROOM, detail) }
        }
    }
}

/// Bytes of a stored file, on average over the newest jobs.
async fn average(store: &dyn Store) -> Option<u64> {
    let filter = JobFilter { status: Some(Status::Succeeded), ..JobFilter::default() };
    let jobs = store.list(filter, None, SAMPLE).await.ok()?.items;
    let sizes: Vec<u64> = jobs.iter().flat_map(|job| job.files().map(|file| file.bytes)).collect();
    sizes.iter().sum::<u64>().checked_div(sizes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::Role, doctor::Verdict};

    #[test]
    fn room_is_told_in_videos_of_the_average_size_and_few_are_no_reserve() {
        let free = 21 << 30;
        let report = disk::Report {
            role: Role::Archive,
            free: Some(free),
            min_free: 1 << 30,
            no_new_work: None,
            no_writes: None,
        };
        let judged = |average| judge(&report, average);
        assert_eq!(judged(Some(1 << 30)).verdict, Verdict::Ok);
        assert!(judged(Some(1 << 30)).detail.contains("room for 20 videos"));
        assert_eq!(judged(Some((1 << 30) + (1 << 26))).verdict, Verdict::Warning);
        assert_eq!(judged(None).verdict, Verdict::Ok);
        assert_eq!(judged(Some(0)).verdict, Verdict::Ok, "nothing is divided by no bytes");
    }
}
