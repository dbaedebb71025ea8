//! HTTP/1.1 on a listener, for callers who may be slow, silent or hostile: nobody holds a connection for ever.
//!
//! actix bounds the time of the first request's head and of an idle connection. It bounds neither the head of a later
//! request, nor what is left of a chunked body that nobody reads, nor an answer that the caller does not take. One
//! rule below it does for all three, see [`Patient`].

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
    thread::available_parallelism,
    time::Duration,
};

use actix_http::{HttpService, Request};
use actix_service::{IntoServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{AppConfig, Response, Server, Service, ServiceFactory},
    error::DispatchError,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::either::Either;

use super::tls::Acceptor;

/// The head of a connection's first request must be complete within this.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// An idle connection is kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Connections that a listener holds at a time; what comes beyond waits in the kernel's queue until one ends. A silent one
/// costs 13 KiB, so strangers can fill 208 MiB by both listeners, and a server that is given 512 MiB lives on. By the
/// deadlines above it takes 1,600 new connections a second to keep one full: a proxy in front bounds those of an address.
pub(super) const MAX_CONNECTIONS: usize = 8_192;
/// Callers who may wait to be let in; the kernel allows `net.core.somaxconn` at most. Those beyond the standard library's 128
/// are not refused but dropped, and TCP tries again a second later: a burst of callbacks would be late for nothing.
const BACKLOG: i32 = 4_096;
/// actix has no more workers.
const MAX_WORKERS: usize = 512;

/// Listens on an address.
///
/// # Errors
/// It is no address of this machine, is taken, or may not be used.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Serves the applications that `app` makes, one a worker, until the server is stopped; that takes `grace` at most.
/// `connections` are held at a time, rounded up to as many a worker.
/// `silence` bounds what a [`Patient`] connection bears, once hands are shaken where there is TLS; the handshake has a
/// deadline of its own, and counts as a connection from its first byte. Signals are the caller's affair: there are two
/// servers.
///
/// # Errors
/// The listener cannot be used.
pub(super) fn serve<F, I, S, B>(
    listener: TcpListener,
    grace: Duration,
    silence: Duration,
    connections: usize,
    tls: Option<Acceptor>,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let workers = workers();
    let builder = Server::build()
        .disable_signals()
        .shutdown_timeout(grace.as_secs())
        .workers(workers)
        .max_concurrent_connections(connections.div_ceil(workers));
    let stopping = builder.graceful_shutdown_signal();
    let builder = builder.listen("http", listener, move || {
        let (stopping, tls) = (stopping.clone(), tls.clone());
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(HEAD_DEADLINE)
            .keep_alive(KEEP_ALIVE)
            .h1(map_config(app, |()| AppConfig::default()));
        let accept = fn_service(move |socket: TcpStream| {
            let tls = tls.clone();
            async move {
                let peer = socket.peer_addr().ok();
                let io = match tls {
                    None => Either::Left(socket),
                    Some(tls) => Either::Right(tls.accept(socket).await.map_err(DispatchError::Io)?),
                };
                Ok::<_, DispatchError>((Patient::new(io, silence), peer))
            }
        });
        accept.and_then(http)
    })?;
    Ok(builder.run())
}

fn workers() -> usize {
    available_parallelism().map_or(2, NonZeroUsize::get).min(MAX_WORKERS)
}

/// A connection that ends when nothing could be written to it for too long, counted from the first byte that came after
/// the last write: a request that is never complete, a body that never ends, or an answer that is not taken. How much
/// the caller sends meanwhile does not matter.
struct Patient<Io> {
    io: Io,
    silence: Duration,
    /// When the caller's turn, or ours, began.
    since: Instant,
    /// Something was read since the last write.
    asked: bool,
    alarm: Pin<Box<Sleep>>,
}

impl<Io> Patient<Io> {
    fn new(io: Io, silence: Duration) -> Self {
        let since = Instant::now();
        Self { io, silence, since, asked: false, alarm: Box::pin(sleep_until(since + silence)) }
    }

    /// To be asked wherever the connection has to wait. The alarm is set anew only when it rings, not at each write.
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let end = self.since + self.silence;
            if end <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(end);
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Patient<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if buffer.filled().len() > before && !self.asked {
                    (self.asked, self.since) = (true, Instant::now());
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_alarm(context).map(Err),
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Patient<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(context, bytes) {
            Poll::Ready(written) => {
                (self.asked, self.since) = (false, Instant::now());
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_alarm(context).map(Err),
        }
    }

    /// Under TLS what was written may wait here.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_flush(context) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.poll_alarm(context).map(Err),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_shutdown(context) {
            Poll::Ready(shut) => Poll::Ready(shut),
            Poll::Pending => self.poll_alarm(context).map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, web};
    use futures_util::future::try_join_all;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::timeout,
    };

    use super::*;

    const SILENCE: Duration = Duration::from_millis(200);

    /// Trickles into the other end for as long as there is somebody.
    async fn trickle(mut caller: impl AsyncWrite + Unpin) {
        while caller.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_until_another_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, most) = (listener.local_addr().unwrap(), workers());
        let app = || App::new().default_service(web::to(HttpResponse::Ok));
        let patience = Duration::from_secs(60);
        let server = serve(listener, Duration::ZERO, patience, most, None, app).unwrap();
        let handle = server.handle();
        let running = tokio::spawn(server);
        let ask = async || {
            let mut caller = TcpStream::connect(address).await.unwrap();
            caller.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            caller
        };
        let mut answer = [0; 12];
        let mut held = Vec::new();
        for _ in 0..most {
            let mut caller = ask().await;
            caller.read_exact(&mut answer).await.unwrap();
            held.push(caller);
        }
        let mut late = ask().await;
        assert!(timeout(SILENCE, late.read_exact(&mut answer)).await.is_err(), "there is no room for it");
        drop(held.pop());
        late.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        handle.stop(false).await;
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_burst_of_callers_waits_to_be_let_in_and_none_is_dropped() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let burst = (0..500).map(|_| TcpStream::connect(address));
        let callers = timeout(Duration::from_secs(20), try_join_all(burst)).await;
        assert_eq!(callers.expect("nobody has to try again").unwrap().len(), 500);
    }

    #[tokio::test]
    async fn a_caller_who_sends_on_and_on_without_a_word_of_ours_is_left() {
        let (caller, ours) = duplex(64);
        tokio::spawn(trickle(caller));
        let mut ours = Patient::new(ours, SILENCE);
        let mut buffer = [0; 16];
        let error = loop {
            if let Err(error) = ours.read(&mut buffer).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_caller_who_takes_nothing_is_left() {
        let (_caller, ours) = duplex(64);
        let error = Patient::new(ours, SILENCE).write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_conversation_lasts_as_long_as_it_goes_to_and_fro() {
        let (mut caller, ours) = duplex(64);
        let mut ours = Patient::new(ours, SILENCE);
        let end = Instant::now() + 3 * SILENCE;
        let mut byte = [0];
        while Instant::now() < end {
            caller.write_all(b"?").await.unwrap();
            ours.read_exact(&mut byte).await.unwrap();
            ours.write_all(b"!").await.unwrap();
            caller.read_exact(&mut byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}
