//! What values may be, alone and to each other.

use std::path::PathBuf;
use std::time::Duration;

use crate::Setup;

#[test]
fn a_value_of_the_wrong_type_or_form_is_named_with_what_it_must_be() {
    let database = if cfg!(feature = "postgres") { "names no database" } else { "knows nothing of" };
    let cases = [
        ("server.listen = 8484", "server.listen", "a text in quotes"),
        ("server.listen = \"localhost:8484\"", "server.listen", "not an IP address and a port"),
        ("server = 1", "server", "is a section"),
        ("server.base_path = \"x\"", "server.base_path", "must be a path"),
        ("server.body_limit = \"1\"", "server.body_limit", "from 1.0 KiB to 64.0 MiB"),
        ("server.body_limit = \"many\"", "server.body_limit", "is not a size"),
        ("server.body_limit = \"99999999999999999999EiB\"", "server.body_limit", "from 1.0 KiB"),
        ("server.link_ttl = \"soon\"", "server.link_ttl", "is not a duration"),
        ("server.link_ttl = \"1mo\"", "server.link_ttl", "is not a duration"),
        ("server.link_ttl = \"-5s\"", "server.link_ttl", "is not a duration"),
        ("server.link_ttl = \"500ms\"", "server.link_ttl", "must be from 1s to"),
        ("server.external_url = \"ftp://x\"", "server.external_url", "must be http or https, not ftp"),
        ("auth.bootstrap_admin_key = \"short\"", "auth.bootstrap_admin_key", "20 characters"),
        ("upstream.base_url = \"apiin.one\"", "upstream.base_url", "is not a URL"),
        ("upstream.base_url = \"https://u:p@x.de\"", "upstream.base_url", "user or password"),
        ("upstream.base_url = \"https://x.de/?a=b\"", "upstream.base_url", "must end with its path"),
        ("upstream.submit_path = \"api\"", "upstream.submit_path", "begins with `/`"),
        ("upstream.task_path = \"/tasks\"", "upstream.task_path", "{task_id}"),
        ("upstream.default_model = \" \"", "upstream.default_model", "must name a model"),
        ("upstream.max_in_flight = 0", "upstream.max_in_flight", "from 1 to"),
        ("upstream.max_in_flight = 1.5", "upstream.max_in_flight", "a whole number"),
        ("upstream.unknown_wait = \"25h\"", "upstream.unknown_wait", "must be from 1ms to 24h"),
        ("upstream.mapping.status = [1]", "upstream.mapping.status", "a list of texts"),
        ("upstream.mapping.status = [\"state\"]", "upstream.mapping.status", "JSON pointer"),
        ("callback.signature = \"hmac\"", "callback.signature", "\"standard-webhooks\""),
        ("callback.signature_header = \"a header\"", "callback.signature_header", "is no name of a header"),
        ("callback.miss_limit_per_minute = 0", "callback.miss_limit_per_minute", "from 1 to"),
        ("server.tls_cert = \"a.crt\"", "server.tls_cert", "needs `server.tls_key`"),
        ("callback.tls_key = \"a.key\"", "callback.tls_key", "needs `callback.tls_cert`"),
        ("poll.jitter = 1.01", "poll.jitter", "from 0 to 1"),
        ("poll.jitter = nan", "poll.jitter", "from 0 to 1"),
        ("download.attempts = -1", "download.attempts", "from 1 to 100"),
        ("download.verify_container = \"yes\"", "download.verify_container", "true or false"),
        ("delivery.schedule = []", "delivery.schedule", "1 to 100 pauses"),
        ("delivery.schedule = [\"0s\", \"soon\"]", "delivery.schedule", "`soon` is not a duration"),
        ("delivery.concurrency = 0", "delivery.concurrency", "from 1 to 256"),
        ("delivery.timeout = \"2h\"", "delivery.timeout", "must be from 1ms to 1h"),
        ("delivery.secret = \"short\"", "delivery.secret", "5 bytes read as plain text; 24 or more"),
        ("storage.url = \"ftp://bucket\"", "storage.url", "is of no kind that is known"),
        ("storage.url = \"./videos\"", "storage.url", "must begin with `file:`"),
        ("storage.url = \"file:\"", "storage.url", "names no folder"),
        ("storage.url = \"file://videos\"", "storage.url", "names no folder"),
        ("storage.key_template = \"{date}\"", "storage.key_template", "{job_id}"),
        ("storage.key_template = \"../{job_id}\"", "storage.key_template", "without `..`"),
        ("storage.key_template = \"/{job_id}\"", "storage.key_template", "relative"),
        ("storage.key_template = \"{day}/{job_id}\"", "storage.key_template", "{job_id} and {date} only"),
        ("store.url = \"postgres://x\"", "store.url", database),
        ("store.url = \"redis://x/1\"", "store.url", "not `redis:`"),
        ("egress.allow = [\"10.0.0.0/99\"]", "egress.allow", "is not a network"),
        ("budget.daily_credits = -1", "budget.daily_credits", "from 0 to"),
        ("pricing.kling-3.std_sound = -1", "pricing.kling-3.std_sound", "from 0 to"),
        ("log.level = \"inof\"", "log.level", "must be error, warn, info"),
        ("log.level = \"a=b=c\"", "log.level", "must be error, warn, info"),
        ("log.format = \"xml\"", "log.format", "\"auto\", \"text\" or \"json\""),
        ("sandbox.speed = 0", "sandbox.speed", "from 0.01 to 10000"),
    ];
    for (text, key, part) in cases {
        let problem = Setup::with(text).only_problem();
        let start = format!("{key} (file reelhook.toml:1): ");
        assert!(problem.starts_with(&start) && problem.contains(part), "{text}: {problem}");
    }
}

