//! The app that is told: now well, now not, and it remembers every word.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderName};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::random::Random;

/// What the server signs with.
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Longer than the server waits for an answer.
const FOREVER: Duration = Duration::from_secs(5);

/// What was told under each event's id, time and again.
pub(crate) type Heard = BTreeMap<String, Vec<Vec<u8>>>;

/// How it takes one event.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    /// It answers 500.
    Broken,
    /// It has the event, and says nothing.
    Hanging,
    /// It has the event, and is gone before it says so.
    Dying,
    /// It does not even listen.
    Away,
}

impl Mood {
    fn next(random: &mut Random) -> Self {
        [Self::Well, Self::Well, Self::Broken, Self::Hanging, Self::Dying, Self::Away][random.below(6)]
    }
}

/// The running app. It ends with the process.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_cured: AtomicBool,
    heard: Mutex<Heard>,
    /// What was told with a signature that does not fit.
    forged: Mutex<Vec<String>>,
}

impl App {
    pub(crate) async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let (shared, mut random) = (Arc::clone(&app.shared), Random::new(seed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mood = match shared.is_cured.load(Ordering::Relaxed) {
                    true => Mood::Well,
                    false => Mood::next(&mut random),
                };
                let shared = Arc::clone(&shared);
                // A server that dies in mid-sentence has told nothing.
                tokio::spawn(async move { shared.take(stream, mood).await.ok() });
            }
        });
        app
    }

    /// From now on it takes everything at once.
    pub(crate) fn cure(&self) {
        self.shared.is_cured.store(true, Ordering::Relaxed);
    }

    pub(crate) fn heard(&self) -> Heard {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Has it remember otherwise.
    pub(crate) fn tamper(&self, with: impl FnOnce(&mut Heard)) {
        with(&mut self.shared.heard.lock().unwrap());
    }

    pub(crate) fn forged(&self) -> Vec<String> {
        self.shared.forged.lock().unwrap().clone()
    }
}

impl Shared {
    /// Takes one event; the connection ends with it.
    async fn take(&self, stream: TcpStream, mood: Mood) -> std::io::Result<()> {
        if matches!(mood, Mood::Away) {
            return Ok(());
        }
        let mut stream = BufReader::new(stream);
        let (mut head, mut body, mut line) = (HeaderMap::new(), Vec::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.trim_end().split_once(": ")
                && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse())
            {
                head.insert(name, value);
            }
        }
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        body.resize(text("content-length").parse().unwrap_or(0), 0);
        stream.read_exact(&mut body).await?;
        self.remember(text("webhook-id"), &head, body);
        let status = match mood {
            Mood::Well => "204 No Content",
            Mood::Broken => "500 Broken",
            Mood::Hanging => {
                sleep(FOREVER).await;
                return Ok(());
            }
            Mood::Dying | Mood::Away => return Ok(()),
        };
        stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    fn remember(&self, id: &str, head: &HeaderMap, body: Vec<u8>) {
        if let Err(error) = Webhook::new(SECRET).unwrap().verify(&body, head) {
            self.forged.lock().unwrap().push(format!("{id}: {error}"));
        }
        self.heard.lock().unwrap().entry(id.to_owned()).or_default().push(body);
    }
}
