//! The shared store on a real PostgreSQL: the list, and what only it promises.

mod faults;
mod instances;
mod life;
mod pooled;
mod restored;
mod tls;
mod together;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use reelhook::{
    clock::Clock,
    config::Database,
    store::{Store, postgres::PostgresStore},
};
use tokio::sync::Mutex;

use crate::{conformance::conformance, server::Server, support::*};

/// A server for the tests that only need a database of it; it ends with the last of them.
fn shared() -> Arc<Server> {
    static SERVER: OnceLock<std::sync::Mutex<Weak<Server>>> = OnceLock::new();
    let mut server = SERVER.get_or_init(std::sync::Mutex::default).lock().unwrap();
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Server::start());
        *server = Arc::downgrade(&started);
        started
    })
}

/// A database of its own.
struct Base {
    server: Arc<Server>,
    database: Database,
}

impl Base {
    fn new() -> Self {
        let server = shared();
        let database = server.database();
        Self { server, database }
    }

    async fn open_paced(&self, every: Duration) -> PostgresStore {
        PostgresStore::open(&self.database, Clock::manual(NOW.0), every).await.unwrap()
    }

    async fn instance(&self) -> Arc<PostgresStore> {
        Arc::new(self.open_paced(Duration::ZERO).await)
    }
}

#[async_trait]
impl Place for Base {
    async fn open(&self) -> Arc<dyn Store> {
        self.instance().await
    }

    /// Whoever opens it numbers what others wrote when these do not: what is said here waits for them.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let _closed_already = store.bounds().await;
        store.close().await;
        self.open().await
    }
}

conformance!(Base::new());

/// Tests that crash or freeze their server take turns: each has one of its own, and they are slow together.
static ALONE: Mutex<()> = Mutex::const_new(());