#[test]
fn a_variable_of_the_wrong_type_is_named() {
    let problem = Setup::new().env("REELHOOK_DOWNLOAD__ATTEMPTS", "many").only_problem();
    assert_eq!(problem, "download.attempts (env REELHOOK_DOWNLOAD__ATTEMPTS): must be a whole number");
}

#[test]
fn durations_sizes_and_networks_are_read_as_people_write_them() {
    let duration =
        |text: &str| Setup::new().flag("server.shutdown_grace", text).load().config.server.shutdown_grace;
    assert_eq!(duration("0"), Duration::ZERO);
    assert_eq!(duration("500ms"), Duration::from_millis(500));
    assert_eq!(duration("1m 30s"), Duration::from_secs(90));
    let config = Setup::new()
        .flag("server.link_ttl", "7d")
        .flag("download.max_size", "512KiB")
        .flag("storage.min_free", "1.5 GB")
        .flag("store.min_free", "100")
        .flag("egress.allow", "10.1.2.3/8, ::1")
        .flag("sandbox.speed", "5")
        .flag("server.base_path", "/videos/")
        .load()
        .config;
    assert_eq!(config.server.link_ttl, Duration::from_hours(7 * 24));
    assert_eq!(config.download.max_size, 512 * 1024);
    assert_eq!((config.storage.min_free, config.store.min_free), (1_500_000_000, 100));
    assert_eq!(config.egress.allow, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!(config.sandbox.speed, 5.0);
    assert_eq!(config.server.base_path, "/videos");
}

#[test]
fn folders_are_relative_to_the_working_directory_or_absolute() {
    let root = |url: &str| {
        let setup = Setup::new().flag("storage.url", url);
        let root = setup.load().config.storage.root;
        root.strip_prefix(setup.dir.path()).map(|path| path.to_owned()).unwrap_or(root)
    };
    assert_eq!(root("file:./a b"), PathBuf::from("a b"));
    assert_eq!(root("file:100%/ü?#"), PathBuf::from("100%/ü?#"));
    assert_eq!(root("file:///srv/videos"), PathBuf::from("/srv/videos"));
    assert_eq!(root("file:/srv/videos"), PathBuf::from("/srv/videos"));
}

#[test]
fn values_that_contradict_each_other_are_named_both() {
    let cases = [
        ("poll.interval = \"2m\"", "poll.interval", "must not exceed `poll.max_interval` (default)"),
        ("poll.give_up_after = \"1m\"", "poll.overdue_after", "must not exceed `poll.give_up_after`"),
        ("poll.first_after = \"1h\"", "poll.first_after", "must not exceed `poll.give_up_after`"),
        ("retention.videos = \"100d\"", "retention.videos", "must not exceed `retention.jobs` (default)"),
        ("download.backoff = \"3m\"", "download.backoff", "must not exceed `download.max_backoff`"),
        ("download.give_up_after = \"1m\"", "download.max_backoff", "`download.give_up_after`"),
        ("upstream.submit_timeout = \"1s\"", "upstream.connect_timeout", "`upstream.submit_timeout`"),
        ("callback.listen = \"127.0.0.1:8484\"", "callback.listen", "another address than `server.listen`"),
        ("callback.listen = \"0.0.0.0:8484\"", "callback.listen", "another address than `server.listen`"),
        ("storage.url = \"file:data/state/videos\"", "storage.url", "a folder apart from `store.url`"),
        ("callback.signature = \"standard-webhooks\"", "callback.signature", "`callback.signature_secrets`"),
    ];
    for (text, key, part) in cases {
        let problem = Setup::with(text).only_problem();
        assert!(problem.starts_with(&format!("{key} (")) && problem.contains(part), "{text}: {problem}");
    }
}

#[test]
fn the_signatures_of_a_provider_are_configured_whole_or_not_at_all() {
    let with = |scheme: &str, secret: &str| {
        Setup::new().flag("callback.signature", scheme).flag("callback.signature_secrets", secret)
    };
    for scheme in ["kie", "timestamped-body", "stripe"] {
        let config = with(scheme, "webhook_secret").load().config.callback;
        assert_eq!((config.signature.scheme.to_string().as_str(), config.signature.header), (scheme, None));
    }
    for scheme in ["body", "shared-secret"] {
        let problem = with(scheme, "webhook_secret").only_problem();
        assert!(
            problem.starts_with("callback.signature_header (") && problem.contains("must name"),
            "{problem}"
        );
        let named = with(scheme, "webhook_secret").flag("callback.signature_header", "X-Proof").load().config;
        assert_eq!(named.callback.signature.header.as_deref(), Some("x-proof"));
    }
    for (scheme, secret) in [("standard-webhooks", "whsec_!"), ("fal", "webhook_secret")] {
        let problem = with(scheme, secret).only_problem();
        let start = "callback.signature_secrets (flag): holds a secret, number 1, that cannot be used: ";
        assert!(problem.starts_with(start) && !problem.contains(secret), "{problem}");
    }
    let set = "{ \"keys\": [\n  { \"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg\" }\n] }\n";
    let from_file = Setup::with("callback.signature = \"fal\"\ncallback.signature_secrets_file = \"jwks\"");
    assert_eq!(from_file.private("jwks", set).load().config.callback.signature_secrets.len(), 1);
}

#[test]
fn two_listeners_may_both_let_the_system_choose_the_port() {
    let setup = Setup::with("server.listen = \"127.0.0.1:0\"\ncallback.listen = \"127.0.0.1:0\"");
    assert!(setup.try_load().is_ok());
}

#[test]
fn a_listener_that_others_reach_needs_a_key() {
    for listen in ["0.0.0.0:8484", "192.168.1.5:8484", "[::]:8484", "[::ffff:10.0.0.1]:8484"] {
        let setup = Setup::new().flag("server.listen", listen);
        let problem = setup.only_problem();
        assert!(problem.contains("no key is configured"), "{listen}: {problem}");
        let key = "auth.bootstrap_admin_key";
        assert!(setup.flag(key, "a-key-of-twenty-chars").try_load().is_ok(), "{listen}");
        let setup = Setup::new().flag("server.listen", listen).flag("auth.keys_file", "keys");
        assert!(setup.try_load().is_ok(), "{listen}");
    }
    for listen in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(Setup::new().flag("server.listen", listen).try_load().is_ok(), "{listen}");
    }
}

