//! Waiting for a job. Whatever happens here, the job goes on.

use std::time::Duration;

use backon::Retryable as _;
use reqwest::{Method, StatusCode, header};
use tokio::time::Instant;

use super::{
    client::{Client, patience},
    exit::{Exit, Failure},
    job::{Snapshot, Status},
    progress::Progress,
};

/// How long one question stays open. Below what proxies usually allow a silent connection.
const LONG_POLL: Duration = Duration::from_secs(30);
/// While bytes run, they are shown as often as this.
const REFRESH: Duration = Duration::from_secs(1);
/// What the server may take on top of the wait that it was asked for.
const GRACE: Duration = Duration::from_secs(15);

/// Follows a job from `snapshot` until it is settled or held, telling `changed` of every new revision; `false` from it
/// ends the following early.
///
/// # Errors
/// [`Exit::StillRunning`] after `limit` or at Ctrl-C; [`Exit::Unreachable`] when the server stays away.
pub(crate) async fn follow(
    client: &Client,
    mut snapshot: Snapshot,
    limit: Option<Duration>,
    progress: &mut Progress<'_>,
    mut changed: impl FnMut(&Snapshot) -> Result<bool, Failure>,
) -> Result<Snapshot, Failure> {
    let end = limit.map(|limit| Instant::now() + limit);
    progress.job(&snapshot.job);
    loop {
        if !changed(&snapshot)? || snapshot.job.is_settled() || snapshot.job.status == Status::Held {
            return Ok(snapshot);
        }
        let seen = snapshot.etag.clone();
        loop {
            let next = or_interrupted(next(client, &snapshot, end, progress), end, &snapshot).await?;
            let Some(next) = next else { continue };
            progress.job(&next.job);
            snapshot = next;
            if snapshot.etag.is_none() || snapshot.etag != seen {
                break;
            }
        }
    }
}

/// The job at its next revision, or as it is when the question ran out. A server that restarts is waited for.
async fn next(
    client: &Client,
    known: &Snapshot,
    end: Option<Instant>,
    progress: &Progress<'_>,
) -> Result<Option<Snapshot>, Failure> {
    let watched = known.job.phase == "fetching" && progress.is_live();
    let left = end.map_or(LONG_POLL, |end| end.saturating_duration_since(Instant::now()));
    let wait = left.min(if watched { REFRESH } else { LONG_POLL }).max(REFRESH);
    let ask = || async {
        let query = [("wait", format!("{}s", wait.as_secs()))];
        let mut request = client.request(Method::GET, &["v1", "jobs", &known.job.id]).query(&query);
        if let (Some(etag), false) = (&known.etag, watched) {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        client.json_within(request, wait + GRACE).await
    };
    let reply = ask
        .retry(patience())
        .when(|failure| failure.exit == Exit::Unreachable)
        .notify(|_, _| progress.note("no answer from the server, asking again"))
        .await
        .map_err(|failure| failure.and("the job goes on without us"))?;
    if reply.status == StatusCode::NOT_MODIFIED { Ok(None) } else { Snapshot::read(reply).map(Some) }
}

/// Ends the wait at its limit or at Ctrl-C.
async fn or_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
    end: Option<Instant>,
    snapshot: &Snapshot,
) -> Result<T, Failure> {
    let id = &snapshot.job.id;
    let goes_on = |why: &str| {
        let status = snapshot.job.status.as_str();
        let detail = format!("{why} while {id} is {status}; it goes on, see `reelhook jobs watch {id}`");
        Err(Failure::new(Exit::StillRunning, detail))
    };
    let limit = async {
        match end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = work => result,
        () = limit => goes_on("the wait is over"),
        _ = tokio::signal::ctrl_c() => goes_on("interrupted"),
    }
}
