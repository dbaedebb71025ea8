//! Nothing but a signature verifies, nothing but a token opens, and neither reading panics.
//!
//! Input: a secret, then headers, an empty line and the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reelhook::provider::{
    signature::{Format, Message, Scheme, check_secret, delivery_id, sign, verify},
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
    let id = delivery_id(Scheme::None, header).unwrap_or_else(|| "none".to_owned());
    assert!((1..=128).contains(&id.len()));
    for scheme in Scheme::ALL {
        let format = Format { header: Some("x-signature".to_owned()), ..scheme.into() };
        let verified = verify(&format, &secrets, header, written.body, NOW).is_ok();
        assert!(verified || scheme != Scheme::None);
        let message = Message { id: &id, timestamp: NOW, body: written.body };
        let signed = sign(&format, &secret, message);
        // The other secret is a key to those schemes whose keys are any text.
        let any_text = check_secret(scheme, &secrets[0]).is_ok();
        assert!(any_text || check_secret(scheme, &secret).is_ok() || !verified, "no key, no signature");
        let Ok(signed) = signed else { continue };
        if check_secret(scheme, &secret).is_err() || !scheme.covers_body() {
            continue;
        }
        let with = |body: &[u8], now: i64| {
            let header =
                |wanted: &str| signed.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            verify(&format, &secrets, header, body, now).is_ok()
        };
        assert!(with(written.body, NOW) && with(written.body, NOW - TOLERANCE));
        assert!(scheme == Scheme::Body || !with(written.body, NOW + TOLERANCE + 1));
        assert!(!with(&[written.body, b"x"].concat(), NOW));
    }
    let text = String::from_utf8_lossy(written.body);
    if let Ok(tokens) = Tokens::new(Purpose::Callback, vec![secret]) {
        let minted = tokens.mint(&id);
        assert!(tokens.check(&id, &minted));
        assert_eq!(tokens.check(&id, &text), *text == minted);
    }
});
