//! Programs as sinks.

use std::{fs, path::Path, time::Duration};

use reelhook::{
    config::{Sink, Target},
    lifecycle::Answer,
};
use tempfile::tempdir;

use crate::{FAILED, PATIENT, message, send, settings, sink};

fn shell(script: &str, arguments: &[&Path]) -> Sink {
    let mut command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned(), "sh".to_owned()];
    command.extend(arguments.iter().map(|path| path.to_str().unwrap().to_owned()));
    settings(Target::Exec { command })
}

#[tokio::test]
async fn a_program_gets_the_event_on_its_input_and_nothing_of_our_environment_but_the_path() {
    let dir = tempdir().unwrap();
    let attempt = send(shell("cat >$1/body; /usr/bin/env >$1/env; pwd >$1/pwd", &[dir.path()])).await;
    assert_eq!((attempt.answer, attempt.code), (Answer::Delivered, Some(0)), "{attempt:?}");
    assert_eq!(fs::read(dir.path().join("body")).unwrap(), message().body);
    let env = fs::read_to_string(dir.path().join("env")).unwrap();
    // The shell adds these itself.
    let shells = ["PWD", "OLDPWD", "SHLVL", "_"];
    let mut names: Vec<&str> = env.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.retain(|name| !shells.contains(name));
    names.sort_unstable();
    let expected = [
        "PATH",
        "REELHOOK_ATTEMPT",
        "REELHOOK_DELIVERY_ID",
        "REELHOOK_EVENT_ID",
        "REELHOOK_EVENT_TYPE",
        "REELHOOK_JOB_ID",
        "REELHOOK_TRACEPARENT",
    ];
    assert_eq!(names, expected);
    let Message { event_id, job_id, delivery_id, .. } = message();
    for line in [
        format!("REELHOOK_EVENT_ID={event_id}"),
        "REELHOOK_EVENT_TYPE=job.succeeded".to_owned(),
        format!("REELHOOK_JOB_ID={}", job_id.unwrap()),
        format!("REELHOOK_DELIVERY_ID={delivery_id}"),
        "REELHOOK_ATTEMPT=2".to_owned(),
        format!("REELHOOK_TRACEPARENT={}", crate::TRACE),
    ] {
        assert!(env.lines().any(|given| given == line), "{line} is not in {env}");
    }
    let here = std::env::current_dir().unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("pwd")).unwrap().trim(), here.to_str().unwrap());
}

use reelhook::outbound::deliver::Message;

#[tokio::test]
async fn arguments_are_no_shell_s_affair() {
    let dir = tempdir().unwrap();
    let odd = "$(touch x); `id` | & \"'";
    let command = vec!["/bin/sh".into(), "-c".into(), "printf %s \"$2\" >$1/seen".into(), "sh".into()];
    let command = [command, vec![dir.path().to_str().unwrap().to_owned(), odd.to_owned()]].concat();
    send(settings(Target::Exec { command })).await;
    assert_eq!(fs::read_to_string(dir.path().join("seen")).unwrap(), odd);
}

#[tokio::test]
async fn the_exit_code_decides_and_the_end_of_the_standard_error_is_told() {
    for (code, answer) in [(0, Answer::Delivered), (1, FAILED), (75, FAILED), (100, Answer::Refused)] {
        let attempt = send(shell(&format!("echo because >&2; exit {code}"), &[])).await;
        assert_eq!((attempt.answer, attempt.code), (answer, Some(code)), "{attempt:?}");
        assert!(attempt.detail.starts_with(&format!("exit {code}")), "{attempt:?}");
        assert!(attempt.detail.ends_with(": because"), "{attempt:?}");
    }
    let attempt = send(shell("kill -9 $$", &[])).await;
    assert_eq!((attempt.answer, attempt.code), (FAILED, None));
    assert_eq!(attempt.detail, "ended by signal 9");
}

#[tokio::test]
async fn of_a_flood_on_the_standard_error_the_end_is_kept() {
    let script =
        "i=0; while [ $i -lt 20000 ]; do echo äöü line $i; i=$((i+1)); done >&2; echo END >&2; exit 1";
    let attempt = send(shell(script, &[])).await;
    assert!(attempt.detail.starts_with("exit 1: ") && attempt.detail.ends_with("END"), "{attempt:?}");
    assert!((290..=300).contains(&attempt.detail.chars().count()), "{attempt:?}");
}

#[tokio::test]
async fn a_program_that_does_not_read_its_input_is_none_the_worse() {
    let mut long = message();
    long.body = vec![b'x'; 1024 * 1024].into();
    let attempt = sink(shell("exit 0", &[])).send(&long).await;
    assert_eq!(attempt.answer, Answer::Delivered, "{attempt:?}");
}

#[tokio::test]
async fn a_program_that_leaves_another_behind_has_ended_all_the_same() {
    let dir = tempdir().unwrap();
    let attempt = send(shell("echo said >&2; sleep 30 & echo $! >$1/pid; exit 0", &[dir.path()])).await;
    assert_eq!(attempt.answer, Answer::Delivered, "{attempt:?}");
    assert!(attempt.detail.ends_with("said") && attempt.took < 20_000, "{attempt:?}");
    let left = process(&dir.path().join("pid"));
    assert!(is_running(left), "what a program starts and leaves is its own affair");
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
    let dir = tempdir().unwrap();
    let mut settings = shell("sleep 60 & echo $! >$1/pid; echo busy >&2; wait", &[dir.path()]);
    settings.timeout = Duration::from_secs(3);
    let attempt = send(settings).await;
    assert_eq!((attempt.answer, attempt.code), (FAILED, None));
    assert_eq!(attempt.detail, "ran longer than 3s and was killed: busy");
    gone(process(&dir.path().join("pid"))).await;
}

#[tokio::test]
async fn a_try_that_is_given_up_leaves_no_program_behind() {
    let dir = tempdir().unwrap();
    let sink = sink(shell("sleep 60 & echo $! >$1/new; mv $1/new $1/pid; wait", &[dir.path()]));
    let trying = tokio::spawn(async move { sink.send(&message()).await });
    let pid = dir.path().join("pid");
    let started = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENT, started).await.expect("the program starts");
    trying.abort();
    gone(process(&pid)).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let attempt = send(settings(Target::Exec { command: vec!["/no/such/program".into()] })).await;
    assert_eq!(attempt.answer, FAILED);
    assert!(attempt.detail.starts_with("`/no/such/program` cannot be started: "), "{attempt:?}");
}

fn process(pid: &Path) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(fs::read_to_string(pid).unwrap().trim().parse().unwrap()).unwrap()
}

/// A zombie, which nobody has asked about yet, does not run.
fn is_running(process: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

async fn gone(process: rustix::process::Pid) {
    let gone = async {
        while is_running(process) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENT, gone).await.expect("it is killed too");
}
