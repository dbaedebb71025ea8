//! Who wins when several places set a key, and what is said of keys that do not exist.

use crate::Setup;

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
    assert_eq!(problem, "env REELHOOK_CONFIG: there is no file gone.toml");
}

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
        let expected = format!("env {variable}: there is no such variable; did you mean `{meant}`?");
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

#[test]
fn nothing_more_is_judged_when_the_file_cannot_be_read() {
    for text in ["[server", "a = 1\na = 2"] {
        let setup = Setup::with(text).flag("server.listen", "0.0.0.0:1").env("REELHOOK_ZEBRA", "1");
        let problems = setup.problems();
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].contains("is not TOML"), "{problems:#?}");
    }
}
