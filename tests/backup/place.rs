//! A folder with a configuration, a store and its backup, and the command in it.

use std::{fs, path::PathBuf, process::Output, sync::Arc};

use assert_cmd::Command;
use reelhook::{
    config,
    lifecycle::JobId,
    store::{
        Store, StoreError,
        sled::{SledStore, backup::Target},
    },
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    running,
    support::{NOW, job, policy, put},
};

pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let config = "[store]\nurl = \"sled:state\"\nbackup = \"file:backup\"\nmin_free = \"0\"\n\n[storage]\nmin_free = \"0\"\n";
        fs::write(folder.path().join("reelhook.toml"), config).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn reelhook(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.env_clear().current_dir(self.0.path());
        command
    }

    /// `reelhook db …`, run.
    pub(crate) fn db(&self, arguments: &[&str]) -> Output {
        self.reelhook().arg("db").args(arguments).output().unwrap()
    }

    /// `reelhook serve` on ports of its own, where it refuses to start.
    pub(crate) fn refused(&self) -> String {
        let mut command = self.reelhook();
        let run = command.args(["serve", "--listen", "127.0.0.1:0", "--callback-listen", "127.0.0.1:0"]);
        let run = run.timeout(std::time::Duration::from_secs(60)).output().unwrap();
        assert_eq!(run.status.code(), Some(6), "{run:?}");
        String::from_utf8(run.stderr).unwrap()
    }

    /// What `db restore --json` says, with its exit code.
    pub(crate) fn restore(&self) -> (Value, Option<i32>) {
        let run = self.db(&["restore", "--json"]);
        let said = serde_json::from_slice(&run.stdout);
        (said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr))), run.status.code())
    }

    pub(crate) fn store(&self) -> config::Store {
        config::Store { path: self.path("state"), cache: 16 << 20, min_free: 0 }
    }

    pub(crate) fn open(&self) -> SledStore {
        let target = Target::folder(&self.path("backup")).unwrap();
        SledStore::open_with_backup(&self.store(), target, NOW, &policy()).unwrap()
    }

    /// Puts jobs of these numbers into the store, and closes it.
    pub(crate) async fn put(&self, numbers: impl IntoIterator<Item = u16>) {
        let store = self.open();
        for number in numbers {
            put(&store, job(number)).await;
        }
        // The end waits five seconds for the backup, and a first one has much to do.
        running::until(&store, |report| report.whole).await;
        store.close().await;
    }

    /// As after a kill: the next start does not know where the backup ends.
    pub(crate) fn forget(&self) {
        fs::remove_file(self.path("state/backed-up")).unwrap();
    }

    /// The disk is lost.
    pub(crate) fn lose(&self) {
        fs::remove_dir_all(self.path("state")).unwrap();
    }

    /// The jobs of a store that was restored, which has to be well.
    pub(crate) async fn jobs(&self) -> Vec<JobId> {
        let policy = policy();
        assert!(matches!(SledStore::open(&self.store(), NOW, &policy), Err(StoreError::Restored { .. })));
        reelhook::store::sled::restored(&self.store(), NOW, &policy).unwrap();
        let store = Arc::new(SledStore::open(&self.store(), NOW, &policy).unwrap());
        let page = store.list(Default::default(), None, 250).await.unwrap();
        store.close().await;
        let mut ids: Vec<_> = page.items.into_iter().map(|job| job.id).collect();
        ids.sort();
        ids
    }
}
