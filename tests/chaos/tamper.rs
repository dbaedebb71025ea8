//! Damage that no missing safeguard does, done by hand: the checker must notice each piece of it.

use std::fs;

use crate::{
    checker::Kind,
    load::{Promised, Taken},
    order,
    site::{Site, files_below},
};

/// What the checker must say after [`tamper`].
pub(crate) const VERDICT: [Kind; 8] = [
    Kind::LostJob,
    Kind::Refused,
    Kind::EventLog,
    Kind::WrongFile,
    Kind::StrayFile,
    Kind::Untold,
    Kind::Invented,
    Kind::Reworded,
];

/// The number of an order that no run is long enough for.
const NEVER_PLACED: usize = 1_000_000_000;

/// While no server runs.
pub(crate) fn tamper(site: &Site, promised: &mut Promised, seed: u64) {
    let never_placed = Taken { order: order::order(NEVER_PLACED, seed), id: "job_lost".to_owned() };
    promised.jobs.insert(NEVER_PLACED, never_placed);
    promised.surprises.push("422".to_owned());
    promised.events.swap(0, 1);
    let videos = files_below(&site.videos());
    let stored = videos.iter().find(|path| path.extension().is_some_and(|ending| ending == "mp4")).unwrap();
    let mut bytes = fs::read(stored).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(stored, bytes).unwrap();
    fs::write(stored.with_extension("mp4#1"), "half").unwrap();
    site.app.tamper(|heard| {
        let (_, mut bodies) = heard.pop_first().unwrap();
        bodies.truncate(1);
        heard.insert("evt_invented".to_owned(), bodies);
        heard.first_entry().unwrap().get_mut().push(b"{}".to_vec());
    });
}
