//! The archive on a local disk: keys, reading, the manifest.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use jiff::Timestamp;
use reelhook::{
    config::Storage,
    disk::Trouble,
    outbound::{
        archive::{Archive, ArchiveError},
        manifest::{Manifest, ManifestCost, ManifestFile, manifest},
    },
};
use tempfile::TempDir;

async fn open(key_template: &str) -> (TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("made/on/demand");
    let archive =
        Archive::open(&Storage { root, bucket: None, key_template: key_template.to_owned(), min_free: 0 })
            .await
            .unwrap();
    (folder, archive)
}

async fn put(archive: &Archive, location: &str, body: &'static [u8]) {
    let mut writer = archive.writer(location).await.unwrap();
    writer.put_part(body.into()).await.unwrap();
    writer.complete().await.unwrap();
}

#[tokio::test]
async fn a_key_takes_its_date_from_the_jobs_creation_in_utc() {
    let late: Timestamp = "2026-08-01T23:30:00-05:00".parse().unwrap();
    let (_folder, archive) = open("{date}/{job_id}").await;
    assert_eq!(archive.key("job_1", late), "2026-08-02/job_1");
    let (_folder, archive) = open("videos/{job_id}/video").await;
    assert_eq!(archive.key("job_1", late), "videos/job_1/video");
}

#[tokio::test]
async fn a_file_is_read_whole_or_in_part_only_once_it_is_complete() {
    let (_folder, archive) = open("{job_id}").await;
    let mut writer = archive.writer("a/job_1.mp4").await.unwrap();
    writer.put_part(b"0123456789".as_slice().into()).await.unwrap();
    assert!(matches!(archive.head("a/job_1.mp4").await, Err(ArchiveError::NotFound(_))));
    writer.complete().await.unwrap();
    assert_eq!(archive.head("a/job_1.mp4").await.unwrap().size, 10);
    let whole = archive.read("a/job_1.mp4", None).await.unwrap().bytes().await.unwrap();
    assert_eq!(&whole[..], b"0123456789");
    let middle = archive.read("a/job_1.mp4", Some(2..5)).await.unwrap();
    assert_eq!(middle.range, 2..5);
    assert_eq!(&middle.bytes().await.unwrap()[..], b"234");
    assert!(matches!(archive.read("a/job_1.mp4", Some(10..12)).await, Err(ArchiveError::Range(_))));
    assert!(matches!(archive.read("a/job_2.mp4", None).await, Err(ArchiveError::NotFound(_))));
}

#[tokio::test]
async fn no_location_leads_out_of_the_archive() {
    let (folder, archive) = open("{job_id}").await;
    std::fs::write(folder.path().join("made/on/secret.mp4"), "secret").unwrap();
    for location in ["../secret.mp4", "a/../../secret.mp4", "/../secret.mp4", "a//b.mp4"] {
        assert!(archive.read(location, None).await.is_err(), "{location}");
        assert!(archive.writer(location).await.is_err(), "{location}");
    }
}

#[tokio::test]
async fn the_manifest_lies_beside_the_files_and_may_be_written_again() {
    let (folder, archive) = open("{job_id}").await;
    put(&archive, "a/job_1.mp4", b"0123456789").await;
    let file = ManifestFile {
        name: "job_1.mp4".to_owned(),
        location: "a/job_1.mp4".to_owned(),
        bytes: 10,
        sha256: "84d8".to_owned(),
        content_type: "video/mp4".to_owned(),
    };
    let cost = ManifestCost { estimated_credits: Some(300), reported_credits: None };
    let input = serde_json::from_str(r#"{"model":"kling-3","prompt":"a fox"}"#).unwrap();
    let made = manifest("job_1", None, input, cost, vec![file], Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    for _ in 0..2 {
        assert_eq!(archive.put_manifest("a/job_1", &made).await.unwrap(), "a/job_1.json");
        let body = archive.read("a/job_1.json", None).await.unwrap().bytes().await.unwrap();
        assert_eq!(serde_json::from_slice::<Manifest>(&body).unwrap(), made);
    }
    let root = folder.path().join("made/on/demand");
    let mut names: Vec<_> =
        std::fs::read_dir(root.join("a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["job_1.json", "job_1.mp4"]);
    assert_eq!(std::fs::read_dir(root.join(".reelhook/locks")).unwrap().count(), 0);
}

#[tokio::test]
async fn room_is_judged_with_what_must_stay_free() {
    let (folder, archive) = open("{job_id}").await;
    archive.ensure_room(1).unwrap();
    let free = archive.disk().free.unwrap();
    assert!(matches!(archive.ensure_room(free * 2), Err(ArchiveError::Disk(Trouble::Full { .. }))));
    drop(folder);
}
