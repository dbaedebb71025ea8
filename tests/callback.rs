//! The callback listener over real sockets: what a stranger can do, with a token and without.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_oneof},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use reelhook::{
    app::App,
    lifecycle::JobId,
    provider::signature::{self, Format, Message, Scheme},
    sandbox::Signing,
};
use reqwest::{Method, header};
use serde_json::{Value, json};
use support::World;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A world in which nothing is sent, and a job with the path of its callback.
async fn waiting() -> (World, String, String) {
    with(|_| ()).await
}

async fn with(adjust: impl FnOnce(&mut reelhook::config::Config)) -> (World, String, String) {
    let world = World::idle(adjust).await;
    let id = world.submit("a bell").await;
    let path = path(world.server().app(), &id);
    (world, id, path)
}

fn path(app: &App, id: &str) -> String {
    app.callback_url(id.parse::<JobId>().unwrap()).unwrap().path().to_owned()
}

async fn verdicts(world: &World, id: &str) -> Vec<String> {
    let list = world.get(&format!("/v1/callbacks?limit=250&job={id}")).await;
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|one| one["verdict"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_callback_is_remembered_before_it_is_acknowledged_and_a_repeat_is_known() {
    let (mut world, id, path) = waiting().await;
    let body = json!({ "code": 200, "data": { "task_id": "task-1", "status": "SUCCESS" } });
    for url in [path.clone(), format!("{path}/callback"), path.clone()] {
        let answer = world.http.post(world.callback_url(&url)).json(&body).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "{\"ok\":true}"));
    }
    assert_eq!(verdicts(&world, &id).await, ["matched", "duplicate", "duplicate"]);
    world.stop_server().await;
    world.start_server().await;
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["callback"]["received"], 3);
}

#[tokio::test]
async fn every_miss_is_answered_alike_and_leaves_no_trace() {
    let (world, id, path) = waiting().await;
    let token = path.rsplit('/').next().unwrap();
    let other = world.submit("another").await;
    let last = if token.ends_with('0') { '1' } else { '0' };
    let near = format!("{}{last}", &token[..63]);
    let misses = [
        format!("/cb/{id}/{near}"),
        format!("/cb/{id}/{}", token.to_uppercase()),
        format!("/cb/{id}/{}", &token[..63]),
        format!("/cb/{id}/{token}0"),
        format!("/cb/{other}/{token}"),
        format!("/cb/job_x/{token}"),
        format!("/cb/%00/{token}"),
        format!("/cb/{}/{token}", "x".repeat(4_000)),
        format!("/cb/{id}"),
        "/".to_owned(),
        "/v1/jobs".to_owned(),
        "/metrics".to_owned(),
        format!("{path}/more"),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for miss in &misses {
        let answer = world.http.post(world.callback_url(miss)).json(&json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{miss}");
        let mut body: Value = answer.json().await.unwrap();
        body.as_object_mut().unwrap().remove("request_id");
        answers.insert(body.to_string());
    }
    for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS] {
        let answer = world.http.request(method.clone(), world.callback_url(&path)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{method}");
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(world.get("/v1/callbacks").await["data"], json!([]));
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["callback"]["received"], 0);
}

#[tokio::test]
async fn a_ping_and_a_challenge_are_answered() {
    let (world, _, path) = waiting().await;
    for method in [Method::GET, Method::POST] {
        let answer = world.http.request(method, world.callback_url("/cb/ping")).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "ok": true }));
    }
    let challenge = json!({ "challenge": "say\"this" });
    let answer = world.http.post(world.callback_url(&path)).json(&challenge).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), challenge);
}

#[tokio::test]
async fn a_ping_is_read_no_further_than_a_challenge_needs_for_anybody_may_send_one() {
    let (world, _, _) = waiting().await;
    let ping = async |body: String, chunked: bool| {
        let request = world.http.post(world.callback_url("/cb/ping"));
        let body = match chunked {
            true => reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(body)])),
            false => body.into(),
        };
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    // As long as one may be written, with every character escaped.
    let longest = format!("{{\"challenge\":\"{}\"}}", "\\u0041".repeat(128));
    for chunked in [false, true] {
        let (status, answer) = ping(longest.clone(), chunked).await;
        assert!(status == 200 && answer["proof"].is_string(), "{answer}");
        assert_eq!(ping(" ".repeat(1024), chunked).await, (200, json!({ "ok": true })));
        let (status, answer) = ping(" ".repeat(1025), chunked).await;
        assert_eq!((status, &answer["code"]), (413, &json!("body-too-large")), "{answer}");
    }
}

