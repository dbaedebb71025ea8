//! Everything in `deploy/` is judged by the tool that will read it, or by what the program itself knows. `tests/run`
//! installs the tools.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod deploy {
    mod commands;
    mod files;
    mod metrics;
    mod proxies;
    mod tools;
}
