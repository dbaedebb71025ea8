//! Waiting within a request: `?wait=30s`, `Prefer: wait=30`, and deadlines.

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderName};
use jiff::{Span, SpanRelativeTo};

use super::{Context, fields::Params, problem::Problem};
use crate::{
    app::Until,
    lifecycle::{Job, JobId},
};

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// No span of an API is longer; it keeps sums within range.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A span such as `30s`, `15m` or `2h`; a day has 24 hours. A bare number is seconds.
pub(super) fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into())).filter(|span| *span <= LONGEST);
    }
    let span: Span = text.parse().ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok().filter(|span| *span <= LONGEST)
}

/// How long a caller wants to wait, by query or header; as long as `[api] max_wait` at most. Zero is not at all.
pub(super) fn wanted(params: &mut Params, request: &HttpRequest, context: &Context) -> Duration {
    let by_query = params.read("wait", "a span of time such as 30s", span);
    let wait = by_query.or_else(|| preferred(request)).unwrap_or_default();
    wait.min(context.app.config().api.max_wait)
}

/// RFC 7240: a preference that is not understood is ignored.
fn preferred(request: &HttpRequest) -> Option<Duration> {
    let headers = request.headers().get_all(PREFER).filter_map(|value| value.to_str().ok());
    let mut preferences = headers.flat_map(|value| value.split(',')).map(str::trim);
    let wait = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    })?;
    wait.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// The job once what is waited for is so, after `timeout`, or when the server stops.
pub(super) async fn wait(
    id: JobId,
    until: Until,
    timeout: Duration,
    context: &Context,
) -> Result<Job, Problem> {
    tokio::select! {
        job = context.app.wait(id, until, timeout) => Ok(job?),
        () = context.stop.cancelled() => Ok(context.app.get(id).await?),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn spans_are_read_as_in_the_configuration_and_never_negative_or_endless() {
        let seconds = |text| span(text).map(|span| span.as_secs());
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("30"), Some(30));
        assert_eq!(seconds("2h"), Some(7_200));
        assert_eq!(seconds("7d"), Some(7 * 86_400));
        for bad in ["", "-5s", "soon", "400d", "99999999999999999999h", "1 month"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_preference_to_wait_is_found_among_others_and_nonsense_is_ignored() {
        let read =
            |value: &str| preferred(&TestRequest::default().insert_header((PREFER, value)).to_http_request());
        assert_eq!(read("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(read("respond-async, Wait = \"5\""), Some(Duration::from_secs(5)));
        for other in ["respond-async", "wait", "wait=soon", "wait=-1"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
