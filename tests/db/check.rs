//! `db check`: a store that is well, and one rule after the other broken.

use predicates::prelude::*;
use reelhook::store::Store;

use crate::{
    place::{Place, closed, first, flip, raw},
    seed::*,
    support::{NOW, id, job, put},
};

#[tokio::test]
async fn a_store_that_is_well_is_said_to_be_and_not_a_byte_of_it_changes() {
    let place = Place::new();
    seed(&place).await;
    let before = place.files();
    place.db(&["check"]).assert().success().stdout(predicate::str::starts_with("the store is well: 10 jobs"));
    let report = place.report();
    assert_eq!(report["findings"].as_array().unwrap().len(), 0);
    for (kind, count) in
        [("claims", 1), ("callbacks", 3), ("strays", 1), ("deliveries", 3), ("kept values", 1)]
    {
        assert_eq!(report["counts"][kind], count, "{kind}: {report}");
    }
    assert_eq!(place.files(), before);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 2, "the copy is gone");
}

#[test]
fn what_a_server_leaves_is_well_and_comes_over() {
    let place = Place::new();
    let mut dev = assert_cmd::Command::new(env!("CARGO_BIN_EXE_reelhook"));
    dev.env_clear()
        .current_dir(place.path(""))
        .args(["dev", "--demo", "--exit", "--data", "."])
        .assert()
        .success();
    assert_eq!(place.findings(), [""; 0]);
    place.db(&["export", "out", "--scratch", "."]).assert().success();
    let other = Place::new();
    std::fs::copy(place.path("out"), other.path("in")).unwrap();
    other.db(&["import", "in"]).assert().success().stdout(predicate::str::starts_with("imported 1 jobs"));
    assert_eq!(other.findings(), [""; 0]);
}

#[test]
fn a_copy_that_cannot_be_made_is_an_error_that_names_the_way_out() {
    let place = Place::new();
    std::fs::create_dir(place.path("state")).unwrap();
    std::fs::write(place.path("state/db"), "").unwrap();
    let run = place.db(&["check", "--scratch", "nowhere"]).assert().code(1);
    run.stderr(predicate::str::contains("name another place with --scratch"));
}

#[tokio::test]
async fn a_new_store_is_well() {
    let place = Place::new();
    place.open().close().await;
    assert_eq!(place.findings(), [""; 0]);
    let store = place.open();
    put(&store, job(1)).await;
    closed(store).await;
    assert_eq!(place.findings(), [""; 0]);
}

#[tokio::test]
async fn a_store_in_use_is_locked_and_its_owner_is_named() {
    let place = Place::new();
    let store = place.open();
    let owner = format!("in use by process {} (since 2026-01-15", std::process::id());
    for command in [["check"].as_slice(), &["export", "-"], &["recover", "-"]] {
        let locked = place.db(command).assert().code(12).stderr(predicate::str::contains(owner.as_str()));
        let told = String::from_utf8_lossy(&locked.get_output().stdout).into_owned();
        assert!(!told.contains("trailer"), "{told}");
    }
    place.serve().assert().code(12).stderr(predicate::str::contains(owner.as_str()));
    closed(store).await;
}

#[test]
fn where_there_is_no_store_that_is_said_and_none_is_made() {
    let place = Place::new();
    for command in [["check"].as_slice(), &["export", "-"], &["recover", "-"]] {
        place.db(command).assert().code(5).stderr(predicate::str::contains("there is no store at"));
    }
    assert!(!place.path("state").exists());
}

/// Breaks a seeded store and wants a finding whose text has all of `wanted`.
async fn finds(what: &str, wanted: &[&str], tamper: impl FnOnce(&sled::Tree)) {
    let place = Place::new();
    seed(&place).await;
    place.tamper(tamper);
    let findings = place.findings();
    let found = findings.iter().any(|found| wanted.iter().all(|part| found.contains(part)));
    assert!(found, "{what}: {wanted:?} in {findings:#?}");
}

