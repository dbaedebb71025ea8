//! The header `Retry-After`.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// What an answer asks to wait: seconds, or an HTTP date, which counts from now and may have passed.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]))
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_in_any_of_its_forms() {
        assert_eq!(asked("120"), Some(Duration::from_mins(2)));
        let hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
        let wait = asked(&hour).unwrap();
        assert!((Duration::from_mins(59)..=Duration::from_hours(1)).contains(&wait), "{wait:?}");
        assert_eq!(asked("Sunday, 06-Nov-94 08:49:37 GMT"), Some(Duration::ZERO), "long past");
        assert_eq!(asked("Sun Nov  6 08:49:37 1994"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_neither_asks_for_nothing() {
        for text in ["", "soon", "-5", "1.5", "99999999999999999999999"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
