//! What values must be to each other.

use super::{
    Backup, Config,
    check::Checker,
    value::{is_loopback, is_private},
};
use crate::provider::signature::Scheme;

/// Judges only relations whose values are each right by themselves.
pub(super) fn check(c: &mut Checker<'_>, config: &Config) {
    listeners(c, config);
    upstream(c, config);
    callback(c, config);
    times(c, config);
    retention(c, config);
    let (videos, state) = (&config.storage.root, &config.store.path);
    let apart = config.database.is_some() || !videos.starts_with(state) && !state.starts_with(videos);
    let videos_key = if config.storage.bucket.is_some() { "storage.spool" } else { "storage.url" };
    c.relation(videos_key, "store.url", apart, "must be a folder apart from");
    if let Some(Backup::Folder(backup)) = &config.backup {
        for (other, folder) in [("store.url", state), (videos_key, videos)] {
            let apart = !backup.starts_with(folder) && !folder.starts_with(backup);
            c.relation("store.backup", other, apart, "must be a folder apart from");
        }
    }
}

fn listeners(c: &mut Checker<'_>, config: &Config) {
    let (api, callback) = (config.server.listen, config.callback.listen);
    let keyless = config.auth.keys_file.is_none() && config.auth.bootstrap_admin_key.is_none();
    let exposed = !api.ip().to_canonical().is_loopback();
    let judged = !c.is_rejected("server.listen") && !c.is_rejected("auth.bootstrap_admin_key");
    if keyless && exposed && judged {
        let remedy = "listen on loopback, or set auth.keys_file or auth.bootstrap_admin_key";
        c.problem("server.listen", format!("is reachable by others and no key is configured: {remedy}"));
    }
    let others_named = config.server.external_url.as_ref().is_some_and(|url| !is_loopback(url));
    if keyless && others_named && !c.is_rejected("auth.bootstrap_admin_key") {
        let message = "is where others reach this server and no key is configured, so whoever comes by that address may do \
                       everything: set auth.keys_file or auth.bootstrap_admin_key, or leave it out";
        c.problem("server.external_url", message);
    }
    let same_ip = api.ip() == callback.ip() || api.ip().is_unspecified() || callback.ip().is_unspecified();
    let clash = api.port() == callback.port() && api.port() != 0 && same_ip;
    c.relation("callback.listen", "server.listen", !clash, "must be another address than");
}

fn upstream(c: &mut Checker<'_>, config: &Config) {
    if config.upstream.api_key.is_none() {
        c.warn("upstream.api_key", "is not set: a provider that wants one will refuse every job");
    }
    let base = &config.upstream.base_url;
    if is_private(base) && !is_loopback(base) {
        c.warn("upstream.base_url", "is an address of a private network");
    }
    let (connect, submit) = (config.upstream.connect_timeout, config.upstream.submit_timeout);
    c.relation("upstream.connect_timeout", "upstream.submit_timeout", connect <= submit, "must not exceed");
}

fn callback(c: &mut Checker<'_>, config: &Config) {
    let callback = &config.callback;
    if callback.public_url.is_none() && !c.is_rejected("callback.public_url") {
        let message = "is not set, so the provider is asked for no callbacks: every job is found done by asking, and a \
                       job whose create call's answer is lost is held at once";
        c.warn("callback.public_url", message);
    }
    if callback.public_url.as_ref().is_some_and(is_private) && !is_private(&config.upstream.base_url) {
        c.warn("callback.public_url", "is not a public address: the provider's callbacks will not arrive");
    }
    let (signed, secrets) =
        (callback.signature.scheme != Scheme::None, !callback.signature_secrets.is_empty());
    if signed {
        let message = "is not \"none\", so there must be";
        c.relation("callback.signature", "callback.signature_secrets", secrets, message);
    } else if secrets {
        c.warn("callback.signature_secrets", "has no effect while callback.signature is \"none\"");
    }
}

fn times(c: &mut Checker<'_>, config: &Config) {
    let (poll, download) = (&config.poll, &config.download);
    let at_most = [
        ("poll.interval", poll.interval, "poll.max_interval", poll.max_interval),
        ("poll.first_after", poll.first_after, "poll.give_up_after", poll.give_up_after),
        ("poll.overdue_after", poll.overdue_after, "poll.give_up_after", poll.give_up_after),
        ("download.backoff", download.backoff, "download.max_backoff", download.max_backoff),
        ("download.max_backoff", download.max_backoff, "download.give_up_after", download.give_up_after),
    ];
    for (key, value, other, bound) in at_most {
        c.relation(key, other, value <= bound, "must not exceed");
    }
}

/// A video whose job is forgotten would stay for ever, and nobody would know why.
fn retention(c: &mut Checker<'_>, config: &Config) {
    let known = match (config.retention.videos, config.retention.jobs) {
        (Some(videos), Some(jobs)) => videos <= jobs,
        _ => true,
    };
    c.relation("retention.videos", "retention.jobs", known, "must be 0 (for ever), or must not exceed");
}
