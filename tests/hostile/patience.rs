//! What is slow is waited for, but not for ever. The cases run side by side, for each lasts as long as a deadline.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{Answers, Door, House, hear, support::PATIENCE};

/// The opening of a chunked body.
pub(super) const CHUNKED: &str = "Transfer-Encoding: chunked";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_slow_is_waited_for_but_not_for_ever() {
    let house = House::new().await;
    let [api, callback] = house.doors.clone();
    let slow = async { tokio::join!(all(&api, "/livez"), all(&callback, "/cb/ping")) };
    let good = async {
        for _ in 0..50 {
            house.assert_serves().await;
        }
    };
    tokio::join!(slow, good);
    house.assert_serves().await;
    assert_eq!(house.received().await, 4, "each body that was begun makes the job looked at");
}

/// Everything slow at one door. `open` is a path that answers a GET.
async fn all(door: &Door, open: &str) {
    tokio::join!(
        silent(door),
        slow_head(door),
        slow_later_head(door, open),
        slow_bodies(door),
        unread_bodies(door),
        untaken_answers(door, open),
    );
}

async fn silent(door: &Door) {
    assert_eq!(door.say("").await.statuses(), [408], "nothing said at {door:?}");
}

async fn slow_head(door: &Door) {
    let answers = trickle(door.enter().await, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await;
    assert_eq!(answers.statuses(), [408], "a head by and by at {door:?}");
}

async fn slow_later_head(door: &Door, open: &str) {
    let first = format!("GET {open} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answers = trickle(door.enter().await, &format!("{first}GET / HTTP/1.1\r\nX: ")).await;
    assert_eq!(answers.statuses(), [200], "a later head by and by at {door:?}");
}

async fn slow_bodies(door: &Door) {
    let (stalled, measured, chunked, long) = tokio::join!(
        door.say(door.post("Content-Length: 100") + "{"),
        async { trickle(door.enter().await, &(door.post("Content-Length: 1000") + "{")).await },
        async { trickle(door.enter().await, &(door.post(CHUNKED) + "1000\r\n{")).await },
        door.say(door.post(CHUNKED) + "1000\r\n{"),
    );
    for (what, answers) in
        [("no", stalled), ("a measured", measured), ("a chunked", chunked), ("half a", long)]
    {
        assert_eq!(answers.statuses(), [408], "{what} body by and by at {door:?}: {answers:?}");
    }
}

/// The route does not exist, so nobody reads the body.
async fn unread_bodies(door: &Door) {
    let nowhere = Door { path: "/nowhere".to_owned(), ..door.clone() };
    let (measured, chunked, stalled) = tokio::join!(
        async { trickle(door.enter().await, &nowhere.post("Content-Length: 1000000")).await },
        async { trickle(door.enter().await, &(nowhere.post(CHUNKED) + "fffff\r\n")).await },
        door.say(nowhere.post(CHUNKED)),
    );
    for (what, answers) in [("a measured", measured), ("a chunked", chunked), ("no", stalled)] {
        assert_eq!(answers.statuses(), [404], "{what} body for nobody at {door:?}: {answers:?}");
    }
}

/// Asks on and on, and takes no answer.
async fn untaken_answers(door: &Door, open: &str) {
    let mut socket = door.enter().await;
    let request = format!("GET {open} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let ask = async { while socket.write_all(request.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, ask).await.expect("the connection is held for ever");
}

/// Says this and then a byte now and then, until the server closes.
async fn trickle(socket: TcpStream, beginning: &str) -> Answers {
    let (mut hears, mut speaks) = socket.into_split();
    speaks.write_all(beginning.as_bytes()).await.unwrap();
    let speaking = tokio::spawn(async move {
        // The rhythm of the attack, not a wait for anything.
        let mut rhythm = tokio::time::interval(Duration::from_millis(200));
        while speaks.write_all(b"x").await.is_ok() {
            rhythm.tick().await;
        }
    });
    let answers = hear(&mut hears).await;
    speaking.abort();
    answers
}
