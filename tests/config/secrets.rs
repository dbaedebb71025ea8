//! Where secrets come from, and that they go nowhere else.

use secrecy::ExposeSecret;

use crate::Setup;

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
        .env("REELHOOK_SINKS__APP__TYPE", "webhook")
        .env("REELHOOK_SINKS__APP__URL", "https://app.example.com/hooks")
        .env("REELHOOK_SINKS__APP__SECRET", canary)
        .env("REELHOOK_SINKS__APP__HEADERS", &format!("Authorization: Bearer {canary}"))
        .credential("upstream.api_key", canary);
    let loaded = setup.load();
    assert_eq!(loaded.show(true), include_str!("../fixtures/config/show.toml"));
    loaded.show(false).parse::<toml::Table>().expect("what is shown is TOML");
    for text in [loaded.show(false), format!("{loaded:?}"), format!("{:?}", loaded.config)] {
        assert!(!text.contains("canary"), "{text}");
    }
}

fn webhook() -> Setup {
    Setup::with("[sinks.app]\ntype = \"webhook\"\nurl = \"https://app.example.com\"")
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
        Setup::new().flag("delivery.secret", canary),
        Setup::new().flag("delivery.secret", &format!("whsec_{canary}")),
        webhook().env("REELHOOK_SINKS__APP__SECRETS", canary),
        webhook().env("REELHOOK_SINKS__APP__HEADERS", canary),
        webhook().env("REELHOOK_SINKS__APP__HEADERS", &format!("no name: {canary}")),
        webhook().env("REELHOOK_SINKS__APP__HEADERS", &format!("webhook-id: {canary}")),
        webhook().env("REELHOOK_SINKS__APP__URL", &format!("https://user:{canary}@x.de")),
        Setup::with(&format!(
            "[sinks.bus]\ntype = \"nats\"\nserver = \"nats://u:{canary}@x\"\nsubject = \"x\""
        )),
    ];
    for setup in setups {
        let error = setup.try_load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}
