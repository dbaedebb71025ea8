//! A handle on the TCP connection below a request, to break it in ways that HTTP cannot express.

use std::{any::Any, sync::Arc, time::Duration};

use actix_web::{HttpRequest, dev::Extensions, rt::net::TcpStream};
use socket2::{SockRef, Socket};

/// Shares the socket with the server that speaks HTTP on it.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Socket>);

impl Wire {
    /// For `HttpServer::on_connect`: keeps a handle on every connection.
    pub(super) fn keep(connection: &dyn Any, data: &mut Extensions) {
        let stream = connection.downcast_ref::<TcpStream>();
        match stream.map(|stream| SockRef::from(stream).try_clone()) {
            Some(Ok(socket)) => {
                data.insert(Self(Arc::new(socket)));
            }
            Some(Err(error)) => tracing::warn!(%error, "no handle on this connection; it cannot be reset"),
            None => {}
        }
    }

    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        request.conn_data::<Self>().cloned()
    }

    /// Makes the coming close a reset instead of an orderly end.
    pub(super) fn reset_on_close(&self) {
        if let Err(error) = self.0.set_linger(Some(Duration::ZERO)) {
            tracing::warn!(%error, "the connection will be closed, not reset");
        }
    }

    /// Ends the connection at once.
    pub(super) fn cut(&self) {
        if let Err(error) = self.0.shutdown(std::net::Shutdown::Both) {
            tracing::debug!(%error, "the connection was already gone");
        }
    }
}
