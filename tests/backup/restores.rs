//! What comes back of a backup that is well, and of one that is not.

use std::fs;

use reelhook::store::sled::SledStore;

use crate::{
    objects::{flip, generations, segments, snapshots, tear},
    place::Place,
    support::{NOW, id, policy},
};

/// A store that was started four times and closed orderly: a snapshot of nothing, and at least a segment for each three jobs.
async fn three_segments() -> Place {
    let place = Place::new();
    place.put([]).await;
    for numbers in [1..=3, 4..=6, 7..=9_u16] {
        place.put(numbers).await;
    }
    assert_eq!((generations(&place).len(), snapshots(&place).len()), (1, 1));
    assert!(segments(&place).len() >= 3, "{:?}", segments(&place));
    place.lose();
    place
}

fn numbers(numbers: impl IntoIterator<Item = u16>) -> Vec<reelhook::lifecycle::JobId> {
    numbers.into_iter().map(id).collect()
}

#[tokio::test]
async fn a_whole_backup_comes_back_whole_and_starts_as_restored_only() {
    let place = three_segments().await;
    let (said, code) = place.restore();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&said["jobs"], &said["missing"]), (&9.into(), &serde_json::Value::Null), "{said}");
    let refusal = place.refused();
    assert!(refusal.contains("serve --restored") && refusal.contains("backup"), "{refusal}");
    let moved = place.db(&["export", "--move", "-"]);
    assert_eq!(moved.status.code(), Some(6), "its jobs would be sent by the store that they are moved to");
    assert_eq!(place.jobs().await, numbers(1..=9));
    // From here on it is a store as any, and its backup begins anew.
    place.put([10]).await;
    assert_eq!(generations(&place).len(), 2);
    place.lose();
    let (said, code) = place.restore();
    assert_eq!((code, &said["jobs"]), (Some(0), &10.into()), "{said}");
}

#[tokio::test]
async fn of_a_torn_last_segment_the_whole_groups_are_used_and_the_rest_is_told() {
    let place = three_segments().await;
    tear(segments(&place).last().unwrap());
    let (said, code) = place.restore();
    assert_eq!(code, Some(1));
    let why = said["missing"]["why"].as_str().unwrap();
    assert!(why.contains("it ends in the middle") && why.contains("/log/"), "{said}");
    assert!(said["missing"]["seconds"].as_f64().unwrap() >= 0.0);
    // The last group of the last segment is the one that is torn: the last job, or what came after it.
    assert!(place.jobs().await.starts_with(&numbers(1..=8)), "{said}");
}

#[tokio::test]
async fn behind_a_damaged_or_missing_segment_nothing_is_applied() {
    let (damaged, missing) = (three_segments().await, three_segments().await);
    let second = |place: &Place| segments(place)[segments(place).len() - 2].clone();
    flip(&second(&damaged));
    fs::remove_file(second(&missing)).unwrap();
    for (place, reason) in
        [(damaged, "its bytes are not what was written"), (missing, "are not in the backup")]
    {
        let (said, code) = place.restore();
        assert_eq!(code, Some(1));
        assert!(said["missing"]["why"].as_str().unwrap().contains(reason), "{said}");
        let jobs = place.jobs().await;
        assert!(jobs.starts_with(&numbers(1..=3)) && !jobs.contains(&id(7)), "{jobs:?}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_or_not_whole_is_passed_over_for_the_one_before() {
    let place = Place::new();
    place.put(1..=3).await;
    place.forget();
    place.put(4..=6).await;
    assert_eq!(snapshots(&place).len(), 2);
    let newest = snapshots(&place).pop().unwrap();
    flip(&newest);
    place.lose();
    let (said, code) = place.restore();
    assert_eq!(code, Some(1), "the changes of the second process do not follow those of the first");
    assert!(said["passed_over"][0].as_str().unwrap().contains("its bytes are not"), "{said}");
    assert!(said["missing"]["why"].as_str().unwrap().contains("no snapshot that can be used"), "{said}");
    assert_eq!(place.jobs().await, numbers(1..=3));

    // As an upload that was cut short leaves it.
    fs::remove_file(newest.with_extension("json")).unwrap();
    place.lose();
    let (said, _) = place.restore();
    assert_eq!((&said["jobs"], said["passed_over"].as_array().unwrap().len()), (&3.into(), 0), "{said}");
}

#[tokio::test]
async fn a_place_that_is_not_empty_is_not_touched() {
    let place = Place::new();
    place.put(1..=2).await;
    fs::create_dir(place.path("copy")).unwrap();
    let before: Vec<_> =
        fs::read_dir(place.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let run = place.db(&["restore"]);
    assert_eq!(run.status.code(), Some(6), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("not empty"), "{run:?}");
    let after: Vec<_> =
        fs::read_dir(place.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(before, after);
    let store = SledStore::open(&place.store(), NOW, &policy()).unwrap();
    assert_eq!(store.quarantined(), 0);
}

#[test]
fn where_there_is_no_backup_nothing_is_made() {
    let place = Place::new();
    let run = place.db(&["restore", "--from", "file:./nowhere"]);
    assert_eq!(run.status.code(), Some(5), "{run:?}");
    assert!(!place.path("nowhere").exists() && !place.path("state").exists());
    fs::create_dir(place.path("nowhere")).unwrap();
    let run = place.db(&["restore", "--from", "file:./nowhere"]);
    assert_eq!(run.status.code(), Some(5), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("no backup"), "{run:?}");
    assert!(!place.path("state").exists());
}

#[test]
fn a_database_has_its_own_backup() {
    let place = Place::new();
    let config = "[store]\nurl = \"postgres://a@127.0.0.1/b\"\nbackup = \"file:backup\"\n";
    fs::write(place.path("reelhook.toml"), config).unwrap();
    let run = place.db(&["check"]);
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("store.backup") && said.contains("the database's own backup"), "{said}");
}
