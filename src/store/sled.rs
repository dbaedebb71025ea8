//! One process, one folder: the embedded store.
