//! Nothing but a signature verifies, nothing but a token opens, and neither reading panics.
//!
//! Input: a secret, then headers, an empty line and the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reelhook::provider::{
    signature::{Scheme, check_secret, delivery_id, sign, verify},
    token::{Purpose, Tokens},
};
use reelhook_fuzz::Written;
use secrecy::SecretString;

const NOW: i64 = 1_800_000_000;
const TOLERANCE: i64 = 300;

fuzz_target!(|input: &[u8]| {
    let Some(written) = Written::read(input, str::to_owned) else { return };
    let header = |wanted: &str| {
        let (_, value) = written.headers.iter().find(|(name, _)| name == wanted)?;
        value.to_str().ok().map(str::to_owned)
    };
    let secret = SecretString::from(written.line);
    let secrets = [SecretString::from("not base64"), secret.clone()];
    let id = delivery_id(header).unwrap_or_else(|| "msg_1".to_owned());
    assert!((1..=128).contains(&id.len()));
    let verified = verify(Scheme::StandardWebhooks, &secrets, header, written.body, NOW).is_ok();
    assert!(verify(Scheme::None, &secrets, header, written.body, NOW).is_ok());
    let signed = sign(&secret, &id, NOW, written.body);
    assert!(check_secret(&secret).is_ok() || (signed.is_err() && !verified), "no key, no signature");
    if let Ok(signature) = signed {
        let with = |signature: &str, body: &[u8], now: i64| {
            let header = |name: &str| match name {
                "webhook-id" => Some(id.clone()),
                "webhook-timestamp" => Some(NOW.to_string()),
                "webhook-signature" => Some(signature.to_owned()),
                _ => None,
            };
            verify(Scheme::StandardWebhooks, &secrets, header, body, now).is_ok()
        };
        assert!(with(&signature, written.body, NOW));
        assert!(with(&format!("v1,AAAA v9,x {signature}"), written.body, NOW - TOLERANCE));
        assert!(!with(&signature, written.body, NOW + TOLERANCE + 1));
        assert!(!with(&signature, &[written.body, b"x"].concat(), NOW));
        assert!(!with(&format!("{signature}A"), written.body, NOW));
    }
    let text = String::from_utf8_lossy(written.body);
    if let Ok(tokens) = Tokens::new(Purpose::Callback, vec![secret]) {
        let minted = tokens.mint(&id);
        assert!(tokens.check(&id, &minted));
        assert_eq!(tokens.check(&id, &text), *text == minted);
    }
});