#[test]
fn a_server_that_others_have_an_address_for_needs_a_key() {
    for url in ["https://videos.example.com", "http://10.0.0.1:8484", "https://[2001:db8::1]/r"] {
        let setup = Setup::new().flag("server.external_url", url);
        let problem = setup.only_problem();
        assert!(problem.starts_with("server.external_url (flag): "), "{problem}");
        assert!(problem.contains("no key is configured") && problem.contains("auth.keys_file"), "{problem}");
        assert!(setup.flag("auth.bootstrap_admin_key", "a-key-of-twenty-chars").try_load().is_ok(), "{url}");
        let setup = Setup::new().flag("server.external_url", url).flag("auth.keys_file", "keys");
        assert!(setup.try_load().is_ok(), "{url}");
    }
    for url in ["http://localhost:3000", "http://reelhook.localhost", "http://127.0.0.1:1", "http://[::1]/r"]
    {
        assert!(Setup::new().flag("server.external_url", url).try_load().is_ok(), "{url}");
    }
}

#[test]
fn a_value_that_is_wrong_by_itself_is_not_compared_too() {
    let setup = Setup::with("poll.interval = \"2m\"\npoll.max_interval = \"much\"");
    assert!(setup.only_problem().starts_with("poll.max_interval"));
    let setup = Setup::with("server.listen = \"0.0.0.0:1\"\nauth.bootstrap_admin_key_file = \"gone\"");
    assert!(setup.only_problem().starts_with("auth.bootstrap_admin_key_file"));
    let setup =
        Setup::with("callback.signature = \"standard-webhooks\"\ncallback.signature_secrets_file = \"gone\"");
    assert!(setup.only_problem().starts_with("callback.signature_secrets_file"));
}

