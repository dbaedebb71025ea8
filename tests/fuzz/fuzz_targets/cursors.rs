//! Whatever is asked of a list, the answer is a page whose cursor leads on, or a refusal that says what is wrong.
//!
//! Input: a path with its query, then headers.

#![no_main]

use actix_web::{
    http::{Uri, header},
    test::TestRequest,
};
use libfuzzer_sys::fuzz_target;
use reelhook::inbound;
use reelhook_fuzz::{House, Written};
use serde_json::Value;

const JOBS: usize = 20;
const LISTS: [&str; 3] = ["/v1/jobs", "/v1/events", "/v1/callbacks"];

thread_local! {
    static HOUSE: House = {
        let house = House::new(|config| config.upstream.max_in_flight = 0, inbound::api);
        (0..JOBS).for_each(|_| drop(house.submit()));
        house
    };
}

fuzz_target!(|input: &[u8]| {
    let Some(mut written) = Written::read(input, str::to_owned) else { return };
    // A stream of events has no end.
    written.headers.retain(|(name, _)| name != header::ACCEPT);
    let Ok(uri) = written.line.parse::<Uri>() else { return };
    if !LISTS.contains(&uri.path()) {
        return;
    }
    HOUSE.with(|house| {
        let answer = house.ask(written.request().uri(&uri.to_string()));
        let page: Value = serde_json::from_slice(&answer.body).expect("JSON");
        match answer.status {
            200 => follow(house, uri.path(), &page),
            400 | 422 => assert!(page["code"].is_string(), "{page}"),
            other => panic!("{other}: {page}"),
        }
    });
});

fn follow(house: &House, path: &str, page: &Value) {
    assert!(page["data"].is_array(), "{page}");
    let Some(cursor) = page["next_cursor"].as_str() else { return };
    let name = if path == "/v1/events" { "after" } else { "cursor" };
    let next = house.ask(TestRequest::get().uri(&format!("{path}?{name}={cursor}")));
    assert_eq!(next.status, 200, "{path}?{name}={cursor}");
}
