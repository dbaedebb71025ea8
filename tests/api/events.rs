//! The event log as JSON and as a stream.

use serde_json::{Value, json};

use super::sse::{Message, Stream};
use crate::support::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_a_job_tells_its_whole_story_and_ends_with_done() {
    let world = World::start().await;
    let id = world.submit("[[size:2MiB]] [[slow-download:700kB]] a glacier").await;
    let path = format!("/v1/jobs/{id}/events");
    let mut stream = Stream::open(world.http.get(world.url(&path))).await;
    let (mut kinds, mut seqs, mut progress) = (Vec::new(), Vec::new(), 0);
    loop {
        let Message(kind, seq, data) = stream.next().await.expect("done comes first");
        match kind.as_str() {
            "done" => {
                assert_eq!(
                    (seq, &data["status"], &data["id"]),
                    (None, &"succeeded".into(), &id.as_str().into())
                );
                break;
            }
            "job.progress" => {
                assert_eq!(seq, None, "a reader must not resume after it");
                assert!(data["data"]["bytes_done"].is_u64());
                progress += 1;
            }
            _ => {
                assert_eq!((&data["type"], &data["job_id"]), (&kind.as_str().into(), &id.as_str().into()));
                seqs.push(seq.unwrap().parse::<u64>().unwrap());
                kinds.push(kind);
            }
        }
    }
    assert_eq!(stream.next().await, None);
    assert_eq!(kinds, world.timeline(&id).await);
    assert!(seqs.is_sorted() && progress > 0, "{seqs:?} {progress}");
    let mut again =
        Stream::open(world.http.get(world.url(&path)).header("last-event-id", seqs[1].to_string())).await;
    for expected in &seqs[2..] {
        assert_eq!(again.next().await.unwrap().1, Some(expected.to_string()));
    }
    assert_eq!(again.next().await.unwrap().0, "done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let world = World::start().await;
    let first = world.submit("one").await;
    world.ended(&first).await;
    let log = world.get("/v1/events?limit=250").await;
    let seqs: Vec<u64> =
        log["data"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let request = world.http.get(world.url("/v1/events?after=999")).header("last-event-id", "2");
    let mut stream = Stream::open(request).await;
    for expected in &seqs[2..] {
        assert_eq!(
            stream.next().await.unwrap().1,
            Some(expected.to_string()),
            "the header goes before the query"
        );
    }
    let second = world.submit("two").await;
    let live = stream.next().await.unwrap();
    assert_eq!((live.0.as_str(), &live.2["job_id"]), ("job.created", &second.as_str().into()));
    assert_eq!(live.1, Some((seqs.len() + 1).to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_place_begins_now_and_a_filter_holds() {
    let world = World::start().await;
    let old = world.submit("one").await;
    world.ended(&old).await;
    let mut stream =
        Stream::open(world.http.get(world.url("/v1/events?types=job.succeeded,job.failed"))).await;
    let new = world.submit("two").await;
    let message = stream.next().await.unwrap();
    assert_eq!((message.0.as_str(), &message.2["job_id"]), ("job.succeeded", &new.as_str().into()));
    let page = world.get(&format!("/v1/events?types=job.created&job={old}")).await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["next_cursor"]), (1, &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_the_log_does_not_have_is_answered_with_a_reset() {
    let world = World::start().await;
    let id = world.submit("one").await;
    world.ended(&id).await;
    let newest = world.get("/v1/events?limit=250").await["data"].as_array().unwrap().len();
    let mut stream =
        Stream::open(world.http.get(world.url("/v1/events")).header("last-event-id", "4000")).await;
    let reset = stream.next().await.unwrap();
    assert_eq!(reset, Message("reset".into(), Some("0".into()), json!({ "oldest": 1, "newest": newest })));
    assert_eq!(stream.next().await.unwrap().1.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_the_log_join_without_a_gap() {
    let world = World::start().await;
    let id = world.submit("one").await;
    world.ended(&id).await;
    let (mut after, mut seqs) = ("0".to_owned(), Vec::new());
    loop {
        let page = world.get(&format!("/v1/events?limit=2&after={after}")).await;
        seqs.extend(page["data"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()));
        match page["next_cursor"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_does_not_hold_up_a_stop() {
    let mut world = World::with(|config| config.server.shutdown_grace = PATIENCE * 10).await;
    let mut stream = Stream::open(world.http.get(world.url("/v1/events"))).await;
    tokio::time::timeout(PATIENCE, world.stop_server()).await.expect("the stream ends by itself");
    assert_eq!(stream.next().await, None);
}
