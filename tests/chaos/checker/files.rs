//! The archive's folder: what a record names is there, byte for byte what the provider serves, and nothing lies about.

use std::{collections::HashSet, fs, path::Path};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Found, Kind, Violation, World, text, violation};
use crate::site::{Site, files_below};

pub(super) fn check(site: &Site, world: &World, found: &mut Found) -> Vec<Violation> {
    // By this file the archive knows its volume.
    let (mut violations, mut named) = (Vec::new(), HashSet::from([site.videos().join(".reelhook/archive")]));
    for job in world.jobs.values() {
        let files = job["files"].as_array().unwrap();
        if job["status"] == "succeeded" && files.is_empty() {
            violations.push(violation(Kind::WrongFile, format!("{} succeeded without a file", job["id"])));
        }
        for file in files {
            let path = site.videos().join(text(file, "location"));
            found.files += 1;
            violations.extend(stored(site, job, file, &path));
            if !named.insert(path.clone()) {
                violations.push(violation(Kind::WrongFile, format!("{} is named twice", path.display())));
            }
        }
        if let (Some(first), "succeeded") = (files.first(), text(job, "status")) {
            let path = site.videos().join(text(first, "location")).with_extension("json");
            violations.extend(manifest(job, &path));
            named.insert(path);
        }
    }
    for path in files_below(&site.videos()).iter().filter(|path| !named.contains(*path)) {
        match unclaimed(site, world, path) {
            Ok(()) => found.unclaimed += 1,
            Err(why) => violations.push(violation(Kind::StrayFile, format!("{}: {why}", path.display()))),
        }
    }
    violations
}

fn stored(site: &Site, job: &Value, file: &Value, path: &Path) -> Option<Violation> {
    let here = fs::read(path).map(|bytes| hex::encode(Sha256::digest(bytes))).ok();
    let there = site.sandbox.sha256(text(job, "task_id"));
    let right = here.is_some() && here == there && here.as_deref() == file["sha256"].as_str();
    (!right).then(|| {
        let what =
            format!("{}: stored {here:?}, served {there:?}, recorded {}", path.display(), file["sha256"]);
        violation(Kind::WrongFile, what)
    })
}

/// It lies beside the files and lists them as the record does.
fn manifest(job: &Value, path: &Path) -> Option<Violation> {
    let manifest: Value =
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let hashes = |list: &Value| -> Vec<String> {
        list["files"].as_array().into_iter().flatten().map(|file| text(file, "sha256").to_owned()).collect()
    };
    let right = manifest["job_id"] == job["id"] && hashes(&manifest) == hashes(job);
    (!right).then(|| violation(Kind::WrongFile, format!("the manifest {} says {manifest}", path.display())))
}

/// A job that was canceled while its copy was under way may leave it behind: whole, and under its own name.
fn unclaimed(site: &Site, world: &World, path: &Path) -> Result<(), String> {
    let (stem, ending) = (path.file_stem().unwrap().to_str().unwrap(), path.extension().unwrap_or_default());
    let job = world.jobs.get(stem).ok_or("not a name of a job's file")?;
    if !matches!(text(job, "status"), "canceled" | "failed") {
        return Err(format!("its job is {}", job["status"]));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    match ending.to_str() {
        Some("json") => Ok(()),
        Some("mp4")
            if Some(hex::encode(Sha256::digest(bytes))) == site.sandbox.sha256(text(job, "task_id")) =>
        {
            Ok(())
        }
        _ => Err("not what the provider serves".to_owned()),
    }
}
