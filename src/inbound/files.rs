//! Stored files, whole or in ranges: by key, or by signed link.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{
        Method, StatusCode,
        header::{
            self, ByteRangeSpec, ContentDisposition, DispositionParam, DispositionType, ETag, EntityTag,
            Header as _, IfRange, Range,
        },
    },
    web::{Bytes, Data, Path},
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{Context, conditional, fields::Params, jobs::job_id, kinds, problem::Problem, view::time};
use crate::lifecycle::{Job, Millis, Outcome, Phase, StoredFile};

/// `GET,HEAD /v1/jobs/{id}/files/{name}`
pub(super) async fn file(
    request: HttpRequest,
    context: Data<Context>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, name) = path.into_inner();
    let params = Params::of(&request, &["download"]);
    let download = params.flag("download");
    params.finish()?;
    let job = context.app.get(job_id(&id)?).await?;
    let ttl = context.app.config().server.link_ttl;
    serve(&request, &context, &job, &name, download, ttl).await
}

/// `GET,HEAD /media/{job_id}/{name}?exp=&sig=`
pub(super) async fn media(
    request: HttpRequest,
    context: Data<Context>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, name) = path.into_inner();
    let params = Params::of(&request, &["exp", "sig", "download"]);
    let expires = params.text("exp").and_then(|text| text.parse::<i64>().ok());
    let valid = id.parse().ok().zip(expires).filter(|(id, expires)| {
        context.app.media_link_is_valid(*id, &name, *expires, params.text("sig").unwrap_or_default())
    });
    let Some((id, expires)) = valid else {
        let detail = "the link is not one that this server signed, or it has expired; the job has a new one";
        return Err(Problem::new(&kinds::FORBIDDEN, detail));
    };
    let job = context.app.get(id).await?;
    let left =
        Duration::from_millis(Millis(expires * 1_000).since(context.app.now()).max(1_000).cast_unsigned());
    let mut answer = serve(&request, &context, &job, &name, params.flag("download"), left).await?;
    // The link is meant to be handed on: a page of the team's own app, on another origin, shows the video by it.
    answer
        .headers_mut()
        .insert(header::CROSS_ORIGIN_RESOURCE_POLICY, header::HeaderValue::from_static("cross-origin"));
    Ok(answer)
}

/// `GET /v1/jobs/{id}/manifest`
pub(super) async fn manifest(context: Data<Context>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let job = context.app.get(job_id(&id)?).await?;
    if !matches!(job.outcome(), Some(Outcome::Stored { .. })) {
        return Err(absent(&job, "the manifest"));
    }
    still_there(&job)?;
    let created_at = Timestamp::from_millisecond(job.created_at.0).unwrap_or_default();
    let location = format!("{}.json", context.archive.key(&job.id.to_string(), created_at));
    let read = context.archive.read(&location, None).await?;
    let size = read.range.end - read.range.start;
    let body = SizedStream::new(size, read.into_stream());
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// Only names of the job's own files lead anywhere; what the client sent never becomes a path. Where the bucket hands files
/// out itself, it does so for `ttl`; but for downloads by that name, of which it knows nothing.
async fn serve(
    request: &HttpRequest,
    context: &Context,
    job: &Job,
    name: &str,
    download: bool,
    ttl: Duration,
) -> Result<HttpResponse, Problem> {
    let file = job.files().find(|file| file.name == name).ok_or_else(|| absent(job, "the file"))?;
    still_there(job)?;
    let etag = EntityTag::new_strong(file.sha256.clone());
    if conditional::has(request, &etag) == Some(true) {
        return Ok(HttpResponse::NotModified().insert_header(ETag(etag)).finish());
    }
    if request.method() == Method::GET
        && !download
        && is_video(file)
        && let Some(url) = context.archive.signed_url(&file.location, ttl).await?
    {
        let mut answer = HttpResponse::TemporaryRedirect();
        return Ok(answer.insert_header((header::LOCATION, url.as_str())).finish());
    }
    let (status, first, end) = match part(request, &etag, file.bytes) {
        Part::Whole => (StatusCode::OK, 0, file.bytes),
        Part::Range(first, last) => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Part::Beyond => {
            let detail = format!("the file has {} bytes", file.bytes);
            let size = format!("bytes */{}", file.bytes);
            return Err(Problem::new(&kinds::RANGE_NOT_SATISFIABLE, detail).with(header::CONTENT_RANGE, size));
        }
    };
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header(ETag(etag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; media-src 'self'"))
        .insert_header(disposition(file, download));
    answer.content_type(if is_video(file) { file.content_type.as_str() } else { "application/octet-stream" });
    if status == StatusCode::PARTIAL_CONTENT {
        answer.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{}/{}", end - 1, file.bytes)));
    }
    if request.method() == Method::HEAD {
        let nothing = stream::empty::<Result<Bytes, actix_web::Error>>();
        return Ok(answer.body(SizedStream::new(end - first, nothing)));
    }
    let read = context
        .archive
        .read(&file.location, (status == StatusCode::PARTIAL_CONTENT).then_some(first..end))
        .await?;
    let chunks = read.into_stream().map(|chunk| chunk.map_err(Box::<dyn std::error::Error>::from));
    Ok(answer.body(SizedStream::new(end - first, chunks)))
}

enum Part {
    Whole,
    /// First and last byte.
    Range(u64, u64),
    Beyond,
}

/// What of the file is asked for. Several ranges, or one that is not understood, are answered with the whole.
fn part(request: &HttpRequest, etag: &EntityTag, size: u64) -> Part {
    let headers = request.headers();
    if !headers.contains_key(header::RANGE) {
        return Part::Whole;
    }
    if headers.contains_key(header::IF_RANGE) {
        let same = matches!(IfRange::parse(request), Ok(IfRange::EntityTag(tag)) if tag.strong_eq(etag));
        if !same {
            return Part::Whole;
        }
    }
    match Range::parse(request) {
        Ok(Range::Bytes(ranges)) => match ranges.as_slice() {
            [range @ (ByteRangeSpec::FromTo(..) | ByteRangeSpec::From(_) | ByteRangeSpec::Last(_))] => range
                .to_satisfiable_range(size)
                .map_or(Part::Beyond, |(first, last)| Part::Range(first, last)),
            _ => Part::Whole,
        },
        _ => Part::Whole,
    }
}

fn is_video(file: &StoredFile) -> bool {
    file.content_type.starts_with("video/")
}

/// What is no video is never shown by a browser.
fn disposition(file: &StoredFile, download: bool) -> ContentDisposition {
    let kind =
        if download || !is_video(file) { DispositionType::Attachment } else { DispositionType::Inline };
    ContentDisposition { disposition: kind, parameters: vec![DispositionParam::Filename(file.name.clone())] }
}

fn still_there(job: &Job) -> Result<(), Problem> {
    job.files_removed_at.map_or(Ok(()), |at| {
        let detail =
            format!("the files of {} were removed at {}, after `[retention] videos`", job.id, time(at));
        Err(Problem::new(&kinds::FILE_REMOVED, detail))
    })
}

fn absent(job: &Job, what: &str) -> Problem {
    match job.phase {
        Phase::Settled { .. } => Problem::not_found(format!("{} ended without {what}", job.id)),
        _ => Problem::new(
            &kinds::FILE_NOT_READY,
            format!("{} has not ended, so {what} may still come", job.id),
        ),
    }
}
