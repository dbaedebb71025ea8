//! What a configuration may be, what it is worth when several places set it, and what is said when it is wrong.

use std::{fs, path::PathBuf, time::Duration};

use proptest::prelude::*;
use reelhook::config::{self, Config, ConfigError, LoadOptions, Loaded, LogFormat, Origin};
use secrecy::ExposeSecret;
use tempfile::TempDir;

/// A working directory, an environment and flags of a test's own.
struct Setup {
    dir: TempDir,
    options: LoadOptions,
}

impl Setup {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let options = LoadOptions {
            cwd: dir.path().to_owned(),
            system_file: dir.path().join("etc.toml"),
            ..LoadOptions::default()
        };
        Self { dir, options }
    }

    fn with(text: &str) -> Self {
        Self::new().file("reelhook.toml", text)
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn private(self, name: &str, text: &str) -> Self {
        let setup = self.file(name, text);
        setup.mode(name, 0o600)
    }

    fn mode(self, name: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.options.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.options.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    fn credential(self, name: &str, text: &str) -> Self {
        let folder = self.dir.path().join("credentials");
        self.file(&format!("credentials/{name}"), text).env("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())
    }

    fn try_load(&self) -> Result<Loaded, ConfigError> {
        config::load(&self.options)
    }

    #[track_caller]
    fn load(&self) -> Loaded {
        self.try_load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said when loading fails, one problem a line.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        let error = self.try_load().expect_err("must not load");
        error.problems.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn only_problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.into_iter().next().unwrap()
    }

    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.load().warnings.iter().map(ToString::to_string).collect()
    }
}

fn debug(config: &Config) -> String {
    format!("{config:#?}")
}

fn uncommented_example() -> String {
    let setting = |line: &str| line.starts_with("# ") && line.split(' ').nth(2) == Some("=");
    let line = |line: &str| if setting(line) { line[2..].to_owned() } else { line.to_owned() };
    config::EXAMPLE.lines().map(|text| line(text) + "\n").collect()
}

// --- the example and the defaults

#[test]
fn the_example_as_a_file_gives_exactly_the_defaults() {
    let setup = Setup::with(config::EXAMPLE);
    let mut setup_at_root = Setup::new();
    setup_at_root.options.path = Some(setup.dir.path().join("reelhook.toml"));
    setup_at_root.options.cwd = PathBuf::new();
    assert_eq!(debug(&setup_at_root.load().config), debug(&Config::defaults()));
    assert_eq!(setup.load().show(false), Setup::new().load().show(false));
}

#[test]
fn the_documented_defaults_are_those_of_the_contract() {
    let expected: toml::Table = include_str!("fixtures/config/defaults.toml").parse().unwrap();
    let shown: toml::Table = Setup::new().load().show(false).parse().unwrap();
    assert_eq!(shown, expected);
}

#[test]
fn the_defaults_mean_what_they_say() {
    let config = Config::defaults();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8484");
    assert_eq!(config.server.body_limit, 1 << 20);
    assert_eq!(config.server.link_ttl, Duration::from_hours(24));
    assert_eq!(config.upstream.base_url.as_str(), "https://apiin.one/");
    assert_eq!(config.upstream.mapping.no_callback_models, ["ltx-2"]);
    assert_eq!(config.poll.overdue_after, Duration::from_secs(240));
    assert_eq!(config.download.max_size, 2 << 30);
    assert_eq!(config.storage.root, PathBuf::from("./data/videos"));
    assert_eq!(config.store.path, PathBuf::from("./data/state"));
    assert_eq!(config.pricing.pro_sound, 80);
    assert_eq!(config.log.format, LogFormat::Auto);
    assert!(config.upstream.api_key.is_none() && config.callback.public_url.is_none());
}

#[test]
fn every_key_has_one_line_of_why_above_it() {
    let lines: Vec<&str> = config::EXAMPLE.lines().collect();
    for key in config::keys() {
        let name = key.rsplit('.').next().unwrap();
        let is_key = |line: &&str| {
            line.trim_start_matches("# ").starts_with(&format!("{name} = ")) && !name.ends_with("_file")
        };
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| is_key(line)) {
            let why = lines[number - 1];
            assert!(why.starts_with("# ") && why.ends_with(['.', '"']), "{key}: {why:?} is not a why");
        }
    }
}

