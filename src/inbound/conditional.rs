//! Conditional requests: not sending what the caller has.

use actix_web::{
    HttpRequest,
    http::header::{self, EntityTag, Header as _, IfNoneMatch},
};

/// Whether the caller has what this validator stands for, by its `If-None-Match`; none without a usable one.
pub(super) fn has(request: &HttpRequest, etag: &EntityTag) -> Option<bool> {
    if !request.headers().contains_key(header::IF_NONE_MATCH) {
        return None;
    }
    Some(match IfNoneMatch::parse(request).ok()? {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(known) => known.iter().any(|tag| tag.weak_eq(etag)),
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_validator_is_found_in_a_list_weak_or_strong_and_nonsense_counts_as_none() {
        let etag = EntityTag::new_strong("5".to_owned());
        let has = |value: &str| {
            has(
                &TestRequest::default().insert_header((header::IF_NONE_MATCH, value)).to_http_request(),
                &etag,
            )
        };
        assert_eq!(has("\"5\""), Some(true));
        assert_eq!(has("W/\"5\""), Some(true));
        assert_eq!(has("\"4\", \"5\""), Some(true));
        assert_eq!(has("*"), Some(true));
        assert_eq!(has("\"50\""), Some(false));
        assert_eq!(super::has(&TestRequest::default().to_http_request(), &etag), None);
    }
}