#[tokio::test]
async fn an_oversized_body_is_ignored_and_the_job_is_looked_at_all_the_same() {
    let (world, id, path) = waiting().await;
    let large = "x".repeat(world.config.callback.body_limit + 1);
    let answer = world.http.post(world.callback_url(&path)).body(large).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(verdicts(&world, &id).await, ["malformed"]);
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["callback"]["received"], 1);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_makes_the_job_looked_at_and_is_taken_when_it_comes_in_order() {
    let (world, id, path) = waiting().await;
    let post = || world.http.post(world.callback_url(&path)).header("webhook-id", "msg_1");
    let packed = post().header(header::CONTENT_ENCODING, "gzip").body("packed").send().await.unwrap();
    assert_eq!(packed.status(), 415);
    let plain = post().json(&json!({ "task_id": "task-1", "status": "done" })).send().await.unwrap();
    assert_eq!(plain.status(), 200);
    assert_eq!(verdicts(&world, &id).await, ["malformed", "matched"]);
    assert_eq!(world.get(&format!("/v1/jobs/{id}")).await["callback"]["received"], 2);
}

#[tokio::test]
async fn a_signature_that_does_not_verify_is_refused_and_the_job_is_looked_at_all_the_same() {
    let secret = secrecy::SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let configured = secret.clone();
    let (world, id, path) = with(move |config| {
        config.callback.signature = Scheme::StandardWebhooks.into();
        config.callback.signature_secrets = vec![configured];
    })
    .await;
    let body = json!({ "task_id": "task-1", "status": "done" }).to_string();
    let now = jiff::Timestamp::now().as_second();
    let message = Message { id: "msg_1", timestamp: now, body: body.as_bytes() };
    let headers = signature::sign(&Scheme::StandardWebhooks.into(), &secret, message).unwrap();
    let (_, signed) = headers.last().unwrap();
    let post = |signature: &str| {
        let request = world.http.post(world.callback_url(&path)).body(body.clone());
        request
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
    };
    assert_eq!(post("v1,bm9wZQ==").send().await.unwrap().status(), 401);
    assert_eq!(
        world.http.post(world.callback_url(&path)).body(body.clone()).send().await.unwrap().status(),
        401
    );
    assert_eq!(verdicts(&world, &id).await, ["forged", "forged"]);
    let job = world.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(
        (&job["callback"]["received"], &job["task_id"]),
        (&2.into(), &Value::Null),
        "its word counts for nothing"
    );
    assert_eq!(post(signed).send().await.unwrap().status(), 200);
}

/// A provider of this scheme, and what it is verified with.
fn signer(scheme: Scheme) -> (Signing, &'static str) {
    let names_none = matches!(scheme, Scheme::Body | Scheme::SharedSecret);
    let format = Format { header: names_none.then(|| "x-proof".to_owned()), ..scheme.into() };
    let seed = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let (secret, verified_with) = match scheme {
        Scheme::StandardWebhooks => (seed, "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="),
        Scheme::Fal => (seed, "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"),
        _ => ("a shared secret", "a shared secret"),
    };
    (Signing { format, secret: secret.into() }, verified_with)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callbacks_of_a_provider_of_every_scheme_are_taken_and_those_of_another_are_not() {
    for scheme in Scheme::ALL {
        let (signing, secret) = signer(scheme);
        let format = signing.format.clone();
        let world = World::with(|config| {
            config.callback.signature = format;
            config.callback.signature_secrets = vec![secret.into()];
        })
        .await;
        let unsigned = world.submit("[[progress-callbacks]] unsigned").await;
        assert_eq!(world.ended(&unsigned).await["status"], "succeeded", "{scheme}");
        let unsigned = verdicts(&world, &unsigned).await;
        world.sandbox.sign_by(signing);
        let signed = world.submit("[[progress-callbacks]] signed").await;
        assert_eq!(world.ended(&signed).await["status"], "succeeded", "{scheme}");
        let signed = verdicts(&world, &signed).await;
        let forged = |verdicts: &[String]| verdicts.iter().filter(|verdict| *verdict == "forged").count();
        let all_unsigned = if scheme == Scheme::None { 0 } else { unsigned.len() };
        assert!(!unsigned.is_empty() && !signed.is_empty(), "{scheme}");
        assert_eq!((forged(&unsigned), forged(&signed)), (all_unsigned, 0), "{scheme}");
    }
}

#[tokio::test]
async fn a_callback_too_many_is_turned_away_and_its_job_looked_at_all_the_same() {
    const LIMIT: u32 = 40;
    let (world, id, path) = with(|config| config.callback.rate_limit_per_minute = LIMIT).await;
    let mut taken = 0;
    let answer = loop {
        let body = json!({ "task_id": "task-1", "status": format!("step {taken}") });
        let answer = world.http.post(world.callback_url(&path)).json(&body).send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        taken += 1;
    };
    assert!(answer.status() == 429 && taken >= LIMIT, "{answer:?} after {taken}");
    let seconds: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "rate-limited");
    let other = world.submit("another").await;
    let other = self::path(world.server().app(), &other);
    let heard = world.http.post(world.callback_url(&other)).body("{}").send().await.unwrap();
    assert_eq!(heard.status(), 200, "another job has room of its own");
    world.until(&id, |job| job["callback"]["received"] == taken + 1).await;
    assert_eq!(verdicts(&world, &id).await.last().unwrap(), "malformed", "it was not read");
}