#[test]
fn every_key_without_a_default_can_be_set_to_its_example() {
    let is_file = |line: &&str| line.contains("_file = ") && !line.contains("keys_file");
    let text: String =
        uncommented_example().lines().filter(|line| !is_file(line)).map(|l| l.to_owned() + "\n").collect();
    let loaded = Setup::with(&text).load();
    assert_eq!(loaded.config.callback.public_url.unwrap().as_str(), "https://hooks.example.com/");
    assert!(loaded.config.upstream.api_key.is_some() && loaded.config.auth.keys_file.is_some());
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_its_flag() {
    let values: toml::Table = uncommented_example().parse().unwrap();
    for key in config::keys().filter(|key| !key.ends_with("_file")) {
        let (section, name) = key.rsplit_once('.').unwrap();
        let value =
            section.split('.').fold(&toml::Value::Table(values.clone()), |at, part| &at[part])[name].clone();
        let text = match &value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        let variable = format!("REELHOOK_{}", key.replace('.', "__").replace('-', "_").to_uppercase());
        let loaded = Setup::new().env(&variable, &text).load();
        assert_eq!(*loaded.origin(key), Origin::Env(variable), "{key}");
        let loaded = Setup::new().flag(key, &text).load();
        assert_eq!(*loaded.origin(key), Origin::Flag, "{key}");
    }
}

// --- precedence

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let setup = Setup::new();
    let interval = |setup: &Setup| {
        let loaded = setup.load();
        (loaded.config.poll.interval.as_secs(), loaded.origin("poll.interval").to_string())
    };
    assert_eq!(interval(&setup), (15, "default".into()));
    let setup = setup.file("reelhook.toml", "[poll]\n\ninterval = \"16s\"");
    assert_eq!(interval(&setup), (16, "file reelhook.toml:3".into()));
    let setup = setup.env("REELHOOK_POLL__INTERVAL", "17s");
    assert_eq!(interval(&setup), (17, "env REELHOOK_POLL__INTERVAL".into()));
    let setup = setup.flag("poll.interval", "18s");
    assert_eq!(interval(&setup), (18, "flag".into()));
}

#[test]
fn a_layer_changes_only_the_keys_that_it_names() {
    let loaded = Setup::with("[upstream.mapping]\nstatus = [\"/state\"]").load();
    assert_eq!(loaded.config.upstream.mapping.status, ["/state"]);
    assert_eq!(loaded.config.upstream.mapping.no_callback_models, ["ltx-2"]);
    assert_eq!(loaded.config.upstream.max_in_flight, 20);
}

#[test]
fn a_list_replaces_the_list_below_it() {
    let setup = Setup::with("[upstream.mapping]\nno_callback_models = [\"a\"]")
        .env("REELHOOK_UPSTREAM__MAPPING__NO_CALLBACK_MODELS", "b, c,");
    assert_eq!(setup.load().config.upstream.mapping.no_callback_models, ["b", "c"]);
    let setup = setup.flag("upstream.mapping.no_callback_models", "");
    assert!(setup.load().config.upstream.mapping.no_callback_models.is_empty());
}

#[test]
fn the_file_is_the_flag_s_then_the_variable_s_then_the_folder_s_then_the_system_s() {
    let level = |setup: &Setup| setup.load().config.log.level;
    let setup = Setup::new().file("etc.toml", "log.level = \"error\"");
    assert_eq!(level(&setup), "error");
    let setup = setup.file("reelhook.toml", "log.level = \"warn\"");
    assert_eq!(level(&setup), "warn");
    let setup = setup.file("env.toml", "log.level = \"debug\"").env("REELHOOK_CONFIG", "env.toml");
    assert_eq!(level(&setup), "debug");
    let mut setup = setup.file("flag.toml", "log.level = \"trace\"");
    setup.options.path = Some("flag.toml".into());
    assert_eq!(level(&setup), "trace");
}

