//! The schemes of other senders: a vector each, and everything that must fail.

use reelhook::provider::signature::{Forged, Format, Message, Scheme, check_secret, sign, verify};
use secrecy::SecretString;

const NOW: i64 = 1_700_000_000;
const BODY: &[u8] = br#"{"code":200,"msg":"success","data":{"task_id":"task_12345678","state":"success"}}"#;
const FAL_BODY: &[u8] = br#"{"request_id":"123e4567-e89b-12d3-a456-426614174000","status":"OK","payload":{"video":{"url":"https://example.com/a.mp4"}}}"#;
const FAL_KEY: &str = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";
/// The seed 00, 01, … 1f.
const FAL_PRIVATE: &str = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const FAL_ID: &str = "123e4567-e89b-12d3-a456-426614174000";
const KIE: &str = "1/G+YHLWl809YU+3jDOC1oKvMG0MOFa/TscHBykAs6c=";
const TIMED: &str = "04508237be75ee0ad0f74d8fcfbd64b4c0a9c6a7c1db2917029169245bf6ac0f";
const BARE: &str = "0bbdb149f29e32b4c66fade2badf787d3893685f9aa7e498f05f9f1f8075f0b9";
const FAL: &str = "685b46313927ae7291ffd01ef4d673352159fa0f2d8b5cd369a89f7f1117c9e4f69bdf947b79cbc06886e50a6641f1f8d0969a5aeefb635e7d639bb7bfdc8707";

/// A callback as it arrives; each test changes one thing.
#[derive(Clone, Debug)]
struct Sent {
    format: Format,
    secrets: Vec<&'static str>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    now: i64,
}

fn sent(format: Format, secret: &'static str, headers: &[(&'static str, &str)]) -> Sent {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let body = if format.scheme == Scheme::Fal { FAL_BODY } else { BODY };
    Sent { format, secrets: vec![secret], headers, body: body.to_vec(), now: NOW }
}

fn named(scheme: Scheme, header: &str) -> Format {
    Format { header: Some(header.to_owned()), ..scheme.into() }
}

/// One of each scheme that signs, with its published vector.
fn vectors() -> Vec<Sent> {
    let time = ("x-webhook-timestamp", "1700000000");
    let prefixed = format!("sha256={TIMED}");
    let stripe = format!("t=1700000000,v1={TIMED}");
    vec![
        sent(Scheme::Kie.into(), "test-webhook-hmac-key", &[time, ("x-webhook-signature", KIE)]),
        sent(Scheme::TimestampedBody.into(), "webhook_secret", &[time, ("x-webhook-signature", &prefixed)]),
        sent(Scheme::Stripe.into(), "webhook_secret", &[("stripe-signature", &stripe)]),
        sent(named(Scheme::Body, "x-hub-signature-256"), "webhook_secret", &[("x-hub-signature-256", BARE)]),
        sent(named(Scheme::SharedSecret, "x-secret"), "webhook_secret", &[("x-secret", "webhook_secret")]),
        sent(
            Scheme::Fal.into(),
            FAL_KEY,
            &[
                ("x-fal-webhook-request-id", FAL_ID),
                ("x-fal-webhook-user-id", "user_1"),
                ("x-fal-webhook-timestamp", "1700000000"),
                ("x-fal-webhook-signature", FAL),
            ],
        ),
    ]
}

impl Sent {
    fn verify(&self) -> Result<(), Forged> {
        let secrets: Vec<SecretString> = self.secrets.iter().map(|secret| (*secret).into()).collect();
        let header = |wanted: &str| {
            self.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone())
        };
        let verified = verify(&self.format, &secrets, header, &self.body, self.now)?;
        assert_eq!(verified.body(), self.body);
        assert_eq!(verified.covers_body(), self.format.scheme.covers_body());
        Ok(())
    }

    fn signature(&mut self) -> &mut String {
        let name = self.format.signature_header().unwrap().to_owned();
        let (_, value) = self.headers.iter_mut().find(|(header, _)| *header == name).unwrap();
        value
    }

    fn with_signature(mut self, signature: impl Into<String>) -> Self {
        *self.signature() = signature.into();
        self
    }

    fn is_timed(&self) -> bool {
        !matches!(self.format.scheme, Scheme::Body | Scheme::SharedSecret)
    }
}

