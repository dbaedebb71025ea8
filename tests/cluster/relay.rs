//! A way over TCP that can be cut: to the database for one instance, or to whichever instance there is for callers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Nothing; connections are closed, and new ones too.
    Cut,
    /// Nothing, and nobody is told. What was sent arrives when it is open again.
    Silent,
    /// Requests; their answers arrive when it is open again.
    Mute,
}

impl Way {
    fn lets_requests(self) -> bool {
        matches!(self, Self::Open | Self::Mute)
    }

    fn lets_answers(self) -> bool {
        self == Self::Open
    }
}

/// Dropped, it lets nothing through any more.
pub(crate) struct Relay {
    pub(crate) port: u16,
    way: watch::Sender<Way>,
}

impl Relay {
    /// To one of these ports: the next in turn that takes the connection.
    pub(crate) async fn start(targets: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), way: watch::Sender::new(Way::Open) };
        let (way, targets, turn) = (relay.way.subscribe(), Arc::new(targets), AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (way, targets) = (way.clone(), Arc::clone(&targets));
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                // A connection that breaks is one that ends.
                tokio::spawn(async move { carry(near, &targets, turn, way).await.ok() });
            }
        });
        relay
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn carry(
    near: TcpStream,
    targets: &[u16],
    turn: usize,
    mut way: watch::Receiver<Way>,
) -> io::Result<()> {
    if *way.borrow() == Way::Cut {
        return Ok(());
    }
    let Some(far) = reach(targets, turn).await else { return Ok(()) };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        ended = pass(near_in, far_out, way.clone(), Way::lets_requests) => ended,
        ended = pass(far_in, near_out, way.clone(), Way::lets_answers) => ended,
        _ = way.wait_for(|way| *way == Way::Cut) => Ok(()),
    }
}

async fn reach(targets: &[u16], turn: usize) -> Option<TcpStream> {
    for nth in 0..targets.len() {
        let port = targets[(turn + nth) % targets.len()];
        if let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await {
            return Some(far);
        }
    }
    None
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    lets: fn(Way) -> bool,
) -> io::Result<()> {
    let mut bytes = vec![0; 65_536];
    loop {
        let length = from.read(&mut bytes).await?;
        if way.wait_for(|way| lets(*way)).await.is_err() || length == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..length]).await?;
    }
}
