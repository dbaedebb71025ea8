//! A folder with a configuration and a store, and the command in it.

use std::{fs, path::PathBuf};

use assert_cmd::Command;
use reelhook::{
    config,
    lifecycle::JobId,
    store::{Store, sled::SledStore},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{NOW, policy};

pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("reelhook.toml"), "[store]\nurl = \"sled:state\"\nmin_free = \"0\"\n")
            .unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `reelhook db …`.
    pub(crate) fn db(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.env_clear().current_dir(self.0.path()).arg("db").args(arguments);
        command
    }

    /// `reelhook serve` on ports of its own.
    pub(crate) fn serve(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.env_clear().current_dir(self.0.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--callback-listen", "127.0.0.1:0"]);
        command
    }

    pub(crate) fn open(&self) -> SledStore {
        let store = config::Store { path: self.path("state"), cache: 16 << 20, min_free: 0 };
        SledStore::open(&store, NOW, &policy()).unwrap()
    }

    /// Changes raw entries while nobody has the store open.
    pub(crate) fn tamper(&self, tamper: impl FnOnce(&sled::Tree)) {
        self.until_let_go();
        let db = sled::Config::new().path(self.path("state")).mode(sled::Mode::LowSpace).open().unwrap();
        tamper(&db);
        db.flush().unwrap();
        drop(db);
        self.until_let_go();
    }

    /// An engine that is dropped lets go of its files when the last of its threads is through with its write, and so late
    /// on a busy machine; so does a child that was forked meanwhile, until it is another program.
    fn until_let_go(&self) {
        // Where there is no store yet, nobody has it.
        if let Ok(log) = fs::File::open(self.path("state").join("db")) {
            log.lock().unwrap();
        }
    }

    /// What `db check --json` says.
    pub(crate) fn report(&self) -> Value {
        let run = self.db(&["check", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&run.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)));
        assert_eq!(run.status.code(), Some(i32::from(report["ok"] == false)), "{report}");
        report
    }

    /// What `db check` finds, as `key: what`.
    pub(crate) fn findings(&self) -> Vec<String> {
        let report = self.report();
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .map(|found| format!("{}: {}", found["key"].as_str().unwrap(), found["what"].as_str().unwrap()))
            .collect()
    }

    /// The names and bytes of all files of the store.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = fs::read_dir(self.path("state")).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = files
            .filter(|file| file.file_type().unwrap().is_file())
            .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
            .collect();
        files.sort();
        files
    }
}

/// Closes a store and lets go of its files.
pub(crate) async fn closed(store: SledStore) {
    store.close().await;
}

/// A key of the tree: a prefix and an id.
pub(crate) fn raw(prefix: u8, id: JobId) -> Vec<u8> {
    [&[prefix], id.as_bytes().as_slice()].concat()
}

/// Changes a bit in the middle of a value.
pub(crate) fn flip(tree: &sled::Tree, key: &[u8]) {
    let mut value = tree.get(key).unwrap().unwrap().to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 4;
    tree.insert(key, value).unwrap();
}

/// The first key under a prefix.
pub(crate) fn first(tree: &sled::Tree, prefix: u8) -> Vec<u8> {
    tree.scan_prefix([prefix]).keys().next().unwrap().unwrap().to_vec()
}
