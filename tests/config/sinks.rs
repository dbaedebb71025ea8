//! Sinks: sections whose names the operator chooses.

use std::time::Duration;

use reelhook::{
    config::{Format, Target},
    lifecycle::EventKind,
};
use secrecy::ExposeSecret;

use crate::Setup;

const WEBHOOK: &str = "[sinks.app]\ntype = \"webhook\"\nurl = \"https://app.example.com/hooks\"\n";

/// A sink of this type with these lines below it, from line 3 on.
fn sink(kind: &str, lines: &str) -> Setup {
    Setup::with(&format!("[sinks.app]\ntype = \"{kind}\"\n{lines}"))
}

#[test]
fn a_sink_has_what_was_typed_and_the_rest_from_the_section_of_all() {
    let text = "[delivery]\ntimeout = \"7s\"\nconcurrency = 3\n[sinks.my-app_2]\ntype = \"webhook\"\nurl = \"https://x.de/?a=b\"";
    let config = Setup::with(text).load().config;
    let sink = &config.sinks["my-app_2"];
    assert_eq!((sink.timeout, sink.concurrency, sink.format), (Duration::from_secs(7), 3, Format::Standard));
    let usual = [EventKind::Succeeded, EventKind::Failed, EventKind::Canceled, EventKind::Held];
    assert_eq!(sink.events, usual);
    let Target::Webhook { url, secrets, headers } = &sink.target else { panic!("{sink:?}") };
    assert_eq!((url.as_str(), secrets.len(), headers.len()), ("https://x.de/?a=b", 0, 0));
}

#[test]
fn a_sink_may_have_its_own() {
    let lines = "url = \"https://x.de\"\nevents = [\"job.held\", \"job.held\", \"job.created\"]\nformat = \"cloudevents\"\n\
                 timeout = \"1m\"\nconcurrency = 1\nheaders = [\"X-Key: a: b\", \"Accept: */*\"]\n\
                 secrets = [\"correct horse battery staple\", \"correct horse battery stable\"]";
    let config = sink("webhook", lines).load().config;
    let sink = &config.sinks["app"];
    assert_eq!(
        (sink.timeout, sink.concurrency, sink.format),
        (Duration::from_secs(60), 1, Format::CloudEvents)
    );
    assert_eq!(sink.events, [EventKind::Held, EventKind::Created]);
    let Target::Webhook { secrets, headers, .. } = &sink.target else { panic!("{sink:?}") };
    assert_eq!(headers["x-key"], "a: b");
    assert!(headers["x-key"].is_sensitive());
    assert_eq!(secrets[1].expose_secret(), "correct horse battery stable");
}

#[test]
fn a_sink_can_be_made_of_variables_alone_or_changed_by_them() {
    let setup = Setup::new()
        .env("REELHOOK_SINKS__APP__TYPE", "exec")
        .env("REELHOOK_SINKS__APP__COMMAND", "/bin/echo,hello");
    let config = setup.load().config;
    let Target::Exec { command } = &config.sinks["app"].target else { panic!("{config:?}") };
    assert_eq!(command, &["/bin/echo", "hello"]);
    let setup = Setup::with(&WEBHOOK.replace("app]", "my-app]"));
    let config = setup.env("REELHOOK_SINKS__MY_APP__URL", "https://other.example.com").load().config;
    assert_eq!(config.sinks.len(), 1, "the sink of the file is meant: {config:?}");
    let Target::Webhook { url, .. } = &config.sinks["my-app"].target else { panic!("{config:?}") };
    assert_eq!(url.as_str(), "https://other.example.com/");
}

#[test]
fn a_sink_s_secret_may_be_a_file_or_a_credential() {
    let secret = "whsec_ZXhhbXBsZS1vZi1hLXNpZ25pbmctc2VjcmV0LTAwMDE=";
    let of = |setup: Setup| match &setup.load().config.sinks["app"].target {
        Target::Webhook { secrets, .. } => secrets[0].expose_secret().to_owned(),
        other => panic!("{other:?}"),
    };
    let file = Setup::with(&format!("{WEBHOOK}secret_file = \"key\"")).private("key", &format!("{secret}\n"));
    assert_eq!(of(file), secret);
    assert_eq!(of(Setup::with(WEBHOOK).credential("sinks.app.secret", secret)), secret);
}

