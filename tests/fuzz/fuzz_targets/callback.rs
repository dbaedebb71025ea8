//! The callback listener takes any headers and any body: nothing makes it fail.
//!
//! Input: `queued`, `canceled` or a path, then headers, an empty line and the body.

#![no_main]

use std::cell::RefCell;

use actix_web::{http::Uri, test::TestRequest};
use libfuzzer_sys::fuzz_target;
use reelhook::{inbound, lifecycle::JobId};
use reelhook_fuzz::{House, Written};

/// A job's record grows with its callbacks, which is not what is looked for: it is replaced now and then.
const CALLBACKS_A_JOB: u32 = 200;

struct Lab {
    house: House,
    queued: String,
    canceled: String,
    taken: u32,
}

thread_local! {
    static LAB: RefCell<Lab> = RefCell::new(Lab::new());
}

fuzz_target!(|input: &[u8]| {
    let Some(written) = Written::read(input, str::to_owned) else { return };
    LAB.with_borrow_mut(|lab| {
        let path = match written.line {
            "queued" => lab.queued.clone(),
            "canceled" => lab.canceled.clone(),
            path => path.to_owned(),
        };
        let Ok(uri) = path.parse::<Uri>() else { return };
        // The API's routes are there as well, to make the jobs.
        if !uri.path().starts_with("/cb/") {
            return;
        }
        let answer =
            lab.house.ask(written.request().method(actix_web::http::Method::POST).uri(&uri.to_string()));
        assert!(matches!(answer.status, 200 | 400 | 404 | 413 | 415), "{}", answer.status);
        assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok());
        lab.taken += 1;
        if lab.taken == CALLBACKS_A_JOB {
            lab.renew();
        }
    });
});

impl Lab {
    fn new() -> Self {
        let routes = |config: &mut actix_web::web::ServiceConfig| {
            inbound::api(config);
            inbound::callback(config);
        };
        let house = House::new(|config| config.upstream.max_in_flight = 0, routes);
        let mut lab = Self { house, queued: String::new(), canceled: String::new(), taken: 0 };
        lab.renew();
        lab
    }

    fn renew(&mut self) {
        let [queued, canceled] = [self.house.submit(), self.house.submit()];
        self.house.json(TestRequest::post().uri(&format!("/v1/jobs/{canceled}/cancel")).set_json(()));
        (self.queued, self.canceled, self.taken) = (self.path(&queued), self.path(&canceled), 0);
    }

    fn path(&self, id: &str) -> String {
        let id: JobId = id.parse().expect("an id of ours");
        self.house.server().app().callback_url(id).expect("there is a public address").path().to_owned()
    }
}