fn remove(prefix: u8) -> impl FnOnce(&sled::Tree) {
    move |tree| {
        for key in tree.scan_prefix([prefix]).keys() {
            tree.remove(key.unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_damaged_value_of_any_kind_is_found_and_named() {
    for prefix in *b"jdecoitbrs" {
        finds("damaged", &["damaged"], |tree| flip(tree, &first(tree, prefix))).await;
    }
    let queued = id(QUEUED).to_string();
    finds("a record", &[&queued, "the record is damaged"], |tree| flip(tree, &raw(b'j', id(QUEUED)))).await;
    finds("a head", &["head", "damaged"], |tree| flip(tree, b"h")).await;
    finds("a tally", &["tally", "damaged"], |tree| flip(tree, b"n")).await;
}

#[tokio::test]
async fn what_is_missing_is_found() {
    let awaiting = id(AWAITING).to_string();
    finds("dues", &[&awaiting, "is not in the due index"], remove(b'd')).await;
    finds("events", &["events 1 to", "are missing"], remove(b'e')).await;
    finds("timeline", &[&awaiting, "of its timeline is missing"], |tree| {
        let keys: Vec<_> = tree.scan_prefix(b"e").keys().map(Result::unwrap).collect();
        let of_awaiting = keys
            .iter()
            .rposition(|key| String::from_utf8_lossy(&tree.get(key).unwrap().unwrap()).contains(&awaiting));
        tree.remove(&keys[of_awaiting.unwrap()]).unwrap();
    })
    .await;
    finds("tasks", &[&awaiting, "its task task-5 leads to no job"], remove(b't')).await;
    finds("requests", &[&awaiting, "its request is missing"], remove(b'r')).await;
    finds("leases", &[&id(SENDING).to_string(), "its claim is not listed"], remove(b'l')).await;
    finds("ledger", &["ledger", "its jobs hold 300"], remove(b'b')).await;
    finds("pieces", &[&id(QUEUED).to_string(), "damaged"], remove(b'p')).await;
    finds("head", &["head", "is missing"], |tree| drop(tree.remove(b"h").unwrap())).await;
    finds("job", &["idempotency", "it leads to no job"], |tree| {
        tree.remove(raw(b'j', id(QUEUED))).unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_there_and_should_not_be_is_found() {
    finds("piece", &["piece", "belongs to no value"], |tree| {
        tree.insert(b"pjnobody\0\0\0\0\0\0\0\0", b"x").unwrap();
    })
    .await;
    finds("kind", &["unknown", "no version up to this one"], |tree| {
        tree.insert(b"zebra", b"x").unwrap();
    })
    .await;
    finds("lease", &[&id(AWAITING).to_string(), "listed as claimed and is not"], |tree| {
        tree.insert(raw(b'l', id(AWAITING)), b"").unwrap();
    })
    .await;
    finds("lease of nobody", &["lease", "names no job"], |tree| {
        tree.insert(raw(b'l', id(STRANGER)), b"").unwrap();
    })
    .await;
    finds("copy", &[&id(STRANGER).to_string(), "the record is of"], |tree| {
        let record = tree.get(raw(b'j', id(AWAITING))).unwrap().unwrap();
        tree.insert(raw(b'j', id(STRANGER)), record).unwrap();
    })
    .await;
    finds("twice", &["are there twice"], |tree| {
        let keys: Vec<_> = tree.scan_prefix(b"e").keys().map(Result::unwrap).collect();
        let long = keys.windows(2).find(|keys| keys[1][8] - keys[0][8] > 1).unwrap();
        let mut second = long[0].to_vec();
        second[8] += 1;
        tree.insert(second, tree.get(&long[0]).unwrap().unwrap()).unwrap();
    })
    .await;
    finds("tally", &["tally", "is right"], |tree| {
        tree.remove(raw(b'j', id(HELD))).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_second_terminal_event_and_a_lost_one_are_found() {
    use reelhook::lifecycle::Event;
    let place = Place::new();
    seed(&place).await;
    let stored = id(STORED);
    // An older record of the job in place of the settled one: as if settling had been lost.
    let other = Place::new();
    seed(&other).await;
    let mut settled = Vec::new();
    other.tamper(|tree| settled = tree.get(raw(b'j', stored)).unwrap().unwrap().to_vec());
    place.tamper(|tree| {
        tree.insert(raw(b'j', id(CANCELED)), settled.clone()).unwrap();
        tree.remove(raw(b'j', stored)).unwrap();
    });
    assert!(place.findings().iter().any(|found| found.contains("the record is of")));

    let late = Place::new();
    let store = late.open();
    put(&store, job(1)).await;
    let before = crate::support::stepped(&store, id(1), &Event::Cancel, NOW).await;
    closed(store).await;
    let mut queued = Vec::new();
    late.tamper(|tree| queued = tree.get(raw(b'j', id(1))).unwrap().unwrap().to_vec());
    let store = late.open();
    store.replace(before).await.unwrap();
    closed(store).await;
    late.tamper(|tree| {
        tree.insert(raw(b'j', id(1)), queued).unwrap();
    });
    let findings = late.findings();
    assert!(
        findings.iter().any(|found| found.contains("it has 1 terminal events, 0 is right")),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn a_damaged_record_that_was_set_aside_stays_a_finding() {
    let place = Place::new();
    seed(&place).await;
    place.tamper(|tree| flip(tree, &raw(b'j', id(QUEUED))));
    let store = place.open();
    assert!(store.load(id(QUEUED)).await.is_err());
    closed(store).await;
    let findings = place.findings();
    assert!(findings.iter().any(|found| found.contains("was damaged and is set aside")), "{findings:#?}");
    assert!(
        !findings.iter().any(|found| found.starts_with("idempotency")),
        "its key leads to what is set aside"
    );
}

#[tokio::test]
async fn findings_are_one_line_each_with_what_to_do() {
    let place = Place::new();
    seed(&place).await;
    place.tamper(|tree| flip(tree, &raw(b'j', id(QUEUED))));
    let run = place.db(&["check"]).assert().code(1);
    let told = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    let line = told.lines().find(|line| line.starts_with(&format!("job {}: ", id(QUEUED)))).unwrap();
    assert!(line.contains("the record is damaged; `reelhook db recover`"), "{line}");
    run.stderr(predicate::str::contains("breaks"));
}