#[test]
fn the_vector_of_every_scheme_verifies() {
    for sent in vectors() {
        assert_eq!(sent.verify(), Ok(()), "{sent:?}");
    }
}

#[test]
fn a_sender_of_every_scheme_makes_the_vector() {
    for mut sent in vectors() {
        let secret = if sent.format.scheme == Scheme::Fal { FAL_PRIVATE } else { sent.secrets[0] };
        let message = Message { id: FAL_ID, timestamp: NOW, body: &sent.body };
        let signed = sign(&sent.format, &secret.into(), message).unwrap();
        let (_, signature) = signed.last().unwrap();
        assert_eq!(signature.trim_start_matches("sha256="), sent.signature().trim_start_matches("sha256="));
        for (name, value) in &mut sent.headers {
            value.clone_from(&signed.iter().find(|(header, _)| header == name).unwrap().1);
        }
        assert_eq!(sent.verify(), Ok(()), "{sent:?}");
    }
}

#[test]
fn only_a_signature_of_the_body_proves_it() {
    let proven: Vec<String> = Scheme::ALL
        .into_iter()
        .filter(|scheme| scheme.covers_body())
        .map(|scheme| scheme.to_string())
        .collect();
    assert_eq!(proven, ["standard-webhooks", "timestamped-body", "stripe", "body", "fal"]);
}

#[test]
fn a_missing_or_empty_header_fails() {
    for sent in vectors() {
        for index in 0..sent.headers.len() {
            let (mut missing, mut empty) = (sent.clone(), sent.clone());
            let (name, _) = missing.headers.remove(index);
            empty.headers[index].1.clear();
            for sent in [missing, empty] {
                assert_eq!(sent.verify(), Err(Forged::MissingHeader(name.to_owned())), "{sent:?}");
            }
        }
    }
    let nameless = Sent { format: Scheme::Body.into(), ..vectors().remove(3) };
    assert_eq!(nameless.verify(), Err(Forged::NoHeader));
}

#[test]
fn one_changed_byte_of_a_covered_body_fails() {
    for sent in vectors().into_iter().filter(|sent| sent.format.scheme.covers_body()) {
        for index in 0..sent.body.len() {
            let mut changed = sent.clone();
            changed.body[index] ^= 1;
            assert_eq!(changed.verify(), Err(Forged::NoMatch), "{:?} byte {index}", sent.format.scheme);
        }
        let longer = Sent { body: [&sent.body, b"\n".as_slice()].concat(), ..sent };
        assert_eq!(longer.verify(), Err(Forged::NoMatch));
    }
}