#[tokio::test]
async fn a_stranger_s_noise_is_turned_away_and_keeps_no_callback_out() {
    let (world, _, path) = with(|config| config.callback.miss_limit_per_minute = 3).await;
    let mut statuses = Vec::new();
    for miss in ["/cb/x/y", "/", "/cb/x/z", "/cb/x/y", "/metrics"] {
        let answer = world.http.post(world.callback_url(miss)).body("{}").send().await.unwrap();
        assert_eq!(answer.headers().contains_key(header::RETRY_AFTER), answer.status() == 429, "{miss}");
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [404, 404, 404, 429, 429]);
    let heard = world.http.post(world.callback_url(&path)).json(&json!({})).send().await.unwrap();
    assert_eq!(heard.status(), 200, "from the same address");
}

#[tokio::test]
async fn a_compressed_body_is_refused_unread() {
    let (world, _, path) = waiting().await;
    let post = world.http.post(world.callback_url(&path)).header(header::CONTENT_ENCODING, "gzip").body("x");
    assert_eq!(post.send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn a_body_of_any_shape_is_taken_and_kept() {
    let (world, id, path) = waiting().await;
    let shapes: [&[u8]; 7] = [b"", b"{", b"null", b"\xff\xfe\x00", b"[]", b"{\"a\":1e999}", &[b'['; 5_000]];
    for body in shapes {
        let answer = world.http.post(world.callback_url(&path)).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", &body[..body.len().min(20)]);
    }
    assert_eq!(verdicts(&world, &id).await.len(), shapes.len());
}

#[tokio::test]
async fn no_bytes_at_all_make_the_route_fail() {
    let (world, id, path) = waiting().await;
    // Half of it anything, half of it what a provider might send if it lost its mind.
    let plausible = "(\\{|\\[|\\}|\\]|,|:|\"(data|id|task_id|status|result|url|challenge|code)\"|\"[a-z]{1,6}\"|-?[0-9]{1,30}|null|1e9){0,60}";
    let bodies = prop_oneof![vec(any::<u8>(), 0..2_000), plausible.prop_map(String::into_bytes)];
    let header = "[ -~]{0,80}";
    let mut runner = TestRunner::deterministic();
    for _ in 0..400 {
        let (body, name) = (&bodies, header).new_tree(&mut runner).unwrap().current();
        let post = world.http.post(world.callback_url(&path)).header("webhook-id", &name).body(body.clone());
        let answer = post.send().await.unwrap_or_else(|error| panic!("{error}: {body:?} {name:?}"));
        assert_eq!(answer.status(), 200, "{body:?} {name:?}");
    }
    let job = world.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job["callback"]["received"], 400);
    assert_eq!(verdicts(&world, &id).await.len(), 64, "a job has a bounded share of the log");
}

#[tokio::test]
async fn a_valid_token_of_a_job_that_is_not_known_is_taken_and_told_apart() {
    let (world, _, _) = waiting().await;
    let lost = "job_01a2048d0aea7a8e8b0036d39013eadb";
    let path = path(world.server().app(), lost);
    let answer =
        world.http.post(world.callback_url(&path)).json(&json!({ "task_id": "t" })).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(verdicts(&world, lost).await, ["unmatched"]);
}

/// Sends bytes as they are and reads to the end of the connection.
async fn raw(world: &World, request: &str) -> String {
    let mut socket = TcpStream::connect(world.server().callback()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_body_that_stalls_or_trickles_is_given_up() {
    let (world, id, path) = waiting().await;
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    let stalled = raw(&world, &head);
    let trickling = async {
        let mut socket = TcpStream::connect(world.server().callback()).await.unwrap();
        socket.write_all(format!("{head}{{").as_bytes()).await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let mut answer = String::new();
        let trickle = async {
            while writer.write_all(b" ").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        tokio::select! { read = reader.read_to_string(&mut answer) => { read.unwrap(); } () = trickle => {} }
        answer
    };
    let (stalled, trickling) = tokio::join!(stalled, trickling);
    for answer in [stalled, trickling] {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    assert_eq!(verdicts(&world, &id).await, ["malformed"; 2], "and the job is looked at");
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_nothing_is_smuggled_behind_it() {
    let (world, id, path) = waiting().await;
    let smuggled = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +1",
        "Content-Length: -1",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
    ] {
        let answer =
            raw(&world, &format!("POST {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n0\r\n\r\n{smuggled}"))
                .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
    }
    assert_eq!(verdicts(&world, &id).await, [""; 0]);
}
