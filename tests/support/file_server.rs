//! A file host that can be told to misbehave, one scripted answer a request, over real TCP.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    /// Headers by lower-case name.
    pub(crate) headers: HashMap<String, String>,
    /// How many requests came before it.
    pub(crate) number: usize,
}

impl Request {
    /// The start of the range that is asked for, and the validator that it depends on.
    pub(crate) fn range(&self) -> Option<(usize, &str)> {
        let start = self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
        Some((start, self.headers.get("if-range")?))
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By closing the connection.
    #[default]
    Close,
    /// By a TCP reset.
    Reset,
    /// Not at all: the connection stays open and silent.
    Silence,
}

/// A scripted answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    version: &'static str,
    sent: usize,
    ending: Ending,
    hold: Option<Arc<Semaphore>>,
    trickle: bool,
}

impl Reply {
    /// A whole answer with its length.
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let headers = vec![("Content-Length".to_owned(), body.len().to_string())];
        let sent = body.len();
        Self {
            status,
            headers,
            body,
            version: "HTTP/1.1",
            sent,
            ending: Ending::Close,
            hold: None,
            trickle: false,
        }
    }

    /// What an honest host says: 206 from the asked byte on if the validator fits, else 200 with everything.
    pub(crate) fn file(request: &Request, body: &Bytes, validators: &[(&str, &str)]) -> Self {
        let reply = match request.range() {
            Some((start, wanted))
                if start < body.len() && validators.iter().any(|(_, value)| *value == wanted) =>
            {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Self::new(206, body.slice(start..)).with("Content-Range", &range)
            }
            _ => Self::new(200, body.clone()),
        };
        validators.iter().fold(reply, |reply, (name, value)| reply.with(name, value))
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a header away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// An HTTP/1.0 answer that tells no length and ends by closing.
    pub(crate) fn unframed(mut self) -> Self {
        self.version = "HTTP/1.0";
        self.without("Content-Length")
    }

    /// A chunked answer; the closing chunk comes only if the whole body does.
    pub(crate) fn chunked(self) -> Self {
        self.without("Content-Length").with("Transfer-Encoding", "chunked")
    }

    /// Only so many bytes of the body, then the given ending.
    pub(crate) fn cut(mut self, sent: usize, ending: Ending) -> Self {
        (self.sent, self.ending) = (sent, ending);
        self
    }

    /// The body begins only when the test says so.
    pub(crate) fn held_by(mut self, hold: &Arc<Semaphore>) -> Self {
        self.hold = Some(Arc::clone(hold));
        self
    }

    /// The body comes byte by byte.
    pub(crate) fn trickling(mut self) -> Self {
        self.trickle = true;
        self
    }

    async fn send(self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("{} {} Scripted\r\nConnection: close\r\n", self.version, self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let chunked = head.contains("Transfer-Encoding: chunked");
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        if let Some(hold) = &self.hold {
            hold.acquire().await.expect("a test never closes the semaphore").forget();
        }
        let body = self.body.slice(..self.sent);
        if chunked {
            stream.write_all(format!("{:x}\r\n", self.body.len()).as_bytes()).await?;
        }
        if self.trickle {
            for byte in &body {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        } else {
            stream.write_all(&body).await?;
        }
        if chunked && self.sent == self.body.len() {
            stream.write_all(b"\r\n0\r\n\r\n").await?;
        }
        stream.flush().await?;
        match self.ending {
            Ending::Close => stream.shutdown().await,
            // Takes effect when the stream is dropped. Bytes that were not read yet are lost with it.
            Ending::Reset => stream.set_zero_linger(),
            Ending::Silence => std::future::pending().await,
        }
    }
}

/// The running host. It stops with the test's runtime.
pub(crate) struct FileServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FileServer {
    /// Starts a host on a free port of the loopback interface.
    pub(crate) async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (log, script) = (Arc::clone(&requests), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                tokio::spawn(serve(stream, log, script));
            }
        });
        Self { address, requests }
    }

    /// The URL of a path on this host.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The start of the range that each request asked for.
    pub(crate) fn ranges(&self) -> Vec<Option<usize>> {
        self.requests().iter().map(|request| request.range().map(|(start, _)| start)).collect()
    }
}

async fn serve(
    stream: TcpStream,
    log: Arc<Mutex<Vec<Request>>>,
    script: Arc<impl Fn(&Request) -> Reply + Send + Sync + 'static>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let request = {
        let mut log = log.lock().unwrap();
        let request = Request { path, headers, number: log.len() };
        log.push(request.clone());
        request
    };
    script(&request).send(stream.get_mut()).await.ok()
}
