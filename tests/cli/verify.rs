//! `reelhook verify`: which part of a signature does not match.

use std::fs;

use assert_cmd::Command;
use jiff::Timestamp;
use predicates::str::contains;
use reelhook::provider::signing::SigningKey;
use serde_json::Value;

use crate::fake::reelhook;

const SECRET: &str = "whsec_ZXhhbXBsZS1vZi1hLXNpZ25pbmctc2VjcmV0LTAwMDE=";
const ID: &str = "evt_0192f0c1a2b37c4d8e5f60718293a4b5";
const BODY: &str = r#"{"type":"job.succeeded"}"#;

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn signature(at: i64, body: &str) -> String {
    SigningKey::read(&SECRET.into()).unwrap().sign(ID, at, body.as_bytes())
}

/// The command for a body on its standard input.
fn verify(secret: &str, at: i64, signature: &str, body: &str) -> Command {
    let mut command = reelhook("http://127.0.0.1:1");
    command.args(["verify", "--secret", secret, "--id", ID, "--timestamp", &at.to_string()]);
    command.args(["--signature", signature]).write_stdin(body);
    command
}

fn json(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_right_signature_is_right_from_standard_input_and_from_a_file_and_by_any_secret() {
    let (at, folder) = (now(), tempfile::tempdir().unwrap());
    let right = signature(at, BODY);
    let run = verify(SECRET, at, &right, BODY).assert().success();
    run.stdout(contains("signature: right, by secret 1 (read as base64)")).stderr("");
    fs::write(folder.path().join("body"), BODY).unwrap();
    fs::write(folder.path().join("secrets"), format!("an old secret of enough length\n{SECRET}\n")).unwrap();
    let mut from_files = reelhook("http://127.0.0.1:1");
    from_files.current_dir(folder.path()).args(["verify", "body", "--secret-file", "secrets", "--id", ID]);
    from_files.args(["--timestamp", &at.to_string(), "--signature", &format!("v1,AAAA v1a,BBBB {right}")]);
    let told = json(&mut from_files);
    assert_eq!((&told["ok"], &told["signature"]["secret"]), (&true.into(), &2.into()));
    assert_eq!(told["signature"]["read_as"], "base64");
}

#[test]
fn what_a_signature_cannot_tell_apart_is_not_told_apart() {
    let at = now();
    let right = signature(at, BODY);
    let cases = [
        verify(SECRET, at, &right, r#"{"type": "job.succeeded"}"#),
        verify("an old secret of enough length", at, &right, BODY),
        verify(SECRET, at - 1, &right, BODY),
    ];
    for mut case in cases {
        case.assert().code(1).stderr(contains("the body is not byte for byte what was signed"));
        case.assert().stderr(contains("or the secret is; which of these, a signature cannot tell"));
        let told = json(&mut case);
        assert_eq!((&told["ok"], &told["signature"]["ok"]), (&false.into(), &false.into()));
        assert_eq!(told["timestamp"]["ok"], true);
    }
}

#[test]
fn what_can_be_told_is_told() {
    let at = now();
    let raw = SigningKey::undecoded(&SECRET.into()).sign(ID, at, BODY.as_bytes());
    let with_break = signature(at, &format!("{BODY}\n"));
    let cases = [
        (verify(SECRET, at, &raw, BODY), "secret 1 taken byte for byte"),
        (
            verify(SECRET, at, &signature(at, BODY), &format!("{BODY}\r\n")),
            "without the line break at its end",
        ),
        (verify(SECRET, at, &with_break, BODY), "with a line break at its end"),
        (verify(SECRET, at, "v1a,AAAA", BODY), "holds no `v1,` signature"),
    ];
    for (mut case, reason) in cases {
        case.assert().code(1).stderr(contains(reason)).stdout(contains("signature: wrong"));
    }
}

#[test]
fn a_timestamp_outside_the_tolerance_is_wrong_and_the_signature_still_right() {
    for at in [now() - 3_600, now() + 3_600] {
        let right = signature(at, BODY);
        let run = verify(SECRET, at, &right, BODY).assert().code(1);
        run.stdout(contains("signature: right")).stderr(contains("300 s are tolerated"));
        let told = json(&mut verify(SECRET, at, &right, BODY));
        assert_eq!((&told["signature"]["ok"], &told["timestamp"]["ok"]), (&true.into(), &false.into()));
        for tolerance in ["2h", "0s"] {
            verify(SECRET, at, &right, BODY).args(["--tolerance", tolerance]).assert().success();
        }
    }
}

#[test]
fn a_secret_that_is_none_is_a_mistake_of_the_command_line_and_not_repeated() {
    for (secret, reason) in
        [("whsec_canary!", "not base64"), ("canary", "24 or more"), ("whpk_canary", "asymmetric")]
    {
        let run = verify(secret, now(), "v1,AAAA", BODY).assert().code(2);
        let text = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        assert!(text.contains("secret 1 cannot be used") && text.contains(reason), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
    verify(SECRET, now(), "v1,AAAA", BODY).arg("no-such-file").assert().code(2);
    reelhook("http://127.0.0.1:1").args(["verify", "--id", ID]).assert().code(2);
}
