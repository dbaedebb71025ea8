//! Where traces go, checked.

use super::{Otel, check::Checker, file, headers};

/// Where a collector takes traces, below its base (OTLP over HTTP).
const ROUTE: &str = "v1/traces";

/// None without an endpoint, and when there is a problem.
pub(super) fn otel(c: &mut Checker<'_>, f: &file::Otel) -> Option<Otel> {
    let headers = headers::read(c, "otel.headers", &f.headers, &f.headers_file);
    let sample_ratio = f.sample_ratio.map(|ratio| c.number("otel.sample_ratio", ratio, 0.0..=1.0));
    if f.service_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        c.problem("otel.service_name", "must not be empty: write \"reelhook\", or remove it");
    }
    let Some(endpoint) = &f.endpoint else {
        let others = [
            ("otel.headers", headers.as_ref().is_some_and(|headers| !headers.is_empty())),
            ("otel.service_name", f.service_name.is_some()),
            ("otel.sample_ratio", f.sample_ratio.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, is_set)| *is_set) {
            c.warn(key, "has no effect without otel.endpoint");
        }
        return None;
    };
    if cfg!(not(feature = "otel")) {
        let message = "is set, and this build sends no traces: take one with the feature `otel` \
                       (`cargo install reelhook --features otel`), or remove it";
        return c.reject("otel.endpoint", message);
    }
    let mut endpoint = c.base_url("otel.endpoint", endpoint)?;
    let base = endpoint.path().trim_end_matches('/');
    if !base.ends_with(ROUTE) {
        endpoint.set_path(&format!("{base}/{ROUTE}"));
    }
    Some(Otel { endpoint, headers: headers?, service_name: f.service_name.clone(), sample_ratio })
}
