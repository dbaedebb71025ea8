//! `reelhook verify`: holds a signature against a body, offline, and says which part does not match.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use reelhook::provider::signing::SigningKey;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    exit::{Exit, Failure},
    output::Output,
    time,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The body, byte for byte as it came; without it, or as `-`, standard input
    #[arg(value_name = "FILE")]
    body: Option<PathBuf>,
    /// What the receiver verifies with: `whsec_` and base64, or plain text. Several: one of them must fit
    #[arg(long, value_name = "SECRET", required_unless_present = "secret_file")]
    secret: Vec<SecretString>,
    /// A file with such secrets, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    secret_file: Option<PathBuf>,
    /// The header `webhook-id`
    #[arg(long)]
    id: String,
    /// The header `webhook-timestamp`, in Unix seconds
    #[arg(long, allow_negative_numbers = true)]
    timestamp: i64,
    /// The header `webhook-signature`, whole
    #[arg(long)]
    signature: String,
    /// How far the timestamp may be from now; 0s: any
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = time::span)]
    tolerance: Duration,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let secrets = match &args.secret_file {
        Some(file) => read_secrets(file)?,
        None => args.secret.clone(),
    };
    let keys = secrets.iter().enumerate().map(|(index, secret)| {
        let unusable = |error| Failure::usage(format!("secret {} cannot be used: it {error}", index + 1));
        SigningKey::read(secret).map_err(unusable)
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let received = Received { body: read_body(args.body.as_deref())?, args: &args };
    let (signature, age) = (received.compare(&secrets, &keys), Age::of(args.timestamp, args.tolerance));
    show(&signature, &age, output)?;
    let wrong: Vec<String> = [signature.wrong(), age.wrong()].into_iter().flatten().collect();
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failure, wrong.join("; "))) }
}

/// What came.
struct Received<'a> {
    body: Vec<u8>,
    args: &'a Args,
}

/// What the comparison found; secrets count from 1.
enum Signature {
    Right {
        secret: usize,
        form: String,
    },
    /// The header has none of the kind that a shared secret makes.
    Missing,
    /// Signed with the text itself where its base64 was meant.
    Undecoded {
        secret: usize,
    },
    /// Right for another ending of the body.
    LineBreak {
        added: bool,
    },
    Wrong,
}

impl Received<'_> {
    fn compare(&self, secrets: &[SecretString], keys: &[SigningKey]) -> Signature {
        if !self.args.signature.split_whitespace().any(|signature| signature.starts_with("v1,")) {
            return Signature::Missing;
        }
        if let Some(index) = keys.iter().position(|key| self.fits(key, &self.body)) {
            return Signature::Right { secret: index + 1, form: keys[index].form().to_string() };
        }
        let undecoded = |secret| self.fits(&SigningKey::undecoded(secret), &self.body);
        if let Some(index) = secrets.iter().position(undecoded) {
            return Signature::Undecoded { secret: index + 1 };
        }
        let shorter = self.body.strip_suffix(b"\n").map(|body| body.strip_suffix(b"\r").unwrap_or(body));
        if shorter.is_some_and(|body| keys.iter().any(|key| self.fits(key, body))) {
            return Signature::LineBreak { added: true };
        }
        let longer = [&self.body, b"\n".as_slice()].concat();
        if keys.iter().any(|key| self.fits(key, &longer)) {
            return Signature::LineBreak { added: false };
        }
        Signature::Wrong
    }

    fn fits(&self, key: &SigningKey, body: &[u8]) -> bool {
        let Args { id, timestamp, signature, .. } = self.args;
        let timestamp = timestamp.to_string();
        signature.split_whitespace().any(|signature| key.fits(signature, id, &timestamp, body))
    }
}

impl Signature {
    fn wrong(&self) -> Option<String> {
        Some(match self {
            Self::Right { .. } => return None,
            Self::Missing => "the signature header holds no `v1,` signature, which is what a shared secret \
                              makes: give the header as a whole"
                .to_owned(),
            Self::Undecoded { secret } => format!(
                "the signature is of secret {secret} taken byte for byte, and the secret is base64: the sender \
                 has to decode it, or both sides a secret that is no base64"
            ),
            Self::LineBreak { added: true } => {
                "the signature is of the body without the line break at its end: \
                                                something added one, as an editor or `echo` does"
                    .to_owned()
            }
            Self::LineBreak { added: false } => "the signature is of the body with a line break at its end: \
                                                 something took it away, as `$(…)` in a shell does"
                .to_owned(),
            Self::Wrong => {
                "the signature does not match: the body is not byte for byte what was signed (parsed \
                            and written anew it is another), or the id or the timestamp is another's, or the \
                            secret is; which of these, a signature cannot tell"
                    .to_owned()
            }
        })
    }
}

/// How old a signature is, in seconds; negative: from the future.
struct Age {
    seconds: i64,
    tolerance: u64,
}

impl Age {
    fn of(timestamp: i64, tolerance: Duration) -> Self {
        let seconds = Timestamp::now().as_second().saturating_sub(timestamp);
        Self { seconds, tolerance: tolerance.as_secs() }
    }

    fn is_right(&self) -> bool {
        self.tolerance == 0 || self.seconds.unsigned_abs() <= self.tolerance
    }

    fn text(&self) -> String {
        let seconds = self.seconds.unsigned_abs();
        if self.seconds < 0 { format!("{seconds} s ahead of now") } else { format!("{seconds} s old") }
    }

    fn wrong(&self) -> Option<String> {
        let tolerance = self.tolerance;
        let message = format!(
            "the timestamp is {} and {tolerance} s are tolerated: it was sent again by somebody, or a clock is wrong",
            self.text()
        );
        (!self.is_right()).then_some(message)
    }
}

fn show(signature: &Signature, age: &Age, output: &Output) -> Result<(), Failure> {
    let matched = match signature {
        Signature::Right { secret, form } => json!({ "ok": true, "secret": secret, "read_as": form }),
        wrong => json!({ "ok": false, "reason": wrong.wrong() }),
    };
    if output.is_json() {
        let timestamp: Value = json!({
            "ok": age.is_right(), "age_seconds": age.seconds, "tolerance_seconds": age.tolerance,
        });
        let ok = signature.wrong().is_none() && age.is_right();
        return output.document(&json!({ "ok": ok, "signature": matched, "timestamp": timestamp }));
    }
    match signature {
        Signature::Right { secret, form } => {
            output.line(&format!("signature: right, by secret {secret} (read as {form})"))?;
        }
        _ => output.line("signature: wrong")?,
    }
    let judged = if age.is_right() { "right" } else { "wrong" };
    output.line(&format!("timestamp: {judged}, {}", age.text()))
}

fn read_body(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let from_stdin = || {
        let mut body = Vec::new();
        io::stdin().lock().read_to_end(&mut body).map(|_| body)
    };
    match file {
        Some(file) if file != Path::new("-") => std::fs::read(file)
            .map_err(|error| Failure::usage(format!("the body {} cannot be read: {error}", file.display()))),
        _ => from_stdin().map_err(|error| Failure::usage(format!("standard input cannot be read: {error}"))),
    }
}

fn read_secrets(file: &Path) -> Result<Vec<SecretString>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("the secrets of {} cannot be read: {error}", file.display()))
    })?;
    let secrets: Vec<SecretString> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect();
    if secrets.is_empty() {
        return Err(Failure::usage(format!("{} holds no secret", file.display())));
    }
    Ok(secrets)
}
