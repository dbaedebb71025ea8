//! `db export` and `db import`: everything comes over, and nothing is sent twice.

use std::{fs, path::Path};

use predicates::prelude::*;
use reelhook::{
    lifecycle::{Event, JobId, Phase, Why},
    store::{EventFilter, Insert, Store},
};
use serde_json::Value;

use crate::{
    place::{Place, closed},
    seed::*,
    support::{NOW, get, id, insertion, job, key, step, task},
};

fn export(place: &Place, more: &[&str]) -> String {
    place.db(&["export", "out.ndjson"]).args(more).assert().success().stdout("");
    fs::read_to_string(place.path("out.ndjson")).unwrap()
}

fn import(export: &str) -> Place {
    let place = Place::new();
    fs::write(place.path("in.ndjson"), export).unwrap();
    place.db(&["import", "in.ndjson"]).assert().success();
    place
}

/// The lines of a kind, in their order.
fn lines(export: &str, kind: &str) -> Vec<Value> {
    let lines = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

const KINDS: [&str; 11] = [
    "log",
    "kept",
    "booked",
    "event",
    "job",
    "request",
    "callback",
    "stray",
    "delivery",
    "idempotency_key",
    "damaged",
];

#[tokio::test]
async fn a_moved_store_comes_over_whole_and_its_source_never_starts_again() {
    let place = Place::new();
    seed(&place).await;
    let moved = export(&place, &["--move"]);
    let (header, trailer) = (&lines(&moved, "header")[0], &lines(&moved, "trailer")[0]);
    assert_eq!((&header["value"]["moved"], &header["schema"]), (&true.into(), &1.into()));
    assert_eq!(trailer["value"]["counts"]["job"], 10);
    let sealed = place.db(&["export", "-"]).assert().success();
    assert_eq!(
        lines(&String::from_utf8_lossy(&sealed.get_output().stdout), "job").len(),
        10,
        "it can still be read"
    );
    place.serve().assert().code(6).stderr(predicate::str::contains("is sealed: its jobs were moved"));

    let other = import(&moved);
    assert_eq!(other.findings(), [""; 0]);
    let again = export(&other, &[]);
    for kind in KINDS {
        assert_eq!(lines(&again, kind), lines(&moved, kind), "{kind}");
        assert!(!lines(&moved, kind).is_empty() || kind == "damaged", "{kind} occurs");
    }
    let store = other.open();
    assert!(matches!(get(&store, id(QUEUED)).await.phase, Phase::Queued { .. }));
    assert!(
        matches!(get(&store, id(SENDING)).await.phase, Phase::Unknown { .. }),
        "its lease was given back"
    );
    closed(store).await;
}

#[tokio::test]
async fn a_copy_holds_what_may_have_been_sent_since_and_lifts_the_numbers_of_events() {
    let place = Place::new();
    seed(&place).await;
    let newest = lines(&export(&place, &[]), "log")[0]["value"]["newest"].as_u64().unwrap();
    let other = Place::new();
    fs::copy(place.path("out.ndjson"), other.path("in")).unwrap();
    let import = other.db(&["import", "in"]).assert().success();
    import.stderr(predicate::str::contains("2 jobs that were queued or being sent are held"));
    assert_eq!(other.findings(), [""; 0]);
    let store = other.open();
    for n in [QUEUED, SENDING] {
        assert_eq!(get(&store, id(n)).await.phase, Phase::Held { why: Why::Restored });
    }
    let bounds = store.bounds().await.unwrap();
    assert_eq!((bounds.oldest, bounds.newest), (1, newest + (1 << 32) + 2));
    let held = EventFilter { job: Some(id(QUEUED)), ..EventFilter::default() };
    let events = store.events(0, 9, held).await.unwrap().events;
    assert_eq!(events.iter().map(|entry| entry.seq > newest).collect::<Vec<_>>(), [false, true]);
    let canceled = step(&store, id(QUEUED), &Event::Cancel, NOW).await;
    assert!(canceled.cost.reserved.is_some(), "what may have been sent stays booked");
    closed(store).await;
    assert_eq!(place.findings(), [""; 0], "the source is as it was");
}

#[tokio::test]
async fn an_export_is_only_its_owners_and_never_replaces_a_file() {
    let place = Place::new();
    seed(&place).await;
    export(&place, &[]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(place.path("out.ndjson")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    place.db(&["export", "out.ndjson"]).assert().code(6);
    let piped = place.db(&["export", "-"]).assert().success();
    let piped = String::from_utf8(piped.get_output().stdout.clone()).unwrap();
    assert!(
        piped.lines().all(|line| line.starts_with("{\"schema\":1,\"kind\":")),
        "nothing else is on stdout"
    );
    let other = Place::new();
    other.db(&["import", "-"]).write_stdin(piped).assert().success();
}

#[tokio::test]
async fn nothing_is_imported_where_anything_is_and_nothing_of_an_export_that_is_not_whole() {
    let place = Place::new();
    seed(&place).await;
    let whole = export(&place, &[]);
    let before = place.files();
    place.db(&["import", "out.ndjson"]).assert().code(6).stderr(predicate::str::contains("is not empty"));
    assert_eq!(place.files(), before);

    let refuses = |export: &str, why: &str| {
        let other = Place::new();
        let run = other.db(&["import", "-"]).write_stdin(export.to_owned()).assert().code(1);
        run.stderr(predicate::str::contains(why));
        let left: Vec<_> = fs::read_dir(other.path("")).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(left, [other.path("reelhook.toml")]);
    };
    let (cut, _) = whole.trim_end().rsplit_once('\n').unwrap();
    refuses(&format!("{cut}\n"), "it ends before its last line");
    refuses(&whole[..whole.len() / 2], "it ends before its last line");
    refuses(&whole.replacen("sesame", "simsim", 1), "its lines are not those");
    refuses("hello\n", "no line of an export");
    refuses(&whole.replace("\"schema\":1", "\"schema\":7"), "newer version");
    let job = whole.lines().find(|line| line.contains("\"kind\":\"job\"")).unwrap();
    refuses(&whole.replacen(job, &format!("{job}\n{job}"), 1), "there twice");
}

#[tokio::test]
async fn an_import_that_was_cut_short_is_no_store_and_the_next_one_starts_over() {
    let place = Place::new();
    seed(&place).await;
    let whole = export(&place, &[]);
    let other = Place::new();
    fs::create_dir(other.path("state.importing")).unwrap();
    fs::write(other.path("state.importing/db"), "half").unwrap();
    other.db(&["check"]).assert().code(5);
    fs::create_dir(other.path("state")).unwrap(); // a mount point is there before any store
    other.db(&["import", "-"]).write_stdin(whole).assert().success();
    assert!(!Path::new(&other.path("state.importing")).exists());
    assert_eq!(other.findings(), [""; 0]);
}

#[tokio::test]
async fn what_is_set_aside_comes_over_as_it_is() {
    let place = Place::new();
    seed(&place).await;
    place.tamper(|tree| crate::place::flip(tree, &crate::place::raw(b'j', id(QUEUED))));
    let run = place.db(&["export", "out"]).assert().code(1);
    run.stderr(predicate::str::contains("the export is whole, and 1 values in it are damaged"));
    let other = Place::new();
    fs::copy(place.path("out"), other.path("in")).unwrap();
    other.db(&["import", "in"]).assert().success();
    let store = other.open();
    assert_eq!(store.quarantined(), 1);
    let damaged: JobId = id(QUEUED);
    assert!(store.load(damaged).await.is_err(), "it is known to be lost, and not made twice");
    closed(store).await;
    let findings = other.findings();
    assert!(
        findings.iter().all(|found| found.contains(&damaged.to_string()) || found.contains("ledger")),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn what_follows_from_the_rest_is_made_anew_by_an_import() {
    let place = Place::new();
    seed(&place).await;
    place.tamper(|tree| {
        for prefix in *b"dtlhnu" {
            for key in tree.scan_prefix([prefix]).keys() {
                tree.remove(key.unwrap()).unwrap();
            }
        }
        tree.insert(b"pjnobody\0\0\0\0\0\0\0\0", b"x").unwrap();
    });
    assert!(place.findings().len() > 8);
    let moved = export(&place, &["--move"]);
    let other = import(&moved);
    assert_eq!(other.findings(), [""; 0]);
    let store = other.open();
    assert_eq!(store.by_task(&task(STORED)).await.unwrap(), Some(id(STORED)), "and not its follower's");
    closed(store).await;
}

#[tokio::test]
async fn a_damaged_idempotency_key_is_refused_after_an_import_too() {
    for command in ["export", "recover"] {
        let place = Place::new();
        seed(&place).await;
        place.tamper(|tree| crate::place::flip(tree, &crate::place::first(tree, b'i')));
        place.db(&[command, "out"]).output().unwrap();
        let other = Place::new();
        fs::copy(place.path("out"), other.path("in")).unwrap();
        other.db(&["import", "in"]).assert().success();
        let store = other.open();
        let again = Insert { key: Some(key("web", "order-1", 1)), ..insertion(job(50)) };
        assert!(store.insert(again).await.is_err(), "{command}: it would be paid for twice");
        closed(store).await;
    }
}
