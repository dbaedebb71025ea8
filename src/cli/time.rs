//! Spans and instants as people type them.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// `90s`, `10m`, `1h 30m`, `90d`; a day is 24 hours.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wanted = || "a span such as 90s, 10m, 2h or 7d is wanted".to_owned();
    let span: Span = text.parse().map_err(|_| wanted())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wanted())?;
    Duration::try_from(duration).map_err(|_| wanted())
}

/// Seconds of video: `5`, `7.5` or a span.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => Ok(seconds),
        _ => span(text).map(|span| span.as_secs_f64()),
    }
}

/// An instant, or a span before now.
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    instant(text, |now, span| now.checked_sub(span))
}

/// An instant, or a span from now.
pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    instant(text, |now, span| now.checked_add(span))
}

fn instant(
    text: &str,
    from_now: impl Fn(Timestamp, SignedDuration) -> Result<Timestamp, jiff::Error>,
) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    let wanted = || "a span such as 30m or 7d, or a time such as 2026-11-22T18:00:00Z, is wanted".to_owned();
    let span = SignedDuration::try_from(span(text).map_err(|_| wanted())?).map_err(|_| wanted())?;
    from_now(Timestamp::now(), span).map_err(|_| wanted())
}

/// As the API writes times: RFC 3339, UTC, milliseconds.
pub(crate) fn rfc3339(instant: Timestamp) -> String {
    format!("{instant:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_with_days_of_24_hours() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h 30m", 5400), ("7d", 604_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "10", "-5m", "1mo", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_of_video_are_a_number_or_a_span() {
        assert_eq!((seconds("5"), seconds("7.5"), seconds("5s")), (Ok(5.0), Ok(7.5), Ok(5.0)));
        assert!(seconds("inf").is_err());
    }

    #[test]
    fn an_instant_is_taken_as_it_stands_and_written_with_milliseconds() {
        assert_eq!(past("2026-11-22T18:00:00+01:00").map(rfc3339), Ok("2026-11-22T17:00:00.000Z".to_owned()));
        assert!(past("1h").unwrap() < Timestamp::now());
        assert!(future("1h").unwrap() > Timestamp::now());
    }
}
