//! Reading an answer of a file host: which bytes of which version of the file it carries. Pure.

use reqwest::{
    StatusCode, Version,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
        HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
    },
};
use std::time::Duration;

use super::FetchFault;
use crate::outbound::retry_after::retry_after;

/// A host that asks for more patience than this is asked again earlier.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// One version of a file, as far as its host tells versions apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Length of the whole file.
    pub(super) total: Option<u64>,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    /// Whether the transfer itself tells where the file ends. A bare HTTP/1.0 answer ends by closing, which looks
    /// the same as being cut.
    pub(super) framed: bool,
}

impl Source {
    /// What makes a request for the rest of the file safe. A link that was given anew may lead to another file that
    /// was made in the same second, so there only a strong entity tag counts, with a known length.
    pub(super) fn validator(&self, fresh_link: bool) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|tag| tag.starts_with('"'));
        if fresh_link {
            strong.filter(|_| self.total.is_some())
        } else {
            strong.or(self.last_modified.as_deref())
        }
    }
}

/// The headers of a request for the bytes from `offset` on.
pub(super) fn request_headers(offset: u64, validator: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    if let Some(validator) = validator.and_then(|v| HeaderValue::from_str(v).ok())
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-"))
    {
        headers.insert(RANGE, range);
        headers.insert(IF_RANGE, validator);
    }
    headers
}

/// An answer that carries bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Position of its first byte in the file.
    pub(super) start: u64,
    /// Position after its last byte, where it tells.
    pub(super) end: Option<u64>,
    pub(super) source: Source,
}

/// What the head of an answer means.
#[derive(Debug)]
pub(super) enum Reading {
    /// Bytes follow.
    Bytes(Answer),
    /// Nothing that can be joined to what we have: ask for the whole file.
    Unusable,
    /// No file.
    Fault(FetchFault),
}

/// Reads the head of an answer.
pub(super) fn read(status: StatusCode, version: Version, headers: &HeaderMap) -> Reading {
    let fault = match status {
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION | StatusCode::PARTIAL_CONTENT => {
            match text(headers, &CONTENT_ENCODING) {
                None | Some("identity" | "") => return read_bytes(status, version, headers),
                Some(encoding) => {
                    FetchFault::NotVideo(format!("it is encoded as `{encoding}`, which was not asked for"))
                }
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => return Reading::Unusable,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            upstream(status, headers)
        }
        _ if status.is_client_error() => FetchFault::LinkRefused { status: status.as_u16() },
        _ if status.is_server_error() => upstream(status, headers),
        _ => FetchFault::NotVideo(format!("the answer has status {}", status.as_u16())),
    };
    Reading::Fault(fault)
}

fn upstream(status: StatusCode, headers: &HeaderMap) -> FetchFault {
    let retry_after = retry_after(headers).map(|wait| wait.min(MAX_RETRY_AFTER));
    FetchFault::Upstream { status: status.as_u16(), retry_after }
}

fn read_bytes(status: StatusCode, version: Version, headers: &HeaderMap) -> Reading {
    let length = text(headers, &CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
    let owned = |name| text(headers, name).map(str::to_owned);
    let source = |total| Source {
        total,
        etag: owned(&ETAG),
        last_modified: owned(&LAST_MODIFIED),
        framed: length.is_some() || headers.contains_key(TRANSFER_ENCODING) || version >= Version::HTTP_2,
    };
    if status != StatusCode::PARTIAL_CONTENT {
        return Reading::Bytes(Answer { start: 0, end: length, source: source(length) });
    }
    match text(headers, &CONTENT_RANGE).and_then(parse_content_range) {
        Some((start, end, total)) if length.is_none_or(|length| length == end - start) => {
            Reading::Bytes(Answer { start, end: Some(end), source: source(total) })
        }
        _ => Reading::Unusable,
    }
}

/// `bytes 5-9/10` as (5, 10, 10): the end exclusive, the total unknown for `*`.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?.checked_add(1)?);
    let total = if total == "*" { None } else { Some(total.parse::<u64>().ok()?) };
    (start < end && total.is_none_or(|total| end <= total)).then_some((start, end, total))
}

impl Answer {
    /// Whether its bytes can be joined to the `offset` bytes that are there of `source`.
    pub(super) fn continues(&self, source: &Source, offset: u64) -> bool {
        // `If-Range` makes the host promise the same version; what it says itself must not contradict. A 206 always
        // repeats the entity tag (RFC 9110, 15.3.7), but may leave the date out.
        self.start == offset
            && offset > 0
            && (self.source.total == source.total || source.total.is_none())
            && self.source.etag == source.etag
            && (self.source.last_modified.is_none() || self.source.last_modified == source.last_modified)
    }

    /// Whether it is the file from its first byte on to its last.
    pub(super) fn is_whole(&self) -> bool {
        self.start == 0 && self.end == self.source.total
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_must_be_one_range_inside_the_file() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 10, Some(10))));
        assert_eq!(parse_content_range("bytes 0-0/*"), Some((0, 1, None)));
        for wrong in [
            "",
            "bytes",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes 5/10",
            "items 5-9/10",
            "bytes -5-9/10",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_tag_resumes_nothing_and_a_date_does_not_outlive_its_link() {
        let source = |etag: Option<&str>, total| Source {
            total,
            etag: etag.map(str::to_owned),
            last_modified: Some("Sat, 01 Aug 2026 00:00:00 GMT".to_owned()),
            framed: true,
        };
        assert_eq!(source(Some("W/\"a\""), Some(9)).validator(false), Some("Sat, 01 Aug 2026 00:00:00 GMT"));
        assert_eq!(source(Some("W/\"a\""), Some(9)).validator(true), None);
        assert_eq!(source(Some("\"a\""), Some(9)).validator(true), Some("\"a\""));
        assert_eq!(source(Some("\"a\""), None).validator(true), None);
    }

    #[test]
    fn a_continuation_contradicting_anything_known_is_no_continuation() {
        let source = Source { total: Some(10), etag: Some("\"a\"".to_owned()), ..Source::default() };
        let answer = Answer { start: 5, end: Some(10), source: source.clone() };
        assert!(answer.continues(&source, 5));
        assert!(!answer.continues(&source, 4) && !answer.continues(&source, 6));
        let changed = |source| Answer { source, ..answer.clone() };
        assert!(!changed(Source { total: Some(11), ..source.clone() }).continues(&source, 5));
        assert!(!changed(Source { etag: Some("\"b\"".to_owned()), ..source.clone() }).continues(&source, 5));
        assert!(!changed(Source { etag: None, ..source.clone() }).continues(&source, 5));
    }
}