#[test]
fn all_problems_are_told_at_once() {
    let setup = Setup::with("zebra = 1\n[poll]\njitter = 2\ninterval = 5\n[log]\nformat = \"xml\"")
        .env("REELHOOK_ZEBRA", "1")
        .flag("server.listen", "nowhere");
    let error = setup.try_load().unwrap_err();
    let keys: Vec<&str> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["zebra", "poll.interval", "", "server.listen", "poll.jitter", "log.format"]);
    let text = error.to_string();
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(
        text.starts_with("the configuration cannot be used:\n  zebra (file reelhook.toml:1): "),
        "{text}"
    );
}

#[test]
fn what_deserves_a_look_is_a_warning_and_no_problem() {
    let cases = [
        ("callback.public_url", "http://hooks.example.com", "callback.public_url", Some("plain http")),
        ("callback.public_url", "https://10.0.0.1", "callback.public_url", Some("will not arrive")),
        ("callback.public_url", "https://hooks.example.com", "callback.public_url", None),
        ("log.level", "info", "callback.public_url", Some("held at once")),
        ("upstream.base_url", "http://api.example.com", "upstream.base_url", Some("plain http")),
        ("upstream.base_url", "https://10.0.0.1", "upstream.base_url", Some("private network")),
        ("upstream.base_url", "http://127.0.0.1:9", "upstream.base_url", None),
        ("egress.allow", "0.0.0.0/0", "egress.allow", Some("allows every address")),
        ("callback.signature_secrets", "whsec_x", "callback.signature_secrets", Some("has no effect")),
        ("callback.signature_header", "X-Proof", "callback.signature_header", Some("has no effect")),
        ("callback.signature_prefix", "v0=", "callback.signature_prefix", Some("has no effect")),
        ("log.level", "info", "upstream.api_key", Some("is not set")),
    ];
    for (key, value, about, part) in cases {
        let warnings = Setup::new().flag(key, value).warnings();
        let warning = warnings.iter().find(|warning| warning.starts_with(about));
        assert_eq!(warning.is_some(), part.is_some(), "{key} = {value}: {warnings:#?}");
        assert!(warning.is_none_or(|warning| warning.contains(part.unwrap())), "{warnings:#?}");
    }
}
