//! `reelhook db restore`: a new store of the continuous backup.

use reelhook::{
    config::{Backup, Config},
    lifecycle::Millis,
    server,
    store::sled::backup::{self, Missing, RestoreError, Restored},
};
use serde_json::{Value, json};

use super::{Exit, Failure, Output, place, store_failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup: `file:./folder`, `file:///folder` or `s3://bucket/prefix`; without it, what `[store] backup` names
    #[arg(long, value_name = "URL")]
    from: Option<String>,
}

impl Args {
    /// What it says in place of the configuration.
    pub(super) fn overrides(&self) -> Vec<(String, String)> {
        self.from.iter().map(|from| ("store.backup".to_owned(), from.clone())).collect()
    }
}

pub(super) fn run(config: &Config, output: &Output) -> Result<(), Failure> {
    let Some(backup) = &config.backup else {
        return Err(Failure::usage("name the backup: --from URL, or [store] backup".to_owned()));
    };
    let from = match backup {
        Backup::Folder(path) => path.display().to_string(),
        Backup::Bucket(bucket) => bucket.to_string(),
    };
    let target = server::backup_target(backup, false)
        .map_err(|error| Failure::new(Exit::NotFound, format!("{from}: {error}")))?;
    // The files are written where blocking is allowed.
    let restored = tokio::task::block_in_place(|| backup::restore(&config.store, &target, &from));
    let restored = restored.map_err(failure)?;
    if output.is_json() {
        output.document(&document(&restored, config))?;
    } else {
        tell(&restored, config, output)?;
    }
    verdict(&restored, config)
}

fn document(restored: &Restored, config: &Config) -> Value {
    let Restored { snapshot_at, groups, complete_to, missing, passed_over, jobs, report } = restored;
    let missing = missing.as_ref().map(|missing| {
        json!({ "why": missing.why, "newest_at": shown(missing.newest), "seconds": behind(restored, missing) })
    });
    json!({
        "store": place(config),
        "jobs": jobs,
        "snapshot_at": shown(*snapshot_at),
        "changes": groups,
        "complete_to": shown(*complete_to),
        "missing": missing,
        "passed_over": passed_over,
        "findings": report.as_ref().ok().map(|report| &report.findings),
    })
}

fn tell(restored: &Restored, config: &Config, output: &Output) -> Result<(), Failure> {
    let Restored { snapshot_at, groups, complete_to, passed_over, jobs, report, .. } = restored;
    for why in passed_over {
        output.note(&format!("a newer snapshot cannot be used: {why}"));
    }
    for found in report.iter().flat_map(|report| &report.findings) {
        output.note(&format!("{}: {}; {}", found.key, found.what, found.to_do));
    }
    output.line(&format!("restored {jobs} jobs into {}", place(config)))?;
    output
        .note(&format!("from the snapshot of {} and {groups} groups of changes since", shown(*snapshot_at)));
    output.note(&format!(
        "it is as the store was at {}: what was acknowledged later is not in it. Callbacks for such jobs are kept as \
         `unmatched` (`GET /v1/callbacks`), and the provider lists their tasks",
        shown(*complete_to)
    ));
    output.note(
        "start with `reelhook serve --restored`, once: what was queued or being sent then is held for you to decide",
    );
    Ok(())
}

/// A store that is there, and is not all that it could be, is a failure found.
fn verdict(restored: &Restored, config: &Config) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    if let Some(missing) = &restored.missing {
        wrong.push(format!(
            "the backup goes on to {}, {:.1} s later, and that cannot be restored: {}",
            shown(missing.newest),
            behind(restored, missing),
            missing.why
        ));
    }
    match &restored.report {
        Ok(report) if report.findings.is_empty() => {}
        Ok(report) => {
            let findings = report.findings.len() as u64 + report.more;
            wrong.push(format!("it breaks {findings} rules, see `reelhook db check`"));
        }
        Err(why) => wrong.push(format!("it could not be checked: {why}")),
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let detail = format!("the store at {} is restored, but {}", place(config), wrong.join("; and "));
    Err(Failure::new(Exit::Failure, detail))
}

/// Seconds from what was restored to the newest object that could not be.
fn behind(restored: &Restored, missing: &Missing) -> f64 {
    missing.newest.since(restored.complete_to).max(0) as f64 / 1e3
}

fn shown(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

fn failure(error: RestoreError) -> Failure {
    match error {
        RestoreError::Store(error) => store_failure(error),
        RestoreError::NoBackup(_) => Failure::new(Exit::NotFound, error.to_string()),
        other => Failure::new(Exit::Failure, other.to_string()),
    }
}
