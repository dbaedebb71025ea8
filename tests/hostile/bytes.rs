//! What is wrong at the first glance is answered at once.

use std::io::ErrorKind;

use tokio::io::AsyncWriteExt as _;

use super::{House, hear, patience::CHUNKED};

/// A small gzip member; what it would become does not matter.
const PACKED: &str = "\u{1f}\u{8b}\u{8}\0\0\0\0\0\0\u{3}";

#[tokio::test]
async fn bytes_that_are_no_http_are_refused() {
    let house = House::new().await;
    let noise: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let openings: [(&str, &[u8]); 10] = [
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        ("SMTP", b"EHLO example.com\r\n\r\n"),
        ("Redis", b"*1\r\n$4\r\nPING\r\n\r\n"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("HTTP/9", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"),
        ("HTTP/0.9", b"GET /\r\n\r\n"),
        ("NULs", &[0; 1_000]),
        ("a NUL in a header", b"GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n"),
        ("noise", &noise),
    ];
    for door in &house.doors {
        for (what, bytes) in openings {
            let answers = door.say(bytes).await;
            assert_eq!(answers.statuses(), [400], "{what} at {door:?}: {answers:?}");
        }
    }
    house.assert_serves().await;
    assert_eq!(house.received().await, 0);
}

#[tokio::test]
async fn a_head_without_measure_is_refused() {
    let house = House::new().await;
    let start = "GET /cb/ping HTTP/1.1\r\nHost: localhost\r\n";
    let heads = [
        ("a long header", format!("{start}X: {}\r\n\r\n", "x".repeat(200_000)), 431),
        ("many headers", format!("{start}{}\r\n", "X: x\r\n".repeat(200)), 431),
        ("a head without an end", format!("{start}X: {}", "x".repeat(200_000)), 431),
        ("a long line", format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000)), 400),
    ];
    for door in &house.doors {
        for (what, head, status) in &heads {
            let answers = door.say(head).await;
            assert_eq!(answers.statuses(), [*status], "{what} at {door:?}: {answers:?}");
        }
    }
    house.assert_serves().await;
}

#[tokio::test]
async fn a_body_without_measure_is_refused_before_it_comes() {
    let house = House::new().await;
    for door in &house.doors {
        for length in [1_u64 << 24, 10 << 30, u64::MAX] {
            let answers = door.say(door.post(&format!("Content-Length: {length}"))).await;
            assert_eq!(answers.statuses(), [413], "{length} at {door:?}: {answers:?}");
        }
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let answers = door.say(door.post("Transfer-Encoding: chunked") + &chunk.repeat(40)).await;
        assert_eq!(answers.statuses(), [413], "in chunks at {door:?}: {answers:?}");
    }
    house.assert_serves().await;
    assert_eq!(house.received().await, 4, "something happened each time, so the job is looked at");
}

#[tokio::test]
async fn a_body_that_is_a_little_too_large_is_let_past_before_it_is_refused() {
    let house = House::new().await;
    let limits = [house.world.config.server.body_limit, house.world.config.callback.body_limit];
    for (door, limit) in house.doors.iter().zip(limits) {
        let (measured, chunk) = (format!("Content-Length: {}", limit + 2), format!("{:x}\r\n", limit + 2));
        for (framing, size, rest) in [(&*measured, "", " "), (CHUNKED, &*chunk, " \r\n0\r\n\r\n")] {
            let mut socket = door.enter().await;
            let head = door.post(&format!("{framing}\r\nConnection: close"));
            let beginning = head + size + &" ".repeat(limit + 1);
            socket.write_all(beginning.as_bytes()).await.unwrap();
            house.assert_serves().await;
            let early = socket.try_read(&mut [0; 16]).map_err(|error| error.kind());
            assert_eq!(early, Err(ErrorKind::WouldBlock), "a proxy that still sends would make it a 502");
            socket.write_all(rest.as_bytes()).await.unwrap();
            assert_eq!(hear(&mut socket).await.statuses(), [413], "{framing} at {door:?}");
        }
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_unread_however_it_is_packed() {
    let house = House::new().await;
    for door in &house.doors {
        for packing in
            ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "identity", ""]
        {
            let framing = format!("Content-Encoding: {packing}\r\nContent-Length: 1000000");
            let answers = door.say(door.post(&framing) + PACKED).await;
            assert_eq!(answers.statuses(), [415], "{packing} at {door:?}: {answers:?}");
        }
    }
    house.assert_serves().await;
}

#[tokio::test]
async fn chunks_that_are_none_are_refused() {
    let house = House::new().await;
    let bodies = [
        ("no number", "zz\r\n{}\r\n0\r\n\r\n"),
        ("a sign", "-2\r\n{}\r\n0\r\n\r\n"),
        ("a prefix", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("a size that overflows", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("the largest size that does not", "ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("more than its size", "1\r\n{}\r\n0\r\n\r\n"),
        ("no line end behind the size", "2;{}0;;"),
        ("a line feed alone", "2\n{}\n0\n\n"),
        ("no end", "2\r\n{}\r\n"),
    ];
    for door in &house.doors {
        for (what, body) in bodies {
            let answers = door.say_all(door.post("Transfer-Encoding: chunked") + body).await;
            // Who breaks the framing has hung up, says actix: an answer that takes a moment is not given any more.
            assert!(matches!(answers.statuses()[..], [] | [400]), "{what} at {door:?}: {answers:?}");
        }
    }
    house.assert_serves().await;
}

#[tokio::test]
async fn a_connection_that_is_closed_on_one_side_is_answered_on_the_other_and_ends() {
    let house = House::new().await;
    let [api, callback] = &house.doors;
    let whole = "{\"input\":{\"model\":\"kling-3\",\"prompt\":\"x\",\"duration\":3}}";
    for door in &house.doors {
        let post = |length: usize| door.post(&format!("Content-Length: {length}")) + whole;
        assert_eq!(door.say_all(post(whole.len())).await.statuses(), [200], "whole at {door:?}");
        assert_eq!(door.say_all(post(whole.len() + 1)).await.statuses(), [400], "a body cut off at {door:?}");
        for nothing in ["", "P", "POST / HTTP/1.1\r\nHost: localhost\r\n"] {
            assert_eq!(door.say_all(nothing).await.statuses(), [0_u16; 0], "{nothing:?} at {door:?}");
        }
    }
    assert_eq!(house.received().await, 2);
    for (door, path) in [(api, "/livez"), (callback, "/cb/ping")] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(door.say_all(get).await.statuses(), [200], "{door:?}");
    }
}

#[tokio::test]
async fn requests_in_one_breath_are_answered_in_order_up_to_the_first_that_is_none() {
    let house = House::new().await;
    for (door, path) in house.doors.iter().zip(["/livez", "/cb/ping"]) {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let hundred = door.say_all(get(path).repeat(100)).await;
        assert_eq!(hundred.statuses(), [200; 100], "{door:?}");
        let mixed = door.say([get(path), get("/nothing"), "\0\r\n\r\n".to_owned(), get(path)].concat()).await;
        assert_eq!(mixed.statuses()[..2], [200, 404], "{door:?}: {mixed:?}");
    }
    house.assert_serves().await;
}