#[test]
fn every_mistake_has_its_place_and_its_remedy() {
    let webhook = |line: &str| Setup::with(&format!("{WEBHOOK}{line}"));
    let cases = [
        (sink("webhok", ""), "type", 2, "did you mean `webhook`?"),
        (Setup::with("[sinks.app]\nurl = \"https://x.de\""), "type", 0, "is not set: \"webhook\", \"exec\""),
        (sink("webhook", ""), "url", 0, "is not set: write \"https://"),
        (sink("webhook", "url = \"app\""), "url", 3, "is not a URL"),
        (sink("webhook", "url = \"ftp://x\""), "url", 3, "must be http or https, not ftp"),
        (sink("webhook", "url = \"https://x.de/#a\""), "url", 3, "belong into `headers`"),
        (sink("webhook", "uri = \"https://x.de\"\nurl = \"https://x.de\""), "uri", 3, "`sinks.app.url`?"),
        (webhook("events = [\"job.suceeded\"]"), "events", 4, "did you mean `job.succeeded`?"),
        (webhook("events = []"), "events", 4, "told of nothing"),
        (webhook("events = \"job.held\""), "events", 4, "a list of texts"),
        (webhook("format = \"xml\""), "format", 4, "\"standard\" or \"cloudevents\""),
        (webhook("timeout = \"0\""), "timeout", 4, "from 1ms to 1h"),
        (webhook("concurrency = 1000"), "concurrency", 4, "from 1 to 256"),
        (webhook("secret = \"whsec_!\""), "secret", 4, "not base64"),
        (webhook("secrets = [\"whsk_x\"]"), "secrets", 4, "asymmetric"),
        (webhook("headers = [\"Authorization\"]"), "headers", 4, "write \"Name: value\""),
        (webhook("headers = [\"Webhook-Id: 1\"]"), "headers", 4, "the delivery sets itself"),
        (webhook("headers = [\"Content-Type: 1\"]"), "headers", 4, "the delivery sets itself"),
        (webhook("headers = [\"X-Y: \\u0001\"]"), "headers", 4, "printable ASCII"),
        (webhook("command = [\"x\"]"), "command", 4, "of no use to a sink of type \"webhook\""),
        (sink("stdout", "secret_file = \"x\""), "secret_file", 3, "of no use to a sink of type \"stdout\""),
        (sink("exec", ""), "command", 0, "must name a program"),
        (sink("exec", "command = [\" \"]"), "command", 3, "must name a program"),
        (sink("exec", "command = \"/bin/x\""), "command", 3, "a list of texts"),
    ];
    for (setup, key, line, part) in cases {
        // The type's own mistake is told as well where the line spoils it.
        let problems = setup.problems();
        let at = if line == 0 { "default".to_owned() } else { format!("file reelhook.toml:{line}") };
        let start = format!("sinks.app.{key} ({at}): ");
        let found = problems.iter().any(|problem| problem.starts_with(&start) && problem.contains(part));
        assert!(found, "{start}…{part}… is not in {problems:#?}");
    }
}

#[cfg(feature = "nats")]
#[test]
fn a_server_and_a_subject_of_nats_are_checked() {
    let with = |server: &str, subject: &str| {
        sink("nats", &format!("server = \"{server}\"\nsubject = \"{subject}\""))
    };
    assert!(with("tls://nats.example.com", "a.{type}.b").try_load().is_ok());
    for server in ["", "nats.example.com", "http://x", "nats://", "nats://u:p@x"] {
        assert!(with(server, "a").only_problem().starts_with("sinks.app.server (file"), "{server}");
    }
    for subject in ["", "a..b", ".a", "a b", "a.*", "a.>", "{job}", "{type"] {
        assert!(with("nats://x", subject).only_problem().starts_with("sinks.app.subject (file"), "{subject}");
    }
}

#[cfg(not(feature = "nats"))]
#[test]
fn a_build_without_nats_says_so() {
    let problem = sink("nats", "server = \"nats://x\"\nsubject = \"a\"").only_problem();
    assert!(problem.contains("this build is without it: build with `--features nats`"), "{problem}");
}

#[test]
fn a_secret_and_secrets_are_one_too_many() {
    let two = "secret = \"correct horse battery staple\"\nsecrets = [\"correct horse battery stable\"]";
    let problem = Setup::with(&format!("{WEBHOOK}{two}")).only_problem();
    assert_eq!(
        problem,
        "sinks.app.secrets (file reelhook.toml:5): is set, and so is `sinks.app.secret`: keep one"
    );
}

#[test]
fn what_is_no_sink_is_told() {
    let cases = [
        ("[sinks.app]", "sinks.app (file reelhook.toml:1): is not a sink: write [sinks.NAME]"),
        ("[sinks]\nurl = \"x\"", "sinks.url (file reelhook.toml:2): is not a sink"),
        ("[[sinks]]\ntype = \"stdout\"", "sinks (file reelhook.toml:1): is a section"),
        ("[sinks.App]\ntype = \"stdout\"", "sinks.App.type (file reelhook.toml:2): the name of a sink is"),
        (
            "[sinks.\"a b\"]\ntype = \"stdout\"",
            "sinks.\"a b\".type (file reelhook.toml:2): the name of a sink",
        ),
        ("sinks.app.type.x = 1", "sinks.app.type.x (file reelhook.toml:1): a sink has no such key"),
    ];
    for (text, start) in cases {
        let problem = Setup::with(text).only_problem();
        assert!(problem.starts_with(start), "{text}: {problem}");
    }
    assert!(Setup::with("[sinks]").try_load().is_ok());
    let problem = Setup::new().env("REELHOOK_SINKS__APP__ULR", "x").only_problem();
    assert!(problem.ends_with("did you mean `REELHOOK_SINKS__APP__URL`?"), "{problem}");
    assert!(
        Setup::new().env("REELHOOK_SINKS__APP", "x").only_problem().contains("there is no such variable")
    );
}

#[test]
fn a_sink_may_be_private_or_plain_with_a_warning() {
    let warnings = |url: &str| {
        let warnings = sink("webhook", &format!("url = \"{url}\"")).warnings();
        warnings.into_iter().filter(|warning| warning.starts_with("sinks.app.url (file")).collect::<Vec<_>>()
    };
    assert!(warnings("http://app:3000/x")[0].contains("plain http"));
    assert!(warnings("https://10.0.0.1/x")[0].contains("private network"));
    assert_eq!(warnings("http://10.0.0.1/x").len(), 2);
    assert!(warnings("http://127.0.0.1:3000/x").is_empty() && warnings("https://x.de").is_empty());
}