#[test]
fn a_named_file_that_is_missing_is_a_problem_but_no_file_is_fine() {
    assert!(Setup::new().try_load().is_ok());
    assert!(Setup::new().env("REELHOOK_CONFIG", "").try_load().is_ok(), "set to nothing is not set");
    let problem = Setup::new().env("REELHOOK_CONFIG", "gone.toml").only_problem();
    assert!(problem.contains("gone.toml") && problem.contains("cannot be read"), "{problem}");
}

// --- unknown keys

#[test]
fn an_unknown_key_is_named_with_file_and_line_and_what_was_meant() {
    let problem = Setup::with("[server]\n# comment\nlissten = \"127.0.0.1:1\"").only_problem();
    assert_eq!(
        problem,
        "server.lissten (file reelhook.toml:3): there is no such key; did you mean `server.listen`?"
    );
}

#[test]
fn what_was_meant_is_found() {
    let cases = [
        ("sever.listen = \"x\"", "`server.listen`"),
        ("poll.intervall = \"1s\"", "`poll.interval`"),
        ("callback.publicurl = \"x\"", "`callback.public_url`"),
        ("upstream.maping.status = []", "`upstream.mapping.status`"),
        ("pricing.kling3.std_sound = 1", "`pricing.kling-3.std_sound`"),
        ("queue_limit = 5", "`api.queue_limit`"),
        ("download.queue_limit = 5", "`api.queue_limit`"),
        ("\"server.listen\" = \"x\"", "`server.listen`"),
        ("server.listen.port = 1", "`server.listen`"),
    ];
    for (text, meant) in cases {
        let problem = Setup::with(text).only_problem();
        assert!(problem.ends_with(&format!("did you mean {meant}?")), "{text}: {problem}");
    }
}

#[test]
fn nothing_is_proposed_for_a_key_that_resembles_none() {
    assert!(Setup::with("zebra = 1").only_problem().ends_with("there is no such key"));
    assert!(Setup::with("[zebra]").only_problem().contains("zebra (file reelhook.toml:1)"));
}

#[test]
fn an_unknown_variable_and_an_unknown_flag_say_what_was_meant() {
    let cases = [
        ("REELHOOK_SERVER_LISTEN", "REELHOOK_SERVER__LISTEN"),
        ("REELHOOK_POLL__JITER", "REELHOOK_POLL__JITTER"),
        ("REELHOOK_CONFG", "REELHOOK_CONFIG"),
        ("REELHOOK_UPSTREAM__APIKEY", "REELHOOK_UPSTREAM__API_KEY"),
    ];
    for (variable, meant) in cases {
        let problem = Setup::new().env(variable, "x").only_problem();
        let expected = format!("env {variable}: sets no key that there is; did you mean `{meant}`?");
        assert_eq!(problem, expected);
    }
    let problem = Setup::new().flag("log.lvel", "info").only_problem();
    assert_eq!(problem, "log.lvel (flag): there is no such key; did you mean `log.level`?");
}

#[test]
fn variables_of_others_are_left_alone() {
    assert!(
        Setup::new().env("REELHOOKS_X", "1").env("PATH", "/bin").env("reelhook_x", "1").try_load().is_ok()
    );
}

// --- values

