//! Ports for servers that a test starts.

use std::{
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A port that was free a moment ago, that nobody got here before, and that is none of those that connections get by
/// themselves: its server may take long to listen on it.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(uuid::Uuid::now_v7().as_u128() as u32));
    loop {
        let port = 10_000 + (NEXT.fetch_add(1, Ordering::Relaxed) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
