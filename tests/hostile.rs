//! Callers who speak no HTTP, too much of it, or none at all, on both listeners over real sockets: what they are
//! answered, that no connection of theirs is held for ever, and that a good caller is served meanwhile.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod support;

#[path = "hostile/bytes.rs"]
mod bytes;
#[path = "hostile/patience.rs"]
mod patience;

use std::net::SocketAddr;

use reelhook::lifecycle::JobId;
use support::{PATIENCE, World};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A listener, and a route of it that reads a body.
#[derive(Clone, Debug)]
struct Door {
    address: SocketAddr,
    path: String,
}

/// A server in which nothing is sent, with both its doors.
struct House {
    world: World,
    job: String,
    doors: [Door; 2],
}

impl House {
    async fn new() -> Self {
        let world = World::idle(|config| config.api.max_wait = std::time::Duration::ZERO).await;
        let job = world.submit("a bell").await;
        let callback = world.server().app().callback_url(job.parse::<JobId>().unwrap()).unwrap();
        let api = Door { address: world.server().api(), path: "/v1/jobs/estimate".to_owned() };
        let callback = Door { address: world.server().callback(), path: callback.path().to_owned() };
        Self { world, job, doors: [api, callback] }
    }

    /// A good caller is served at both doors.
    async fn assert_serves(&self) {
        for url in [self.world.url("/livez"), self.world.callback_url("/cb/ping")] {
            let answer = support::client().get(&url).send().await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(answer.status(), 200, "{url}");
        }
    }

    /// How many callbacks the job has got.
    async fn received(&self) -> u64 {
        self.world.get(&format!("/v1/jobs/{}", self.job)).await["callback"]["received"].as_u64().unwrap()
    }
}

impl Door {
    async fn enter(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The head of a POST with a body that `framing` describes.
    fn post(&self, framing: &str) -> String {
        let path = &self.path;
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
        )
    }

    /// Says this, and hears everything until the server closes the connection.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> Answers {
        let mut socket = self.enter().await;
        // The server may have heard enough before all is said.
        _ = socket.write_all(bytes.as_ref()).await;
        hear(&mut socket).await
    }

    /// As [`say`](Self::say), and then nothing more: the half of the connection that speaks is closed.
    async fn say_all(&self, bytes: impl AsRef<[u8]>) -> Answers {
        let mut socket = self.enter().await;
        socket.write_all(bytes.as_ref()).await.unwrap();
        socket.shutdown().await.unwrap();
        hear(&mut socket).await
    }
}

/// Everything up to the end of the connection, which must come.
async fn hear(socket: &mut (impl AsyncRead + Unpin)) -> Answers {
    let mut heard = Vec::new();
    // A reset is an end as well: the server did not read everything.
    _ = timeout(PATIENCE, socket.read_to_end(&mut heard)).await.expect("the connection is held for ever");
    Answers(String::from_utf8_lossy(&heard).into_owned())
}

/// What came over a connection.
#[derive(Debug)]
struct Answers(String);

impl Answers {
    /// The status of each answer, in order.
    fn statuses(&self) -> Vec<u16> {
        let lines = self.0.match_indices("HTTP/1.1 ");
        lines.filter_map(|(at, word)| self.0[at + word.len()..].get(..3)?.parse().ok()).collect()
    }
}
