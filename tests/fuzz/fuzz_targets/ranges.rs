//! Whatever part of a stored file is asked for, what comes is that part, or the whole, or a refusal.
//!
//! Input: `GET` or `HEAD`, then headers, in which `{etag}` is the file's.

#![no_main]

use actix_web::{http::Method, test::TestRequest};
use libfuzzer_sys::fuzz_target;
use reelhook::inbound;
use reelhook_fuzz::{Answer, House, Written};

struct Lab {
    house: House,
    path: String,
    etag: String,
    content: Vec<u8>,
}

thread_local! {
    static LAB: Lab = Lab::new();
}

fuzz_target!(|input: &[u8]| {
    LAB.with(|lab| {
        let Some(written) = Written::read(input, |value| value.replace("{etag}", &lab.etag)) else { return };
        let method = if written.line == "HEAD" { Method::HEAD } else { Method::GET };
        let reads = method == Method::GET;
        lab.judge(&lab.house.ask(written.request().method(method).uri(&lab.path)), reads);
    });
});

impl Lab {
    fn new() -> Self {
        let house = House::new(|_| (), inbound::api);
        let id = house.submit();
        let job = house.json(TestRequest::get().uri(&format!("/v1/jobs/{id}?wait=60s")));
        let file = &job["files"][0];
        let text = |name: &str| file[name].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
        let path = format!("/v1/jobs/{id}/files/{}", text("name"));
        let content = house.ask(TestRequest::get().uri(&path)).body.to_vec();
        Self { path, etag: format!("\"{}\"", text("sha256")), content, house }
    }

    fn judge(&self, answer: &Answer, reads: bool) {
        let size = self.content.len();
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let expected = match answer.status {
            200 => &self.content[..],
            206 => {
                let range = header("content-range").and_then(|text| text.strip_prefix("bytes "));
                let (range, of) = range.and_then(|text| text.split_once('/')).expect("a range");
                let (first, last) = range.split_once('-').expect("two ends");
                assert_eq!(of, size.to_string());
                &self.content[first.parse().expect("a number")..=last.parse().expect("a number")]
            }
            304 => &[],
            416 => {
                assert_eq!(header("content-range"), Some(format!("bytes */{size}").as_str()));
                return;
            }
            other => panic!("{other}"),
        };
        assert!(!reads || answer.body == expected, "{}: other bytes", answer.status);
    }
}
