//! A server that takes events, remembers them byte for byte, and answers as a test has it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// By which the connections can be told apart.
    pub(crate) peer: SocketAddr,
}

/// What is written back, and how it ends.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes, then the connection stays open for more.
    Bytes(Vec<u8>),
    /// These bytes, then these again and again for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes, then nothing for ever.
    Silence(Vec<u8>),
    /// The connection is closed at once.
    Close,
}

impl Reply {
    /// A whole answer; `head` is `200 OK` and, if wanted, more header lines.
    pub(crate) fn new(head: &str, body: &str) -> Self {
        let head = head.replace('\n', "\r\n");
        Self::Bytes(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into())
    }
}

/// The running server. It stops with the test's runtime.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::serve(0, reply, None).await
    }

    /// At this port, when the app comes up late.
    pub(crate) async fn at(port: u16, reply: Reply) -> Self {
        Self::serve(port, reply, None).await
    }

    /// With a certificate of its own that nobody vouches for.
    pub(crate) async fn self_signed(reply: Reply) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self::serve(0, reply, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(port: u16, reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let log = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (log, reply, tls) = (Arc::clone(&log), reply.clone(), tls.clone());
                // A connection that the other side gives up is no failure of the test.
                tokio::spawn(async move {
                    match tls {
                        None => converse(stream, peer, &log, reply).await,
                        Some(tls) => converse(tls.accept(stream).await?, peer, &log, reply).await,
                    }
                });
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks?k=v", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:#?}");
        received.into_iter().next().unwrap()
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    log: &Mutex<Vec<Received>>,
    reply: Reply,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8(head).unwrap();
        let (line, rest) = head.split_once("\r\n").unwrap();
        let headers = rest.lines().filter_map(|line| line.split_once(": "));
        let headers: HashMap<String, String> =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await?;
        log.lock().unwrap().push(Received { line: line.to_owned(), headers, body, peer });
        match &reply {
            Reply::Bytes(bytes) => stream.write_all(bytes).await?,
            Reply::Endless(first, more) => {
                stream.write_all(first).await?;
                loop {
                    stream.write_all(more).await?;
                }
            }
            Reply::Silence(bytes) => {
                stream.write_all(bytes).await?;
                std::future::pending::<()>().await;
            }
            Reply::Close => return Ok(()),
        }
    }
}
