//! TLS on a listener: certificates that can be replaced while it serves.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::{Config, Tls};

/// Who has not shaken hands within this is left, as one who says nothing.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{section}: {} cannot be used: {why}", path.display())]
    File {
        /// Whose it is: `[server]` or `[callback]`.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Both can be read and do not belong together, or are of a kind that is not supported.
    #[error("{section}: {} and {} cannot be used together: {why}", cert.display(), key.display())]
    Pair {
        /// Whose they are.
        section: &'static str,
        /// The certificates.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// The reason.
        why: String,
    },
}

/// The certificates of both listeners, as far as they have any.
#[derive(Debug, Default)]
pub struct Certificates {
    pub(super) api: Option<Arc<Pair>>,
    pub(super) callback: Option<Arc<Pair>>,
}

impl Certificates {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn open(config: &Config) -> Result<Self, TlsError> {
        let open = |section, files: &Option<Tls>| {
            files.clone().map(|files| Pair::open(section, files).map(Arc::new)).transpose()
        };
        Ok(Self {
            api: open("[server]", &config.server.tls)?,
            callback: open("[callback]", &config.callback.tls)?,
        })
    }

    /// Reads the files again. Connections that begin from now on get what they hold; a pair that cannot be used leaves
    /// the one before in force, which the log says, and does not keep the other listener's from being replaced.
    ///
    /// # Errors
    /// A certificate or key cannot be used; of two, the last.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut result = Ok(());
        for pair in [&self.api, &self.callback].into_iter().flatten() {
            match pair.reload() {
                Ok(()) => tracing::info!(cert = %pair.files.cert.display(), "the certificate was read again"),
                Err(error) => {
                    tracing::error!(%error, "the certificate cannot be replaced; the one before stays in force");
                    result = Err(error);
                }
            }
        }
        result
    }
}

/// A certificate with its chain and key, from two files.
pub(super) struct Pair {
    section: &'static str,
    files: Tls,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Pair {
    fn open(section: &'static str, files: Tls) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(read(section, &files)?));
        Ok(Self { section, files, current })
    }

    fn reload(&self) -> Result<(), TlsError> {
        let fresh = Arc::new(read(self.section, &self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Takes connections with this certificate: TLS 1.2 and 1.3, HTTP/1.1.
    pub(super) fn acceptor(self: &Arc<Self>) -> io::Result<Acceptor> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Acceptor(Arc::new(config).into()))
    }
}

impl ResolvesServerCert for Pair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("files", &self.files).finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(section: &'static str, files: &Tls) -> Result<CertifiedKey, TlsError> {
    let Tls { cert, key } = files;
    let unusable = |path: &Path, why: String| TlsError::File { section, path: path.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| unusable(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(cert, "it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    let why = match CertifiedKey::from_der(chain, private, &provider()) {
        Ok(pair) => return Ok(pair),
        Err(error) => error.to_string(),
    };
    Err(TlsError::Pair { section, cert: cert.clone(), key: key.clone(), why })
}

/// Shakes hands.
#[derive(Clone)]
pub(super) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(super) async fn accept(&self, socket: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        timeout(HANDSHAKE_DEADLINE, self.0.accept(socket)).await?.map(Box::new)
    }
}
