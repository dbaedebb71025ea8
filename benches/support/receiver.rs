//! Apps that are told: one that takes everything at once, one that never answers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Instant, SystemTime},
};

use super::load::is_complete;

/// A request that has come whole.
pub(crate) struct Heard {
    /// By the clock that also dates events.
    pub(crate) time: SystemTime,
    /// By one that never steps.
    pub(crate) at: Instant,
    /// Head and body.
    pub(crate) text: Vec<u8>,
}

/// Answers every request with 204, and tells of it.
pub(crate) fn healthy() -> anyhow::Result<(SocketAddr, Receiver<Heard>)> {
    let (tell, heard) = mpsc::channel();
    // Whoever is gone needs no answer, and nobody is told once the bench has ended.
    let address = listen(move |stream| drop(take(stream, &tell)))?;
    Ok((address, heard))
}

/// Takes connections and what comes over them, and says nothing.
pub(crate) fn hanging() -> anyhow::Result<SocketAddr> {
    listen(|mut stream| {
        let mut chunk = [0; 4096];
        while matches!(stream.read(&mut chunk), Ok(read) if read > 0) {}
    })
}

/// Each connection has a thread of its own: a sink has few.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn take(mut stream: TcpStream, tell: &Sender<Heard>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let (mut text, mut chunk) = (Vec::with_capacity(8192), [0; 8192]);
        while !is_complete(&text) {
            let read = stream.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            text.extend_from_slice(&chunk[..read]);
        }
        tell.send(Heard { time: SystemTime::now(), at: Instant::now(), text })?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}