#[test]
fn a_value_of_the_wrong_type_or_form_is_named_with_what_it_must_be() {
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
        ("poll.jitter = 1.01", "poll.jitter", "from 0 to 1"),
        ("poll.jitter = nan", "poll.jitter", "from 0 to 1"),
        ("download.attempts = -1", "download.attempts", "from 1 to 100"),
        ("download.verify_container = \"yes\"", "download.verify_container", "true or false"),
        ("storage.url = \"s3://bucket\"", "storage.url", "this build supports `file:` only"),
        ("storage.url = \"./videos\"", "storage.url", "must begin with `file:`"),
        ("storage.url = \"file:\"", "storage.url", "names no folder"),
        ("storage.url = \"file://videos\"", "storage.url", "names no folder"),
        ("storage.key_template = \"{date}\"", "storage.key_template", "{job_id}"),
        ("storage.key_template = \"../{job_id}\"", "storage.key_template", "without `..`"),
        ("storage.key_template = \"/{job_id}\"", "storage.key_template", "relative"),
        ("storage.key_template = \"{day}/{job_id}\"", "storage.key_template", "{job_id} and {date} only"),
        ("store.url = \"postgres://x\"", "store.url", "this build supports `sled:` only"),
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

// --- relations

#[test]
fn values_that_contradict_each_other_are_named_both() {
    let cases = [
        ("poll.interval = \"2m\"", "poll.interval", "must not exceed `poll.max_interval` (default)"),
        ("poll.give_up_after = \"1m\"", "poll.overdue_after", "must not exceed `poll.give_up_after`"),
        ("poll.first_after = \"1h\"", "poll.first_after", "must not exceed `poll.give_up_after`"),
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
fn a_value_that_is_wrong_by_itself_is_not_compared_too() {
    let setup = Setup::with("poll.interval = \"2m\"\npoll.max_interval = \"much\"");
    assert!(setup.only_problem().starts_with("poll.max_interval"));
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

// --- warnings

#[test]
fn what_deserves_a_look_is_a_warning_and_no_problem() {
    let cases = [
        ("callback.public_url", "http://hooks.example.com", "callback.public_url", Some("plain http")),
        ("callback.public_url", "https://10.0.0.1", "callback.public_url", Some("will not arrive")),
        ("callback.public_url", "https://hooks.example.com", "callback.public_url", None),
        ("upstream.base_url", "http://api.example.com", "upstream.base_url", Some("plain http")),
        ("upstream.base_url", "https://10.0.0.1", "upstream.base_url", Some("private network")),
        ("upstream.base_url", "http://127.0.0.1:9", "upstream.base_url", None),
        ("egress.allow", "0.0.0.0/0", "egress.allow", Some("allows every address")),
        ("callback.signature_secrets", "whsec_x", "callback.signature_secrets", Some("has no effect")),
        ("log.level", "info", "upstream.api_key", Some("is not set")),
    ];
    for (key, value, about, part) in cases {
        let warnings = Setup::new().flag(key, value).warnings();
        let warning = warnings.iter().find(|warning| warning.starts_with(about));
        assert_eq!(warning.is_some(), part.is_some(), "{key} = {value}: {warnings:#?}");
        assert!(warning.is_none_or(|warning| warning.contains(part.unwrap())), "{warnings:#?}");
    }
}

// --- secrets

#[test]
fn a_secret_is_typed_or_read_from_its_file_or_from_its_credential() {
    let key = |setup: Setup| {
        let loaded = setup.load();
        let key = loaded.config.upstream.api_key.clone().unwrap().expose_secret().to_owned();
        (key, loaded.origin("upstream.api_key").to_string())
    };
    let typed = Setup::with("upstream.api_key = \"typed\"");
    assert_eq!(key(typed), ("typed".into(), "file reelhook.toml:1".into()));
    let file = Setup::with("upstream.api_key_file = \"key\"").private("key", "from file\n");
    assert_eq!(key(file).0, "from file");
    let credential = Setup::new().credential("upstream.api_key", "from systemd\n");
    assert_eq!(key(credential), ("from systemd".into(), "credential".into()));
}

#[test]
fn several_secrets_are_one_a_line_in_a_file_and_comma_separated_in_a_variable() {
    let secrets = |setup: Setup| {
        let secrets = setup.load().config.callback.secrets;
        secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>()
    };
    let file = Setup::with("callback.secrets_file = \"keys\"").private("keys", "new,est\n\n old \n");
    assert_eq!(secrets(file), ["new,est", "old"]);
    assert_eq!(secrets(Setup::new().credential("callback.secrets", "one\ntwo")), ["one", "two"]);
    assert_eq!(secrets(Setup::new().env("REELHOOK_CALLBACK__SECRETS", "one,two")), ["one", "two"]);
}

#[test]
fn a_secret_given_twice_is_refused_wherever_it_is_given() {
    let typed = || Setup::with("upstream.api_key = \"typed\"");
    let setups = [
        typed().env("REELHOOK_UPSTREAM__API_KEY_FILE", "key"),
        typed().credential("upstream.api_key", "x"),
        Setup::new().flag("upstream.api_key_file", "key").credential("upstream.api_key", "x"),
        typed().flag("upstream.api_key_file", "key").credential("upstream.api_key", "x"),
        Setup::new().flag("callback.secrets", "a").flag("callback.secrets_file", "key"),
    ];
    for setup in setups {
        let problem = setup.private("key", "file").only_problem();
        assert!(problem.ends_with("keep one"), "{problem}");
    }
    let replaced = typed().env("REELHOOK_UPSTREAM__API_KEY", "another");
    assert_eq!(replaced.load().config.upstream.api_key.unwrap().expose_secret(), "another");
}

#[test]
fn an_empty_secret_is_refused_wherever_it_is_empty() {
    let setups = [
        Setup::with("upstream.api_key = \"\""),
        Setup::new().env("REELHOOK_UPSTREAM__API_KEY", " "),
        Setup::with("upstream.api_key_file = \"key\"").private("key", "\n"),
        Setup::new().credential("upstream.api_key", ""),
        Setup::with("callback.secrets = [\"a\", \"\"]"),
        Setup::with("callback.secrets_file = \"key\"").private("key", "\n"),
    ];
    for setup in setups {
        assert!(setup.only_problem().contains("empty"), "{}", setup.only_problem());
    }
}

#[test]
fn a_secret_s_file_that_cannot_be_read_is_a_problem_and_one_that_everybody_can_read_a_warning() {
    let missing = Setup::with("upstream.api_key_file = \"gone\"").only_problem();
    assert!(
        missing.starts_with("upstream.api_key_file (file") && missing.contains("cannot be read"),
        "{missing}"
    );
    let binary = Setup::with("upstream.api_key_file = \"/dev/zero\"").only_problem();
    assert!(binary.contains("64 KiB"), "{binary}");
    let open = |mode| {
        let setup = Setup::with("upstream.api_key_file = \"key\"").file("key", "x").mode("key", mode);
        setup.warnings().iter().any(|warning| warning.contains("every user can read"))
    };
    assert!(open(0o644) && !open(0o640));
}

#[test]
fn the_configuration_in_force_is_shown_without_secrets() {
    let canary = "canary-canary-canary-1234";
    let setup = Setup::with(&format!("[auth]\nbootstrap_admin_key = {canary:?}\n[log]\nlevel = \"debug\""))
        .env("REELHOOK_CALLBACK__SECRETS", &format!("{canary},{canary}"))
        .flag("callback.signature_secrets", canary)
        .credential("upstream.api_key", canary);
    let loaded = setup.load();
    assert_eq!(loaded.show(true), include_str!("fixtures/config/show.toml"));
    loaded.show(false).parse::<toml::Table>().expect("what is shown is TOML");
    for text in [loaded.show(false), format!("{loaded:?}"), format!("{:?}", loaded.config)] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn no_message_repeats_a_secret() {
    let canary = "canary-canary";
    let setups = [
        Setup::with(&format!("upstream.api_key = \"{canary}")),
        Setup::with(&format!("upstream.api_key = {canary}")),
        Setup::with(&format!("upstream.api_key = [\"{canary}\"]")),
        Setup::with(&format!("auth.bootstrap_admin_key = \"{canary}\"")),
        Setup::with(&format!("upstream.base_url = \"https://user:{canary}@x.de\"")),
        Setup::with(&format!("upstream.apikey = \"{canary}\"")),
        Setup::new().env("REELHOOK_UPSTREAM__APIKEY", canary),
        Setup::new().flag("auth.bootstrap_admin_key", canary),
    ];
    for setup in setups {
        let error = setup.try_load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

// --- dev

#[test]
fn dev_stays_on_this_machine_and_asks_faster() {
    let sandbox: url::Url = "http://127.0.0.1:9999".parse().unwrap();
    let config = Config::for_dev("/tmp/x".as_ref(), &sandbox, 20.0);
    assert!(config.server.listen.ip().is_loopback() && config.callback.listen.ip().is_loopback());
    assert_eq!(config.callback.public_url.unwrap().as_str(), "http://127.0.0.1:8485/");
    assert_eq!(config.upstream.base_url, sandbox);
    assert_eq!(config.upstream.api_key.unwrap().expose_secret(), "aio_sandbox");
    assert_eq!(config.egress.allow, ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!(config.store.path, PathBuf::from("/tmp/x/state"));
    assert_eq!(config.storage.root, PathBuf::from("/tmp/x/videos"));
    assert_eq!(config.poll.first_after, Duration::from_secs(1));
    assert_eq!(config.poll.interval, Duration::from_millis(750));
    assert_eq!(config.poll.give_up_after, Duration::from_secs(45 * 60));
}

#[test]
fn no_speed_breaks_dev() {
    let sandbox: url::Url = "http://127.0.0.1:9999".parse().unwrap();
    for speed in [0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY] {
        let poll = Config::for_dev("/tmp/x".as_ref(), &sandbox, speed).poll;
        assert!(
            poll.interval >= Duration::from_millis(250) && poll.interval <= Duration::from_secs(15),
            "{speed}"
        );
    }
}

// --- any input

#[test]
fn a_file_that_is_not_text_or_nested_without_end_is_a_problem() {
    let setup = Setup::new();
    fs::write(setup.dir.path().join("reelhook.toml"), b"\xff\xfe[server]").unwrap();
    assert!(setup.only_problem().contains("cannot be read"));
    let deep = [
        format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("x = {}1{}", "{a=".repeat(100_000), "}".repeat(100_000)),
        format!("{} = 1", vec!["a"; 20_000].join(".")),
        format!("[{}]", vec!["a"; 20_000].join(".")),
    ];
    for text in deep {
        Setup::with(&text).only_problem();
    }
}

/// Lines that reach further into the reading than noise does.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(config::keys().collect::<Vec<_>>());
    let value = prop_oneof![
        ".{0,20}".prop_map(|text| format!("{text:?}")),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[0-9]{1,20}(ms|s|h|d|KiB|EiB|mo)".prop_map(|text| format!("{text:?}")),
        Just("[\"\", \"/\"]".to_owned()),
    ];
    (key, value).prop_map(|(key, value)| format!("{key} = {value}"))
}

proptest! {
    #[test]
    fn no_bytes_as_configuration_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let setup = Setup::new();
        fs::write(setup.dir.path().join("reelhook.toml"), &bytes).unwrap();
        _ = setup.try_load();
    }

    #[test]
    fn no_values_of_known_keys_panic(lines in prop::collection::vec(line(), 1..6)) {
        _ = Setup::with(&lines.join("\n")).try_load();
    }

    #[test]
    fn no_variable_or_flag_panics(name in "[A-Z_]{0,20}", key in ".{0,20}", value in ".{0,30}") {
        _ = Setup::new().env(&format!("REELHOOK_{name}"), &value).flag(&key, &value).try_load();
    }
}
