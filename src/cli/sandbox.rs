//! `reelhook sandbox`: the stand-in provider alone.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use reelhook::{
    provider::signature::{self, Format, Message, Scheme},
    sandbox::{self, Options, Signing},
};
use serde_json::json;

use super::{
    exit::{Exit, Failure},
    output::Output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8486")]
    listen: SocketAddr,
    /// It works so many times faster than real time
    #[arg(long, default_value_t = 20.0)]
    speed: f64,
    /// Fixes task ids and file contents, which else are others each time
    #[arg(long)]
    seed: Option<u64>,
    /// Sign callbacks by this scheme, named as in `[callback] signature`
    #[arg(long, value_name = "SCHEME", requires = "signature_secret_file")]
    signature: Option<Scheme>,
    /// The file with the secret; for Ed25519 the private key, `whsk_` and the base64 of its seed
    #[arg(long, value_name = "FILE", requires = "signature")]
    signature_secret_file: Option<PathBuf>,
    /// The header of the signature, where the scheme has none of its own
    #[arg(long, value_name = "NAME", requires = "signature")]
    signature_header: Option<String>,
}

impl Args {
    /// How to sign, tried once: a secret that cannot sign is better found out now.
    fn signing(&self) -> Result<Option<Signing>, Failure> {
        let Some((scheme, file)) = self.signature.zip(self.signature_secret_file.as_ref()) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::usage(format!("the secret in {} cannot be read: {error}", file.display()))
        })?;
        let header = self.signature_header.as_ref().map(|name| name.to_ascii_lowercase());
        let signing = Signing { format: Format { header, ..scheme.into() }, secret: text.trim().into() };
        let sample = Message { id: "sample", timestamp: 0, body: b"{}" };
        signature::sign(&signing.format, &signing.secret, sample).map_err(|error| {
            Failure::usage(format!("callbacks cannot be signed by \"{scheme}\": the secret {error} by it"))
        })?;
        Ok(Some(signing))
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let signing = args.signing()?;
    let Args { listen, speed, seed, .. } = args;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Usage, format!("the sandbox cannot start on {listen} with speed {speed}: {error}"))
    };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    let options = match seed {
        Some(seed) => Options { speed, seed },
        None => Options::unlike_any(speed).map_err(failed)?,
    };
    let sandbox = sandbox::start(listener, options).await.map_err(failed)?;
    if let Some(signing) = signing {
        sandbox.sign_by(signing);
    }
    output.note("the sandbox provider takes any API key; use this address as [upstream] base_url:");
    if output.is_json() {
        output.record(&json!({ "url": sandbox.url() }))?;
    } else {
        output.line(sandbox.url().as_str())?;
    }
    let ended = tokio::signal::ctrl_c().await;
    sandbox.stop().await;
    ended.map_err(|error| Failure::new(Exit::Failure, format!("cannot wait for Ctrl-C: {error}")))
}
