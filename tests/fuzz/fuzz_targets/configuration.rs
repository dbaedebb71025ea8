//! Any bytes as configuration file are refused with a sentence or understood; what is understood is shown as a file
//! that means the same.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use reelhook::config::{self, LoadOptions};
use tempfile::TempDir;

thread_local! {
    static DIR: TempDir = tempfile::tempdir().expect("a folder");
}

fuzz_target!(|input: &[u8]| {
    DIR.with(|dir| {
        let path = dir.path().join("reelhook.toml");
        let options = LoadOptions {
            path: Some(path.clone()),
            cwd: dir.path().to_owned(),
            system_file: dir.path().join("etc.toml"),
            ..LoadOptions::default()
        };
        fs::write(&path, input).expect("written");
        match config::load(&options) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(loaded) => {
                let shown = loaded.show(false);
                fs::write(&path, &shown).expect("written");
                let again = config::load(&options).unwrap_or_else(|error| panic!("{error}\n{shown}"));
                assert_eq!(again.show(false), shown);
            }
        }
    });
});
