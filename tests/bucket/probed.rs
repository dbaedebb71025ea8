//! What the doctor says of a bucket: of a real one, and of object stores that lack something videos need.

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    http::Method,
    web::{self, Bytes, Data},
};
use reelhook::config::{self, Config};
use reelhook::outbound::archive::{Unfit, probe_bucket};
use url::Url;

use super::*;

/// What is wrong with an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    RefusesConditions,
    IgnoresConditions,
    ForgetsMetadata,
    RefusesPieces,
    KeepsPieces,
    GivesOthers,
    RefusesRemoval,
    RefusesAll,
    /// Out of order when a name is taken, when an upload in pieces begins, when one is taken back.
    BusyAtTaken,
    BusyAtPieces,
    BusyAtAbort,
    /// Says of the first file, and of the first upload that is taken back, that it is out of order, and has done it.
    LosesAnswers,
    /// Refuses the first name that is reserved, for a reservation that has ended when one looks whose it is.
    EndsReservation,
}

/// As little of S3 as a probe asks for, kept in memory. Signatures are not looked at.
pub(super) struct FakeS3 {
    flaw: Flaw,
    /// Content and metadata, by path.
    files: Mutex<HashMap<String, (Bytes, String)>>,
    /// Uploads in pieces that were not taken back.
    begun: Mutex<usize>,
    /// A reservation has.
    has_ended: AtomicBool,
}

impl FakeS3 {
    pub(super) async fn start(flaw: Flaw) -> (Arc<Self>, Bucket) {
        let has_ended = AtomicBool::new(false);
        let fake = Arc::new(Self { flaw, files: Mutex::default(), begun: Mutex::default(), has_ended });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let data = Data::from(Arc::clone(&fake));
        let app = move || App::new().app_data(data.clone()).default_service(web::to(answer));
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run());
        let bucket = Seaweed::stopped().settings(Serve::Proxy);
        (fake, Bucket { endpoint: Some(Url::parse(&endpoint).unwrap()), ..bucket })
    }

    fn put(&self, request: &HttpRequest, path: String, body: Bytes) -> HttpResponse {
        let mut files = self.files.lock().unwrap();
        let reserves = self.flaw == Flaw::EndsReservation && path.contains("/.reelhook/names/");
        if reserves && !self.has_ended.swap(true, Relaxed) {
            return refused(412, "PreconditionFailed");
        }
        if request.headers().contains_key("if-none-match") {
            match self.flaw {
                Flaw::BusyAtTaken if files.contains_key(&path) => return busy(),
                Flaw::RefusesConditions => return refused(501, "NotImplemented"),
                Flaw::IgnoresConditions => {}
                _ if files.contains_key(&path) => return refused(412, "PreconditionFailed"),
                _ => {}
            }
        }
        let hash = request.headers().get("x-amz-meta-sha256").filter(|_| self.flaw != Flaw::ForgetsMetadata);
        let hash = hash.map(|hash| hash.to_str().unwrap().to_owned()).unwrap_or_default();
        files.insert(path, (body, hash));
        if self.flaw == Flaw::LosesAnswers {
            return busy();
        }
        HttpResponse::Ok().insert_header(("etag", "\"1\"")).finish()
    }

    fn get(&self, path: &str, is_head: bool) -> HttpResponse {
        let Some((body, hash)) = self.files.lock().unwrap().get(path).cloned() else {
            return refused(404, "NoSuchKey");
        };
        let body = if self.flaw == Flaw::GivesOthers && !is_head {
            Bytes::from(vec![b'x'; body.len()])
        } else {
            body
        };
        let mut answer = HttpResponse::Ok();
        answer
            .insert_header(("etag", "\"1\""))
            .insert_header(("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"));
        if !hash.is_empty() {
            answer.insert_header(("x-amz-meta-sha256", hash));
        }
        answer.body(body)
    }

    fn remove(&self, body: &Bytes) -> HttpResponse {
        let text = String::from_utf8_lossy(body);
        let key = text.split_once("<Key>").and_then(|(_, rest)| Some(rest.split_once("</Key>")?.0)).unwrap();
        if self.flaw == Flaw::RefusesRemoval {
            return refused(403, "AccessDenied");
        }
        self.files.lock().unwrap().remove(&format!("/{}/{key}", seaweed::BUCKET));
        HttpResponse::Ok().body(format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>"))
    }
}

fn refused(status: u16, code: &str) -> HttpResponse {
    HttpResponse::build(status.try_into().unwrap()).body(format!("<Error><Code>{code}</Code></Error>"))
}

fn busy() -> HttpResponse {
    refused(503, "SlowDown")
}

async fn answer(request: HttpRequest, body: Bytes, fake: Data<FakeS3>) -> HttpResponse {
    let (path, query) = (request.path().to_owned(), request.query_string());
    let of_pieces = query.contains("upload");
    match *request.method() {
        _ if fake.flaw == Flaw::RefusesAll => refused(403, "AccessDenied"),
        Method::POST if of_pieces && fake.flaw == Flaw::RefusesPieces => refused(501, "NotImplemented"),
        Method::POST if of_pieces && fake.flaw == Flaw::BusyAtPieces => busy(),
        Method::POST if of_pieces => {
            *fake.begun.lock().unwrap() += 1;
            let begun =
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
            HttpResponse::Ok().body(begun)
        }
        Method::DELETE if of_pieces && fake.flaw == Flaw::KeepsPieces => refused(403, "AccessDenied"),
        Method::DELETE if of_pieces && fake.flaw == Flaw::BusyAtAbort => busy(),
        Method::DELETE if of_pieces => {
            let mut begun = fake.begun.lock().unwrap();
            if *begun == 0 {
                return refused(404, "NoSuchUpload");
            }
            *begun -= 1;
            if fake.flaw == Flaw::LosesAnswers {
                return busy();
            }
            HttpResponse::NoContent().finish()
        }
        Method::POST => fake.remove(&body),
        Method::PUT => fake.put(&request, path, body),
        _ => fake.get(&path, *request.method() == Method::HEAD),
    }
}