#[test]
fn the_task_that_kie_signs_is_the_one_that_the_body_names() {
    let kie = vectors().remove(0);
    let with = |body: &[u8]| Sent { body: body.to_vec(), ..kie.clone() }.verify();
    assert_eq!(
        with(br#"{"data":{"taskId":"task_12345678","state":"anything"}}"#),
        Ok(()),
        "the rest is not covered"
    );
    assert_eq!(with(br#"{"data":{"task_id":"task_12345679"}}"#), Err(Forged::NoMatch));
    assert_eq!(with(br#"{"data":{}}"#), Err(Forged::NoTask));
    assert_eq!(with(b"nonsense"), Err(Forged::NoTask));
}

#[test]
fn a_broken_signature_fails() {
    for sent in vectors() {
        let whole = sent.clone().signature().clone();
        let shorter = &whole[..whole.len() - 2];
        let text = sent.format.scheme != Scheme::SharedSecret;
        let longer = format!("{whole}00");
        for signature in ["v1,", " ", "v1=", "sha256=", "0", "v2=00", "t=1700000000", shorter, &longer] {
            let verdict = sent.clone().with_signature(signature).verify();
            assert!(verdict.is_err(), "{:?} {signature:?}", sent.format.scheme);
            if text && signature == shorter {
                assert_eq!(verdict, Err(Forged::NoMatch), "{:?}", sent.format.scheme);
            }
        }
    }
}

#[test]
fn a_time_that_is_unreadable_or_far_away_fails_where_there_is_one() {
    for sent in vectors() {
        for (away, verdict) in
            [(300, Ok(())), (-300, Ok(())), (301, Err(Forged::Stale)), (-301, Err(Forged::Stale))]
        {
            let wanted = if sent.is_timed() { verdict } else { Ok(()) };
            assert_eq!(
                Sent { now: NOW + away, ..sent.clone() }.verify(),
                wanted,
                "{:?} {away}",
                sent.format.scheme
            );
        }
        if sent.is_timed() {
            let mut hello = sent.clone();
            for (_, value) in &mut hello.headers {
                *value = value.replace("1700000000", "hello");
            }
            assert_eq!(hello.verify(), Err(Forged::BadTimestamp), "{:?}", sent.format.scheme);
            let mut later = sent.clone();
            for (_, value) in &mut later.headers {
                *value = value.replace("1700000000", "1700000001");
            }
            assert_eq!(later.verify(), Err(Forged::NoMatch), "{:?}: the time is signed", sent.format.scheme);
        }
    }
    let timeless = vectors().remove(2).with_signature(format!("v1={TIMED}"));
    assert_eq!(timeless.verify(), Err(Forged::BadTimestamp));
}

#[test]
fn a_secret_that_is_none_fails_and_any_of_several_may_match() {
    for sent in vectors() {
        let scheme = sent.format.scheme;
        for none in ["", "  "] {
            assert_eq!(
                Sent { secrets: vec![none], ..sent.clone() }.verify(),
                Err(Forged::NoSecret),
                "{scheme}"
            );
            assert!(check_secret(scheme, &none.into()).is_err(), "{scheme}");
        }
        assert_eq!(Sent { secrets: vec![], ..sent.clone() }.verify(), Err(Forged::NoSecret), "{scheme}");
        let other =
            if scheme == Scheme::Fal { "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4" } else { "another" };
        assert_eq!(Sent { secrets: vec![other], ..sent.clone() }.verify(), Err(Forged::NoMatch), "{scheme}");
        let rotating = Sent { secrets: vec![other, sent.secrets[0], "  "], ..sent.clone() };
        assert_eq!(rotating.verify(), Ok(()), "{scheme}");
        assert!(check_secret(scheme, &sent.secrets[0].into()).is_ok(), "{scheme}");
    }
    for short in ["whsec_", "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMb", "{}", "{\"keys\":[]}"] {
        assert!(check_secret(Scheme::Fal, &short.into()).is_err(), "{short}");
    }
}

#[test]
fn public_keys_come_alone_or_as_a_set() {
    let set = r#"{"keys":[{"kty":"RSA","n":"x","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4"},{"kty":"OKP","crv":"Ed25519","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}"#;
    assert_eq!(Sent { secrets: vec![set], ..vectors().remove(5) }.verify(), Ok(()));
}

#[test]
fn stripe_members_come_in_any_order_and_number() {
    let stripe = vectors().remove(2);
    let with = |header: String| stripe.clone().with_signature(header).verify();
    assert_eq!(with(format!("v1={BARE}, v0=00, v1={TIMED}, t=1700000000")), Ok(()));
    assert_eq!(with(format!("t=1700000000,v0={TIMED}")), Err(Forged::NoMatch));
}

#[test]
fn names_and_prefixes_are_the_provider_s() {
    let own = Format {
        header: Some("x-sig".to_owned()),
        timestamp_header: Some("x-when".to_owned()),
        prefix: Some("v0:".to_owned()),
        scheme: Scheme::TimestampedBody,
    };
    let right = format!("v0:{TIMED}");
    let with = |signature: &str| {
        sent(own.clone(), "webhook_secret", &[("x-when", "1700000000"), ("x-sig", signature)]).verify()
    };
    assert_eq!(with(&right), Ok(()));
    assert_eq!((with(TIMED), with(&format!("sha256={TIMED}"))), (Err(Forged::NoMatch), Err(Forged::NoMatch)));
    let bearer =
        Format { prefix: Some("Bearer ".to_owned()), ..named(Scheme::SharedSecret, "authorization") };
    let with = |value: &str| sent(bearer.clone(), "webhook_secret", &[("authorization", value)]).verify();
    assert_eq!((with("Bearer webhook_secret"), with("webhook_secret")), (Ok(()), Err(Forged::NoMatch)));
}
