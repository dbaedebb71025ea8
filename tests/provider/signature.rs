//! Standard Webhooks: published vectors, everything that must fail, and another implementation as the judge.

use proptest::prelude::*;
use reelhook::provider::signature::{self, Forged, Message, Scheme, delivery_id, verify};
use secrecy::SecretString;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const NOW: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const V1: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const V1A: &str =
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

/// A callback as it arrives; each test changes one thing.
#[derive(Clone)]
struct Sent {
    prefix: &'static str,
    id: Option<&'static str>,
    timestamp: Option<String>,
    signature: Option<String>,
    body: Vec<u8>,
    secrets: Vec<&'static str>,
    now: i64,
}

fn sent() -> Sent {
    Sent {
        prefix: "webhook",
        id: Some(ID),
        timestamp: Some(NOW.to_string()),
        signature: Some(V1.into()),
        body: BODY.to_vec(),
        secrets: vec![SECRET],
        now: NOW,
    }
}

impl Sent {
    fn verify(&self) -> Result<(), Forged> {
        let header = |name: &str| match name.strip_prefix(self.prefix)? {
            "-id" => self.id.map(str::to_owned),
            "-timestamp" => self.timestamp.clone(),
            "-signature" => self.signature.clone(),
            _ => None,
        };
        let format = Scheme::StandardWebhooks.into();
        let verified = verify(&format, &keys(&self.secrets), header, &self.body, self.now)?;
        assert_eq!(verified.body(), self.body);
        assert!(verified.covers_body());
        Ok(())
    }

    fn signed(signature: &str) -> Self {
        Self { signature: Some(signature.into()), ..sent() }
    }
}

