//! The downtime of a move from the embedded store to PostgreSQL: check, export, import and start, with jobs that have ended and
//! left their events and a callback each; and the import as a share of what `psql` takes to restore the same tables of a dump.
//! `cargo bench --bench way_over`; WAY_OVER_JOBS=10000 for fewer.

#[path = "../tests/support/postgres.rs"]
mod server;
mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use reelhook::config::Database;
use secrecy::ExposeSecret as _;
use server::Server;
use support::{preflight, seed, server::Site, setting};

fn main() -> anyhow::Result<()> {
    let jobs = setting("WAY_OVER_JOBS", 100_000)?;
    preflight((2 << 30) + jobs as u64 * 100_000)?;
    let site = Site::new("")?;
    seed::ended(&site, jobs)?;
    let report = |what: &str, took: Duration| {
        println!("{what:<34} {jobs:>9} jobs {:>7.1} s", took.as_secs_f64());
        took
    };
    report("db check, if wanted", site.command(&["db", "check"])?);
    let exported = report("db export --move", site.command(&["db", "export", "--move", "all.ndjson"])?);
    let size = fs::metadata(site.folder().join("all.ndjson"))?.len();
    let server = Server::start_with(&["shared_buffers = '512MB'", "max_wal_size = '4GB'"]);
    let database = server.database();
    site.moves_to(database.url.expose_secret())?;
    let imported = report("db import", site.command(&["db", "import", "all.ndjson"])?);
    let started = report("serve, to ready", site.start()?.ready_after);
    report("down: export, import and start", exported + imported + started);
    let restored = report("psql, the same tables of a dump", restored(&server, &database, &site)?);
    println!(
        "an export of {:.0} MB; db import / psql: {:.2}",
        support::megabytes(size),
        imported.as_secs_f64() / restored.as_secs_f64()
    );
    Ok(())
}

/// How long the database's own tool takes to restore what there is, in another database.
fn restored(server: &Server, database: &Database, site: &Site) -> anyhow::Result<Duration> {
    let dump = site.folder().join("dump.sql").display().to_string();
    server.tool("pg_dump", database, &["-f", &dump, "-d"]);
    let begun = Instant::now();
    server.tool("psql", &server.database(), &["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", &dump, "-d"]);
    Ok(begun.elapsed())
}
