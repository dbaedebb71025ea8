//! Streams that lose nothing: over restarts, slow readers, many clients, and a log that is not the one it was.

use std::{
    io::BufReader,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use reelhook::{
    app::{self, NewRequest},
    config::{self, Config},
    lifecycle::Millis,
    store::{
        sled,
        transfer::{Entry, Reader, Writer},
    },
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::sse::{Message, Stream};
use crate::support::{PATIENCE, World, order};

/// Jobs that are made at once.
const AT_ONCE: usize = 64;

/// Makes so many jobs, each of which is one event.
async fn flood(world: &World, count: usize, prompt: &str) {
    let app = world.server().app();
    let make = |_| async {
        let request = NewRequest { input: order(prompt)["input"].clone(), ..NewRequest::default() };
        app.create(request, "flood").await.unwrap();
    };
    stream::iter(0..count).map(make).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

async fn idle() -> World {
    World::idle(|config| config.api.queue_limit = 1_000_000).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_clients_get_a_thousand_events_each_in_order_wherever_they_get_on() {
    let world = idle().await;
    flood(&world, 100, "before").await;
    let clients = [0, 50, 100].map(|place| Stream::after(&world, "/v1/events", place));
    let [mut all, mut half, mut live] = <[Stream; 3]>::try_from(join_all(clients).await).ok().unwrap();
    let reading = async { tokio::join!(all.seqs(1_100), half.seqs(1_050), live.seqs(1_000)) };
    let ((), (all, half, live)) = tokio::join!(flood(&world, 1_000, "after"), reading);
    assert_eq!(all, numbers(1..=1_100));
    assert_eq!(half, numbers(51..=1_100));
    assert_eq!(live, numbers(101..=1_100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_costs_a_reader_that_comes_back_nothing() {
    let mut world = idle().await;
    let mut stream = Stream::open(world.http.get(world.url("/v1/events"))).await;
    flood(&world, 150, "before").await;
    let mut seen = stream.seqs(70).await;
    world.stop_server().await;
    while let Some(Message(_, Some(id), _)) = stream.next().await {
        seen.push(id.parse().unwrap());
    }
    world.start_server().await;
    flood(&world, 50, "while the reader was away").await;
    let mut stream = Stream::after(&world, "/v1/events", stream.place.unwrap()).await;
    seen.extend(stream.seqs(200 - seen.len()).await);
    assert_eq!(seen, numbers(1..=200));
    flood(&world, 1, "live").await;
    assert_eq!(stream.seqs(1).await, [201]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_falls_far_behind_loses_nothing_and_holds_up_nobody() {
    const EVENTS: usize = 14_000;
    let world = idle().await;
    let mut slow = tiny_reader(&world).await;
    let mut quick = Stream::after(&world, "/v1/events", 0).await;
    let ((), seen) = tokio::join!(flood(&world, EVENTS, "x"), quick.seqs(EVENTS));
    assert_eq!(seen, numbers(1..=EVENTS as u64));
    let seqs =
        tokio::time::timeout(PATIENCE, read_seqs(&mut slow, EVENTS)).await.expect("events are missing");
    assert_eq!(seqs, numbers(1..=EVENTS as u64));
}

/// The numbers of so many events, as they come.
async fn read_seqs(reader: &mut TcpStream, count: usize) -> Vec<u64> {
    let (mut text, mut chunk, mut seqs) = (String::new(), vec![0; 64 * 1024], Vec::new());
    while seqs.len() < count {
        let read = reader.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the stream ended");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let ids = text[..whole].lines().filter_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok());
        seqs.extend(ids.filter(|seq| *seq > 0));
        text.drain(..whole);
    }
    seqs
}

/// A connection that takes next to nothing until it is read from.
async fn tiny_reader(world: &World) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = world.server().api();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(socket.into()).unwrap();
    let head = format!(
        "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\nLast-Event-ID: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_beyond_the_end_or_before_the_beginning_of_the_log_is_answered_with_a_reset() {
    let mut world = idle().await;
    let id = world.submit("one").await;
    flood(&world, 9, "x").await;
    world.stop_server().await;
    world.config.store.path = forgotten(&world.config, world.dir.path(), 4);
    world.start_server().await;
    let reset = Message("reset".into(), Some("4".into()), json!({ "oldest": 5, "newest": 10 }));
    for path in ["/v1/events".to_owned(), "/v1/events?tag=x".to_owned(), format!("/v1/jobs/{id}/events")] {
        for place in [0, 3, 11, 4_000, u64::MAX] {
            let mut stream = Stream::after(&world, &path, place).await;
            assert_eq!(stream.next().await.unwrap(), reset, "{path} {place}");
        }
    }
    for place in [4, 5, 9] {
        assert_eq!(Stream::after(&world, "/v1/events", place).await.seqs(1).await, [place + 1]);
    }
    let mut end = Stream::after(&world, "/v1/events", 10).await;
    flood(&world, 1, "live").await;
    assert_eq!(end.seqs(1).await, [11]);
}

/// The same store without its first events, as when they have been kept for long enough; where it is.
fn forgotten(config: &Config, dir: &Path, first: u64) -> PathBuf {
    let (store, policy) = (&config.store, app::policy(config));
    let mut lines = Vec::new();
    sled::export(store, None, true, Millis(1), &mut lines).unwrap();
    let (header, mut reader) = Reader::begin(BufReader::new(lines.as_slice())).unwrap();
    let mut kept = Vec::new();
    let mut writer = Writer::begin(&mut kept, header).unwrap();
    while let Some(entry) = reader.read().unwrap() {
        match entry {
            Entry::Event(event) if event.seq <= first => {}
            Entry::Trailer(_) => break,
            entry => writer.put(entry).unwrap(),
        }
    }
    writer.end().unwrap();
    let path = dir.join("without the first events");
    let config = config::Store { path: path.clone(), ..store.clone() };
    sled::import(&config, BufReader::new(kept.as_slice()), Millis(1), &policy).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_comes_back_to_a_finished_stream_is_told_to_stop() {
    let world = World::start().await;
    let id = world.submit("one").await;
    world.ended(&id).await;
    let path = format!("/v1/jobs/{id}/events");
    let mut stream = Stream::open(world.http.get(world.url(&path))).await;
    while stream.next().await.is_some() {}
    let last = stream.place.unwrap();
    for place in [last, last + 1] {
        // Somebody else's event comes later.
        world.submit("two").await;
        let request = world.http.get(world.url(&path)).header("accept", "text/event-stream");
        let answer = request.header("last-event-id", place.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
    let mut again = Stream::after(&world, &path, last - 1).await;
    assert_eq!(again.next().await.unwrap().1, Some(last.to_string()));
    assert_eq!(again.next().await.unwrap().0, "done");
    assert_eq!(again.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_tag_follows_new_jobs_with_it_and_no_others() {
    let world = idle().await;
    let mut stream = Stream::open(world.http.get(world.url("/v1/events?tag=red"))).await;
    assert!(stream.block().await.unwrap().contains("id: 0"), "the place is named before anything happens");
    flood(&world, 20, "without").await;
    let mut body = order("with");
    body["tags"] = json!(["blue", "red"]);
    let id = world.post("/v1/jobs", &body).await["id"].clone();
    let Message(kind, seq, data) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), seq.as_deref(), &data["job_id"]), ("job.created", Some("21"), &id));
    world.post(&format!("/v1/jobs/{}/cancel", id.as_str().unwrap()), &json!({})).await;
    assert_eq!(stream.next().await.unwrap().0, "job.canceled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_never_matches_reads_a_bounded_part_and_says_how_far() {
    const EVENTS: u64 = 5_100;
    let world = idle().await;
    flood(&world, EVENTS as usize, "x").await;
    let page = world.get("/v1/events?types=job.failed").await;
    let read_to = page["read_to"].as_u64().unwrap();
    assert!(page["data"].as_array().unwrap().is_empty() && read_to < EVENTS, "{page}");
    assert_eq!(page["next_cursor"], read_to.to_string());
    let rest = world.get(&format!("/v1/events?types=job.failed&after={read_to}")).await;
    assert_eq!(rest, json!({ "data": [], "next_cursor": null, "read_to": EVENTS }));
    let mut stream = Stream::after(&world, "/v1/events?types=job.failed", 0).await;
    let block = stream.block().await.unwrap();
    assert!(
        block.contains(&format!("id: {EVENTS}\n")),
        "a reader that comes back need not begin anew: {block}"
    );
    assert!(!block.contains("data:"), "{block}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_answers_when_the_job_has_changed_and_304_when_it_has_not() {
    let world = idle().await;
    let id = world.submit("one").await;
    let path = format!("/v1/jobs/{id}");
    let poll = |etag: &str, wait: &str| {
        let request = world.http.get(world.url(&path)).header("if-none-match", etag);
        request.header("prefer", format!("wait={wait}")).send()
    };
    assert_eq!(poll("\"1\"", "1").await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let (cancel, nothing) = (format!("{path}/cancel"), json!({}));
    let (answer, _) = tokio::join!(poll("\"1\"", "60"), world.post(&cancel, &nothing));
    let job: Value = answer.unwrap().json().await.unwrap();
    assert_eq!((&job["status"], &job["revision"]), (&json!("canceled"), &json!(2)));
}