/// What a sender with this secret writes into `webhook-signature`.
fn sign(
    secret: &SecretString,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Result<String, signature::BadSecret> {
    let headers = signature::sign(&Scheme::StandardWebhooks.into(), secret, Message { id, timestamp, body })?;
    let (name, signature) = headers.into_iter().next_back().unwrap();
    assert_eq!(name, "webhook-signature");
    Ok(signature)
}

fn check_secret(secret: &SecretString) -> Result<(), signature::BadSecret> {
    signature::check_secret(Scheme::StandardWebhooks, secret)
}

fn keys(secrets: &[&str]) -> Vec<SecretString> {
    secrets.iter().map(|secret| SecretString::from(*secret)).collect()
}

#[test]
fn the_published_vectors_verify() {
    assert_eq!(sent().verify(), Ok(()));
    assert_eq!(Sent { secrets: vec![PUBLIC], ..Sent::signed(V1A) }.verify(), Ok(()));
    assert_eq!(sign(&SECRET.into(), ID, NOW, BODY).unwrap(), V1);
}

#[test]
fn the_older_header_names_verify_too() {
    assert_eq!(Sent { prefix: "svix", ..sent() }.verify(), Ok(()));
}

#[test]
fn any_of_several_secrets_and_signatures_may_match() {
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!(Sent { secrets: vec![other, PUBLIC, SECRET], ..sent() }.verify(), Ok(()));
    assert_eq!(Sent::signed(&format!("v1,AAAA {V1A} v2,xyz {V1}")).verify(), Ok(()));
    assert_eq!(Sent { secrets: vec![other], ..sent() }.verify(), Err(Forged::NoMatch));
    assert_eq!(Sent { secrets: vec!["not base64!", SECRET], ..sent() }.verify(), Ok(()));
}

#[test]
fn a_list_of_signatures_is_looked_at_no_further_than_a_sender_has_secrets() {
    let after = |others: usize| Sent::signed(&("v1,AAAA ".repeat(others) + V1)).verify();
    assert_eq!((after(15), after(16)), (Ok(()), Err(Forged::NoMatch)));
}

#[test]
fn under_a_signature_only_the_signed_id_tells_deliveries_apart() {
    let older = |name: &str| match name {
        "svix-id" => Some("signed".to_owned()),
        "svix-signature" => Some(V1.to_owned()),
        "webhook-id" | "x-webhook-id" => Some("anything".to_owned()),
        _ => None,
    };
    assert_eq!(delivery_id(Scheme::StandardWebhooks, older).as_deref(), Some("signed"));
    for scheme in
        Scheme::ALL.into_iter().filter(|scheme| !matches!(scheme, Scheme::None | Scheme::StandardWebhooks))
    {
        assert_eq!(delivery_id(scheme, older), None, "{scheme}: known by its body");
    }
}

#[test]
fn a_secret_without_its_prefix_is_the_same_secret() {
    assert_eq!(Sent { secrets: vec!["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], ..sent() }.verify(), Ok(()));
}

#[test]
fn a_missing_header_fails() {
    let missing = |name: &str| Err(Forged::MissingHeader(name.to_owned()));
    assert_eq!(Sent { id: None, ..sent() }.verify(), missing("webhook-id"));
    assert_eq!(Sent { id: Some(""), ..sent() }.verify(), missing("webhook-id"));
    assert_eq!(Sent { timestamp: None, ..sent() }.verify(), missing("webhook-timestamp"));
    assert_eq!(Sent { signature: None, ..sent() }.verify(), missing("webhook-signature"));
}

#[test]
fn a_broken_signature_fails() {
    let truncated = &V1[..V1.len() - 5];
    let unpadded = V1.trim_end_matches('=');
    let other_version = V1.replace("v1,", "v2,");
    let as_public = V1.replace("v1,", "v1a,");
    for signature in ["v1,", "v1", "v1a,", " ", truncated, unpadded, &other_version, &as_public, &V1[3..]] {
        assert_eq!(Sent::signed(signature).verify(), Err(Forged::NoMatch), "{signature:?}");
    }
    let public = Sent { secrets: vec![PUBLIC], ..sent() };
    for signature in [V1, "v1a,", &V1A[..V1A.len() - 8]] {
        let sent = Sent { signature: Some(signature.into()), ..public.clone() };
        assert_eq!(sent.verify(), Err(Forged::NoMatch), "{signature:?}");
    }
}

#[test]
fn a_time_that_is_unreadable_or_far_away_fails() {
    for timestamp in ["hello", "1614265330.5", "0x1", "99999999999999999999"] {
        let sent = Sent { timestamp: Some(timestamp.into()), ..sent() };
        assert_eq!(sent.verify(), Err(Forged::BadTimestamp), "{timestamp}");
    }
    for (away, verdict) in
        [(300, Ok(())), (-300, Ok(())), (301, Err(Forged::Stale)), (-301, Err(Forged::Stale))]
    {
        assert_eq!(Sent { now: NOW + away, ..sent() }.verify(), verdict, "{away} s away");
    }
    for now in [i64::MIN, i64::MAX] {
        assert_eq!(Sent { now, ..sent() }.verify(), Err(Forged::Stale));
    }
}

#[test]
fn a_secret_that_is_none_fails() {
    for secret in ["", "whsec_", "whpk_", "whsec_!!!", "whpk_AAAA"] {
        assert_eq!(Sent { secrets: vec![secret], ..sent() }.verify(), Err(Forged::NoSecret), "{secret:?}");
        assert!(check_secret(&secret.into()).is_err(), "{secret:?}");
        assert!(sign(&secret.into(), ID, NOW, BODY).is_err(), "{secret:?}");
    }
    assert_eq!(Sent { secrets: vec![], ..sent() }.verify(), Err(Forged::NoSecret));
    assert!(check_secret(&SECRET.into()).is_ok() && check_secret(&PUBLIC.into()).is_ok());
    assert!(sign(&PUBLIC.into(), ID, NOW, BODY).is_err(), "a public key signs nothing");
}

#[test]
fn one_changed_byte_anywhere_fails() {
    for secret_and_signature in [(SECRET, V1), (PUBLIC, V1A)] {
        let (secret, signature) = secret_and_signature;
        for index in 0..BODY.len() {
            let mut sent = Sent { secrets: vec![secret], ..Sent::signed(signature) };
            sent.body[index] ^= 1;
            assert_eq!(sent.verify(), Err(Forged::NoMatch), "byte {index}");
        }
    }
    assert_eq!(Sent { id: Some("msg_other"), ..sent() }.verify(), Err(Forged::NoMatch));
    assert_eq!(Sent { timestamp: Some((NOW + 1).to_string()), ..sent() }.verify(), Err(Forged::NoMatch));
}

#[test]
fn the_scheme_none_lets_every_body_pass_and_proves_nothing() {
    let verified = verify(&Scheme::None.into(), &[], |_| None, b"anything", NOW).unwrap();
    assert_eq!(verified.body(), b"anything");
    assert!(!verified.covers_body());
}

#[test]
fn schemes_are_known_by_the_names_of_the_configuration() {
    let names = "none standard-webhooks kie timestamped-body stripe body shared-secret fal";
    assert_eq!(Scheme::ALL.map(|scheme| scheme.to_string()).join(" "), names);
    for scheme in Scheme::ALL {
        let name = scheme.to_string();
        assert_eq!(name.parse(), Ok(scheme));
        assert_eq!(serde_json::to_value(scheme).unwrap(), name.as_str());
        assert_eq!(serde_json::from_value::<Scheme>(name.into()).unwrap(), scheme);
    }
    let error = "stripes".parse::<Scheme>().unwrap_err().to_string();
    assert!(error.contains("`stripes`") && error.contains("`standard-webhooks`"), "{error}");
}

#[test]
fn a_delivery_is_known_by_a_header_of_usable_length() {
    let with = |name: &'static str, value: &'static str| {
        move |asked: &str| (asked == name).then(|| value.to_owned())
    };
    assert_eq!(delivery_id(Scheme::None, with("webhook-id", "msg_1")).as_deref(), Some("msg_1"));
    assert_eq!(delivery_id(Scheme::None, with("x-webhook-id", "w-1")).as_deref(), Some("w-1"));
    assert_eq!(delivery_id(Scheme::None, |_| None), None);
    assert_eq!(delivery_id(Scheme::None, with("webhook-id", "")), None);
    assert_eq!(
        delivery_id(Scheme::None, |_| Some("i".repeat(129))),
        None,
        "a header of any length would be a key of any length"
    );
}

proptest! {
    #[test]
    fn another_implementation_signs_the_same(key in prop::collection::vec(any::<u8>(), 1..64), id in "[a-z_0-9]{1,30}", time in 0..i64::MAX, body in ".{0,200}") {
        let oracle = standardwebhooks::Webhook::from_bytes(key.clone()).unwrap();
        let theirs = oracle.sign(&id, time, body.as_bytes()).unwrap();
        let secret = SecretString::from(format!("whsec_{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &key)));
        prop_assert_eq!(&sign(&secret, &id, time, body.as_bytes()).unwrap(), &theirs);
        let header = |name: &str| match name {
            "webhook-id" => Some(id.clone()),
            "webhook-timestamp" => Some(time.to_string()),
            "webhook-signature" => Some(theirs.clone()),
            _ => None,
        };
        prop_assert!(verify(&Scheme::StandardWebhooks.into(), &[secret], header, body.as_bytes(), time).is_ok());
    }

    #[test]
    fn no_headers_make_the_verifier_panic(id in ".{0,20}", time in ".{0,20}", signature in ".{0,80}", secret in ".{0,40}", now in any::<i64>()) {
        let header = |name: &str| match name {
            "webhook-id" => Some(id.clone()),
            "webhook-timestamp" => Some(time.clone()),
            _ => Some(signature.clone()),
        };
        let verdict = verify(&Scheme::StandardWebhooks.into(), &[secret.into()], header, BODY, now);
        prop_assert!(verdict.is_err());
    }
}