/// What `reelhook doctor` says, without a server, of this bucket; `spool` is below the folder.
async fn looked(folder: &Path, bucket: &Bucket) -> Value {
    let storage = format!(
        "[storage]\nurl = \"s3://{}/team/one\"\nspool = \"spool\"\nendpoint = \"{}\"\ncredentials = \"{}\"\n",
        bucket.name,
        bucket.endpoint.as_ref().unwrap(),
        seaweed::KEY
    );
    std::fs::write(folder.join("reelhook.toml"), storage).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reelhook"));
    command.env_clear().env("REELHOOK_SERVER", "http://127.0.0.1:1").current_dir(folder);
    command.args(["doctor", "--json"]);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)))
}

fn check(document: &Value, name: &str) -> Value {
    let checks = document["checks"].as_array().unwrap_or_else(|| panic!("{document}"));
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{document:#}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_well_is_said_to_be_so_and_nothing_is_left_in_it_nor_made_for_it() {
    let server = Seaweed::start().await;
    let folder = tempfile::tempdir().unwrap();
    let document = looked(folder.path(), &server.settings(Serve::Proxy)).await;
    assert_eq!(check(&document, "archive")["verdict"], "ok", "{document:#}");
    assert_eq!(keys(&server.client()).await, Vec::<String>::new());
    let spool = check(&document, "disk");
    assert_eq!(spool["verdict"], "warning", "{document:#}");
    assert!(spool["detail"].as_str().unwrap().contains("not begun"), "{spool}");
    assert!(spool["fix"].as_str().unwrap().contains("is its volume mounted?"), "{spool}");
    assert!(!folder.path().join("spool").exists(), "it would be whose who asked, and hide a missing volume");

    let world = world(server.settings(Serve::Proxy)).await;
    let document = world.post("/v1/doctor", &serde_json::json!({})).await;
    assert_eq!(check(&document, "archive")["verdict"], "ok", "{document:#}");
    assert_eq!(keys(&server.client()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_a_spool_that_is_there_stays_as_it_is() {
    let (folder, (_fake, bucket)) = (tempfile::tempdir().unwrap(), FakeS3::start(Flaw::None).await);
    let spool = folder.path().join("spool");
    let storage =
        config::Storage { root: spool.clone(), bucket: Some(bucket.clone()), ..Config::defaults().storage };
    drop(reelhook::outbound::archive::Archive::open(&storage).await.unwrap());
    // As of a process that was killed: the next start removes both.
    for left in [".reelhook/locks/job_1", "job_1.mp4"] {
        std::fs::write(spool.join(left), "").unwrap();
    }
    let document = looked(folder.path(), &bucket).await;
    assert_eq!(check(&document, "disk")["verdict"], "ok", "{document:#}");
    assert_eq!(spooled(&spool).len(), 2, "{:?}", spooled(&spool));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_an_object_store_lacks_has_a_verdict_and_a_remedy_and_a_passing_fault_is_none_of_them()
 {
    let mut wrong = Vec::new();
    for (flaw, verdict, detail, fix) in [
        (Flaw::None, "ok", "was stored, read and removed", ""),
        (Flaw::RefusesConditions, "failed", "`If-None-Match` (NotImplemented)", "conditional writes"),
        (Flaw::IgnoresConditions, "failed", "can be overwritten", "conditional writes"),
        (Flaw::ForgetsMetadata, "failed", "does not give back", "x-amz-meta-sha256"),
        (Flaw::RefusesPieces, "failed", "can be begun (NotImplemented), so no video over 5 MiB", "multipart"),
        (Flaw::KeepsPieces, "warning", "costs money", "s3:AbortMultipartUpload"),
        (Flaw::GivesOthers, "failed", "not what had been stored", "[storage] url"),
        (Flaw::RefusesRemoval, "failed", "cannot be removed", "delete"),
        (Flaw::RefusesAll, "failed", "no file can be stored", "[storage] url"),
        (Flaw::BusyAtTaken, "failed", "out of order (SlowDown)", "ask again"),
        (Flaw::BusyAtPieces, "failed", "out of order (SlowDown)", "ask again"),
        (Flaw::BusyAtAbort, "failed", "out of order (SlowDown)", "ask again"),
        (Flaw::LosesAnswers, "ok", "was stored, read and removed", ""),
    ] {
        let (fake, bucket) = FakeS3::start(flaw).await;
        let folder = tempfile::tempdir().unwrap();
        let found = check(&looked(folder.path(), &bucket).await, "archive");
        let says = |field: &str, words: &str| found[field].as_str().unwrap_or_default().contains(words);
        let is_clean = fake.files.lock().unwrap().is_empty() == (flaw != Flaw::RefusesRemoval)
            && *fake.begun.lock().unwrap()
                == usize::from(matches!(flaw, Flaw::KeepsPieces | Flaw::BusyAtAbort));
        if !(found["verdict"] == verdict && says("detail", detail) && says("fix", fix) && is_clean) {
            wrong.push(format!("{flaw:?}, clean: {is_clean}, {found:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_may_read_alone_do_not_pass() {
    let server = Seaweed::start().await;
    let reader = Bucket { credentials: Some("readkey:readsecret".into()), ..server.settings(Serve::Proxy) };
    let found = probe_bucket(&reader).await;
    assert!(matches!(found, Err(Unfit::Storing(_))), "{found:?}");
}
