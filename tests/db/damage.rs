//! A store that does not open, or not all of it: what `db recover` saves.

use std::fs;

use predicates::prelude::*;
use reelhook::{
    lifecycle::{Outcome, Phase, Why},
    store::{Insert, Inserted, Store},
};

use crate::{
    place::{Place, closed, flip, raw},
    seed::*,
    support::{get, id, insertion, job, key, task},
};

/// Recovers into a new place.
fn recovered(place: &Place, more: &[&str]) -> (Place, String) {
    let run = place.db(&["recover", "saved"]).args(more).assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    let other = Place::new();
    fs::copy(place.path("saved"), other.path("in")).unwrap();
    other.db(&["import", "in"]).assert().success();
    assert_eq!(other.findings(), [""; 0], "{told}");
    (other, told)
}

/// Changes a bit of a record where it harms no name in it.
fn scratch(tree: &sled::Tree, n: u16) {
    let key = raw(b'j', id(n));
    let mut value = tree.get(&key).unwrap().unwrap().to_vec();
    let at = value.windows(11).position(|window| window == b"\"revision\":").unwrap();
    value[at + 1] ^= 1;
    tree.insert(key, value).unwrap();
}

#[tokio::test]
async fn damaged_records_become_jobs_again_and_keep_their_ids() {
    let place = Place::new();
    seed(&place).await;
    place.tamper(|tree| [QUEUED, AWAITING, STORED, CANCELED].into_iter().for_each(|n| scratch(tree, n)));
    let before = place.files();
    let (other, told) = recovered(&place, &[]);
    assert!(told.contains("6 jobs were read whole, 4 made anew"), "{told}");
    assert_eq!(place.files(), before);

    let store = other.open();
    let asking = get(&store, id(AWAITING)).await;
    assert!(
        matches!(asking.phase, Phase::Awaiting(_))
            && asking.task.is_some_and(|named| named.id == task(AWAITING))
    );
    assert_eq!(get(&store, id(QUEUED)).await.phase, Phase::Held { why: Why::Restored });
    let stored = get(&store, id(STORED)).await;
    assert!(
        matches!(stored.outcome(), Some(Outcome::Stored { files }) if files[0].bytes == 1234),
        "{stored:?}"
    );
    assert!(matches!(
        get(&store, id(CANCELED)).await.outcome(),
        Some(Outcome::Canceled { may_still_charge: false, .. })
    ));
    let again = Insert { key: Some(key("web", "order-1", 1)), ..insertion(job(50)) };
    let replayed = store.insert(again).await.unwrap();
    assert!(
        matches!(replayed, Inserted::Replayed(found) if found.id == id(QUEUED)),
        "it is not paid for again"
    );
    closed(store).await;
}

#[tokio::test]
async fn a_store_that_does_not_open_says_how_to_save_it_and_stays() {
    let place = Place::new();
    seed(&place).await;
    // No engine makes anything of this head; the records lie behind it.
    let mut log = fs::read(place.path("state/db")).unwrap();
    log[..64].fill(0xAA);
    fs::write(place.path("state/db"), &log).unwrap();
    let before = place.files();
    place.serve().assert().code(1).stderr(predicate::str::contains("its log holds whole records of 10"));
    assert_eq!(place.files(), before, "a start leaves it to be saved");
    let run = place.db(&["check"]).assert().code(1);
    run.stderr(
        predicate::str::contains("does not open").and(predicate::str::contains("reelhook db recover FILE")),
    );

    let (other, told) = recovered(
        &place,
        &["--task", "task-5", "--task", "task-77", "--task", "task-78=job_0192f0c1a2b37c4d8e5f60718293a4b5"],
    );
    assert!(
        told.contains("the store does not open") && told.contains("2 from the tasks that were named"),
        "{told}"
    );
    assert_eq!(place.files(), before);
    let store = other.open();
    assert!(get(&store, id(AWAITING)).await.task.is_some());
    assert_eq!(
        get(&store, id(QUEUED)).await.phase,
        Phase::Held { why: Why::Restored },
        "it may have been sent"
    );
    assert!(matches!(get(&store, id(STORED)).await.outcome(), Some(Outcome::Stored { .. })));
    let named = "job_0192f0c1a2b37c4d8e5f60718293a4b5".parse().unwrap();
    assert!(matches!(get(&store, named).await.phase, Phase::Awaiting(_)));
    closed(store).await;
}

#[tokio::test]
async fn with_no_store_at_all_the_tasks_that_are_named_are_asked_about() {
    let place = Place::new();
    fs::write(place.path("tasks"), "task-1\n\n task-2\n").unwrap();
    let (other, told) = recovered(&place, &["--tasks-from", "tasks"]);
    assert!(told.contains("2 from the tasks that were named"), "{told}");
    let store = other.open();
    for n in [1, 2] {
        let owner = store.by_task(&task(n)).await.unwrap().unwrap();
        let job = get(&store, owner).await;
        assert!(matches!(job.phase, Phase::Awaiting(_)) && job.cost.reserved.is_none());
    }
    closed(store).await;
    place.db(&["recover", "-", "--task", "x=nobody"]).assert().code(2);
}

#[tokio::test]
async fn a_key_whose_job_is_gone_makes_no_second_one() {
    let place = Place::new();
    seed(&place).await;
    place.tamper(|tree| {
        tree.remove(raw(b'j', id(QUEUED))).unwrap();
        flip(tree, b"h");
    });
    let (other, _) = recovered(&place, &[]);
    let store = other.open();
    assert_eq!(get(&store, id(QUEUED)).await.phase, Phase::Held { why: Why::Restored });
    closed(store).await;
}

#[tokio::test]
async fn no_start_writes_over_jobs_that_the_engine_does_not_find() {
    let place = Place::new();
    seed(&place).await;
    for file in fs::read_dir(place.path("state")).unwrap().map(Result::unwrap) {
        if file.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let whole = fs::read(place.path("state/db")).unwrap();
    let mut headless = whole.clone();
    headless[..64].fill(0xAA);
    fs::write(place.path("state/db"), headless).unwrap();
    let before = place.files();
    place.serve().assert().code(1).stderr(predicate::str::contains("does not open"));
    assert_eq!(place.files(), before);
    fs::write(place.path("state/db"), whole).unwrap();
    let store = place.open();
    assert_eq!(
        get(&store, id(AWAITING)).await.phase_name(),
        "awaiting",
        "without a snapshot alone nothing is lost"
    );
    closed(store).await;
}
