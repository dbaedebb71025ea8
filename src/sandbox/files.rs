//! The file host: serves finished videos, with ranges, and breaks off where it was asked to.

use std::{convert::Infallible, io, ops::Range, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    body::SizedStream,
    http::{
        Method,
        header::{self, ByteRangeSpec, ETag, EntityTag, Header, HttpDate, IfRange, LastModified},
    },
    web,
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    ledger::Download,
    provider::Provider,
    refusal::Refusal,
    task::{FILE_NAME, LinkError, Task},
    video::Video,
    wire::Wire,
};

const CHUNK: usize = 64 * 1024;
/// A throttled answer is sent in this many pieces a second.
const PIECES_PER_SECOND: u64 = 10;
const PRIVATE_URL: &str = "http://169.254.169.254/latest/meta-data/";
const HTML: &str = "<!doctype html><title>Please wait</title><p>Your video is almost ready.</p>";

#[derive(Debug, Deserialize)]
pub(super) struct Query {
    #[serde(default)]
    sig: String,
    /// How many redirects were followed so far.
    #[serde(default)]
    hop: u32,
}

/// `GET` and `HEAD /files/{task}/{name}`.
pub(super) async fn serve(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    query: web::Query<Query>,
    provider: web::Data<Arc<Provider>>,
) -> HttpResponse {
    let (task_id, name) = path.into_inner();
    let mut books = provider.books();
    let response = match books.tasks.get_mut(&task_id) {
        Some(task) if name == FILE_NAME => answer(&request, task, &query, Instant::now()),
        _ => Err(Refusal::new(404, "No such file")),
    };
    let response = response.unwrap_or_else(|refusal| refusal.error_response());
    let header =
        |name| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    books.ledger.downloads.push(Download {
        task_id,
        method: request.method().to_string(),
        range: header(header::RANGE),
        if_range: header(header::IF_RANGE),
        authorization: request.headers().contains_key(header::AUTHORIZATION),
        status: response.status().as_u16(),
    });
    response
}

fn answer(
    request: &HttpRequest,
    task: &mut Task,
    query: &Query,
    now: Instant,
) -> Result<HttpResponse, Refusal> {
    task.check_link(&query.sig, now).map_err(|error| match error {
        LinkError::Forged => Refusal::new(403, "Signature does not match"),
        LinkError::Expired => Refusal::new(403, "Link has expired"),
    })?;
    let is_get = request.method() == Method::GET;
    let gets_before = task.gets;
    task.gets += u32::from(is_get);
    if !task.is_finished(now) || gets_before < task.directives.url_404 {
        return Err(Refusal::new(404, "No such file"));
    }
    if task.directives.redirect_private {
        return Ok(redirect(PRIVATE_URL));
    }
    if query.hop < task.directives.redirect {
        let hop = query.hop + 1;
        return Ok(redirect(&format!("{}?sig={}&hop={hop}", request.path(), query.sig)));
    }
    if task.directives.not_video {
        return Ok(HttpResponse::Ok().content_type("video/mp4").body(HTML));
    }
    Ok(video(request, task, is_get))
}

fn redirect(location: &str) -> HttpResponse {
    HttpResponse::Found().insert_header((header::LOCATION, location)).finish()
}

fn video(request: &HttpRequest, task: &mut Task, is_get: bool) -> HttpResponse {
    let video = task.video();
    let length = video.len();
    let (mut response, range) = match requested_range(request, task, length) {
        Requested::All => (HttpResponse::Ok(), 0..length),
        Requested::Part(range) => {
            let mut response = HttpResponse::PartialContent();
            let shown = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            response.insert_header((header::CONTENT_RANGE, shown));
            (response, range)
        }
        Requested::Unsatisfiable => {
            return HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, format!("bytes */{length}")))
                .finish();
        }
    };
    response
        .content_type("video/mp4")
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header(ETag(EntityTag::new_strong(task.etag())))
        .insert_header(LastModified(task.last_modified().into()));
    if !is_get {
        return head(response, range.end - range.start);
    }
    let transfer = Transfer::new(video, range, task, Wire::of(request));
    response.body(SizedStream::new(transfer.announced(), transfer.into_stream()))
}

/// An answer to HEAD: the length is announced, no body follows.
fn head(mut response: HttpResponseBuilder, length: u64) -> HttpResponse {
    response.body(SizedStream::new(length, stream::empty::<Result<Bytes, Infallible>>()))
}

enum Requested {
    All,
    Part(Range<u64>),
    Unsatisfiable,
}

/// RFC 9110 §13.1.5 and §14.2. Several ranges at once are answered with the whole, as is a failed `If-Range`.
fn requested_range(request: &HttpRequest, task: &Task, length: u64) -> Requested {
    let Ok(header::Range::Bytes(ranges)) = header::Range::parse(request) else { return Requested::All };
    let unchanged = match IfRange::parse(request) {
        Ok(IfRange::EntityTag(tag)) => tag.strong_eq(&EntityTag::new_strong(task.etag())),
        Ok(IfRange::Date(date)) => date.to_string() == HttpDate::from(task.last_modified()).to_string(),
        Err(_) => !request.headers().contains_key(header::IF_RANGE),
    };
    match ranges.as_slice() {
        [range] if unchanged => satisfiable(range, length),
        _ => Requested::All,
    }
}

fn satisfiable(range: &ByteRangeSpec, length: u64) -> Requested {
    match range.to_satisfiable_range(length) {
        Some((first, last)) => Requested::Part(first..last + 1),
        None => Requested::Unsatisfiable,
    }
}

/// A body on its way: `range` is announced, `stop` is as far as it gets.
struct Transfer {
    video: Video,
    range: Range<u64>,
    stop: u64,
    /// Bytes a second.
    rate: Option<u64>,
    /// Set when the transfer ends by a reset.
    reset: Option<Wire>,
}

impl Transfer {
    fn new(video: Video, range: Range<u64>, task: &mut Task, wire: Option<Wire>) -> Self {
        let length = range.end - range.start;
        let (mut stop, mut reset) = (range.end, None);
        if let Some(percent) = task.directives.reset.filter(|_| !task.was_reset) {
            task.was_reset = true;
            stop = range.start + length * u64::from(percent) / 100;
            reset = wire;
        } else if task.directives.truncate && range.start == 0 {
            stop = length / 2;
        }
        Self { video, range, stop, rate: task.directives.slow_download, reset }
    }

    fn announced(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn into_stream(self) -> impl stream::Stream<Item = io::Result<Bytes>> {
        stream::unfold((self, false), |(mut transfer, broken)| async move {
            if broken {
                return None;
            }
            if transfer.range.start < transfer.stop {
                let part = transfer.next_part().await;
                return Some((Ok(part), (transfer, false)));
            }
            if transfer.range.is_empty() {
                return None;
            }
            Some((Err(transfer.break_off().await), (transfer, true)))
        })
    }

    async fn next_part(&mut self) -> Bytes {
        let most = match self.rate {
            Some(rate) => {
                tokio::time::sleep(Duration::from_secs(1) / PIECES_PER_SECOND as u32).await;
                (rate / PIECES_PER_SECOND).max(1) as usize
            }
            None => CHUNK,
        };
        let part = self.video.read(self.range.start..self.stop, most);
        self.range.start += part.len() as u64;
        part
    }

    /// An error makes the server drop the connection.
    async fn break_off(&self) -> io::Error {
        // The server throws away what it has not written yet: give it a turn to write.
        tokio::task::yield_now().await;
        if let Some(wire) = &self.reset {
            wire.reset_on_close();
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, "the sandbox breaks this download off, as asked")
    }
}
