//! Tokens open what they were minted for, and nothing else.

use proptest::prelude::*;
use reelhook::provider::token::{Purpose, Tokens, WeakSecret};
use secrecy::SecretString;

const OLD: &str = "an old secret of 24 byte";
const NEW: &str = "a new secret of 23 byte";

fn tokens(purpose: Purpose, secrets: &[&str]) -> Tokens {
    Tokens::new(purpose, secrets.iter().map(|secret| SecretString::from(*secret)).collect()).unwrap()
}

#[test]
fn a_token_is_the_keyed_hash_of_its_purpose_and_subject() {
    let token = tokens(Purpose::Callback, &["0123456789abcdef"]).mint("job_1");
    assert_eq!(token, "bc00ba9a1ee044d37345286154d58522ef13c357cfb46827f0bde56ce3134bc1");
}

#[test]
fn a_token_opens_its_own_subject_alone() {
    let tokens = tokens(Purpose::Callback, &[NEW]);
    let token = tokens.mint("job_1");
    assert!(tokens.check("job_1", &token));
    assert!(!tokens.check("job_2", &token));
    assert!(!tokens.check("", &token));
}

#[test]
fn a_token_of_one_purpose_does_not_open_the_other() {
    let (callback, media) = (tokens(Purpose::Callback, &[NEW]), tokens(Purpose::Media, &[NEW]));
    assert!(!media.check("job_1", &callback.mint("job_1")));
    assert!(!callback.check("job_1", &media.mint("job_1")));
}

#[test]
fn the_newest_secret_mints_and_every_secret_checks() {
    let before = tokens(Purpose::Callback, &[OLD]);
    let during = tokens(Purpose::Callback, &[NEW, OLD]);
    let after = tokens(Purpose::Callback, &[NEW]);
    assert!(during.check("job_1", &before.mint("job_1")));
    assert!(after.check("job_1", &during.mint("job_1")));
    assert!(!after.check("job_1", &before.mint("job_1")));
}

#[test]
fn a_token_that_is_changed_in_any_way_does_not_open() {
    let tokens = tokens(Purpose::Callback, &[NEW]);
    let token = tokens.mint("job_1");
    for index in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'0' { b'1' } else { b'0' };
        assert!(!tokens.check("job_1", std::str::from_utf8(&changed).unwrap()), "digit {index}");
    }
    for changed in [
        String::new(),
        token[..62].to_owned(),
        format!("{token}00"),
        token.to_uppercase(),
        format!(" {token}"),
    ] {
        assert!(!tokens.check("job_1", &changed), "{changed}");
    }
}

#[test]
fn a_secret_that_could_be_guessed_is_refused() {
    let new = |secrets: &[&str]| {
        Tokens::new(Purpose::Media, secrets.iter().map(|secret| SecretString::from(*secret)).collect()).err()
    };
    assert_eq!(new(&[]), Some(WeakSecret::Missing));
    assert_eq!(new(&[""]), Some(WeakSecret::Short));
    assert_eq!(new(&[NEW, "fifteen bytes.."]), Some(WeakSecret::Short));
    assert_eq!(new(&["sixteen bytes..."]), None);
}

#[test]
fn secrets_do_not_show_when_debugged() {
    assert!(!format!("{:?}", tokens(Purpose::Media, &[NEW])).contains(NEW));
}

proptest! {
    #[test]
    fn no_text_but_the_token_opens(subject in ".{0,40}", token in ".{0,80}") {
        let tokens = tokens(Purpose::Media, &[NEW]);
        prop_assert_eq!(tokens.check(&subject, &token), token == tokens.mint(&subject));
    }
}
