//! `download`: the whole file, proven, or none.

use std::{fs, path::Path};

use predicates::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::fake::{Answer, Call, Fake, ID, job};

const VIDEO: &[u8] = b"0123456789abcdef";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn finished(names: &[&str]) -> Value {
    let mut job = job(9, "succeeded", "done");
    let file = |name: &&str| json!({ "name": name, "bytes": VIDEO.len(), "sha256": sha256(VIDEO) });
    job["files"] = names.iter().map(file).collect();
    job
}

/// A finished job, whose files are answered as `file` says.
fn archive(names: &'static [&'static str], file: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Fake {
    Fake::start(move |call| match call.route().contains("/files/") {
        true => file(call),
        false => Answer::job(200, &finished(names)),
    })
}

fn whole(body: &[u8]) -> Answer {
    Answer::Whole { status: 200, headers: vec![], body: body.to_vec() }
}

/// Honours `Range: bytes=N-` as the server does.
fn ranged(call: &Call) -> Answer {
    let from =
        call.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        Some(from) if call.header("if-range") == Some(&format!("\"{}\"", sha256(VIDEO))) => {
            let from: usize = from;
            Answer::Whole { status: 206, headers: vec![], body: VIDEO[from..].to_vec() }
        }
        _ => whole(VIDEO),
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_comes_under_the_jobs_id_and_stdout_says_where() {
    let fake = archive(&["video.mp4"], ranged);
    let folder = tempfile::tempdir().unwrap();
    let run = fake.reelhook().current_dir(&folder).args(["download", ID]).assert().success();
    run.stdout(format!("{ID}.mp4\n")).stderr(predicate::str::contains(sha256(VIDEO)));
    assert_eq!(names_in(folder.path()), [format!("{ID}.mp4")]);
    assert_eq!(fs::read(folder.path().join(format!("{ID}.mp4"))).unwrap(), VIDEO);
}

#[test]
fn several_files_go_into_a_folder_one_json_record_each() {
    let fake = archive(&["0.mp4", "1.mp4"], ranged);
    let folder = tempfile::tempdir().unwrap();
    let mut command = fake.reelhook();
    let run = command.args(["--json", "download", ID, "-o"]).arg(folder.path()).assert().success();
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["sha256"], sha256(VIDEO));
    assert_eq!(names_in(folder.path()), [format!("{ID}-0.mp4"), format!("{ID}-1.mp4")]);

    let into_one = fake.reelhook().args(["download", ID, "-o", "/tmp/no/such/file"]).assert().code(2);
    into_one.stderr(predicate::str::contains("2 files"));
    let target = folder.path().join("second.mp4");
    fake.reelhook().args(["download", ID, "--name", "1.mp4", "-o"]).arg(&target).assert().success();
    assert_eq!(fs::read(target).unwrap(), VIDEO);
    fake.reelhook().args(["download", ID, "--name", "7.mp4"]).assert().code(5);
}

#[test]
fn a_connection_that_breaks_is_continued_where_it_broke() {
    let fake = archive(&["video.mp4"], |call| match call.nth {
        0 => Answer::Broken { length: VIDEO.len() as u64, body: VIDEO[..6].to_vec() },
        _ => ranged(call),
    });
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("fox.mp4");
    fake.reelhook().args(["download", ID, "-o"]).arg(&target).assert().success();
    assert_eq!(fs::read(target).unwrap(), VIDEO);
    assert_eq!(fake.calls().last().unwrap().header("range"), Some("bytes=6-"));
}

#[test]
fn a_later_run_continues_the_part_of_an_earlier_one() {
    let fake = archive(&["video.mp4"], ranged);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join(format!(".fox.mp4.{}.part", &sha256(VIDEO)[..16]));
    fs::write(&part, &VIDEO[..10]).unwrap();
    fake.reelhook().args(["download", ID, "-o"]).arg(folder.path().join("fox.mp4")).assert().success();
    assert_eq!(fs::read(folder.path().join("fox.mp4")).unwrap(), VIDEO);
    assert_eq!(fake.calls().last().unwrap().header("range"), Some("bytes=10-"));
    assert_eq!(names_in(folder.path()), ["fox.mp4"]);
}

#[test]
fn a_server_that_ignores_the_range_is_read_from_the_start() {
    let fake = archive(&["video.mp4"], |_| whole(VIDEO));
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join(format!(".fox.mp4.{}.part", &sha256(VIDEO)[..16]));
    fs::write(&part, &VIDEO[..10]).unwrap();
    fake.reelhook().args(["download", ID, "-o"]).arg(folder.path().join("fox.mp4")).assert().success();
    assert_eq!(fs::read(folder.path().join("fox.mp4")).unwrap(), VIDEO);
}

#[test]
fn other_bytes_than_promised_exit_11_and_leave_what_was_there() {
    for bytes in [&b"0123456789abcdeX"[..], b"01234", b"0123456789abcdef and more"] {
        let fake = archive(&["video.mp4"], move |_| whole(bytes));
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("fox.mp4");
        fs::write(&target, "an older fox").unwrap();
        let run = fake.reelhook().args(["download", ID, "-o"]).arg(&target).assert().code(11).stdout("");
        run.stderr(predicate::str::contains("is not what the server stored"));
        assert_eq!(fs::read(&target).unwrap(), b"an older fox");
        assert_eq!(names_in(folder.path()), ["fox.mp4"], "no part stays");
    }
}

#[test]
fn a_place_that_cannot_be_written_exits_11() {
    let fake = archive(&["video.mp4"], ranged);
    let run = fake.reelhook().args(["download", ID, "-o", "/nowhere/at/all.mp4"]).assert().code(11);
    run.stderr(predicate::str::contains("cannot write /nowhere/at/all.mp4"));
}

#[test]
fn a_job_without_a_file_says_why() {
    for (status, phase, exit) in [("running", "awaiting", 6), ("failed", "done", 3), ("succeeded", "done", 5)]
    {
        let fake = Fake::start(move |_| Answer::job(200, &job(2, status, phase)));
        fake.reelhook().args(["download", ID]).assert().code(exit).stdout("");
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let fake = archive(&["../../evil.mp4", "b.mp4"], ranged);
    let folder = tempfile::tempdir().unwrap();
    fake.reelhook().args(["download", ID, "-o"]).arg(folder.path()).assert().code(11);
    assert!(names_in(folder.path()).is_empty());
}
