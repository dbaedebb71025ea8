//! How soon a finished task is noticed, and for how many questions, when every callback is lost: the real table of the
//! lifecycle, on simulated time, against asking every ten seconds. `--nocapture` prints what ARCHITECTURE shows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "simulation/random.rs"]
#[allow(dead_code, reason = "this test uses its part")]
mod random;
#[path = "support/lifecycle.rs"]
#[allow(dead_code, reason = "this test uses its part")]
mod support;

use random::Random;
use reelhook::lifecycle::{
    CallbackMemory, Change, Duty, Event, Experience, Job, JobId, Lesson, Millis, NewJob, Note, Policy,
    Report, TaskId, Turn,
};
use support::{START, policy};

/// How long a task takes, in milliseconds.
type Duration = fn(&NewJob, &mut Random) -> i64;

/// What was asked for, from the shortest and cheapest to the longest: 60 s to 180 s, and so much by chance.
fn by_request(order: &NewJob, chance: i64, random: &mut Random) -> i64 {
    let length = i64::from(order.duration_s.unwrap()) - 3;
    let pro = i64::from(order.mode.as_deref() == Some("pro"));
    let middle = 60_000 + length * 6_000 + pro * 48_000;
    // The sum of three is close to a bell; within `chance` percent of the middle nearly always.
    let bell = (0..3).map(|_| i64::try_from(random.below(2_001)).unwrap() - 1_000).sum::<i64>();
    middle + middle * chance / 100 * bell / 3_000
}

fn anything(_: &NewJob, random: &mut Random) -> i64 {
    60_000 + i64::try_from(random.below(120_001)).unwrap()
}

fn orders() -> impl Iterator<Item = NewJob> {
    ["std", "pro"].into_iter().flat_map(|mode| {
        [3, 5, 10, 15].map(|length| NewJob {
            model: "kling-3".into(),
            mode: Some(mode.into()),
            duration_s: Some(length),
            callback_expected: true,
            ..NewJob::default()
        })
    })
}

/// Plays one job through until it is known to be done; its delay in milliseconds and the questions it took.
fn play(
    order: &NewJob,
    took: i64,
    calls_back: bool,
    policy: &mut Policy,
    random: &mut Random,
) -> (i64, u32, Option<Turn>) {
    let unique = [0; 10].map(|_: u8| u8::try_from(random.below(256)).unwrap());
    let mut job = Job::new(JobId::new(START, &unique), START, order.clone());
    let task = TaskId("task".into());
    let mut turn = None;
    let mut happen = |job: &mut Job, event: Event, now: Millis, policy: &mut Policy| {
        let Change { job: after, .. } = job.step(&event, now, policy).unwrap();
        if let Some(lesson) = Lesson::of(Some(job), &after) {
            turn = policy.experience.learn(lesson).or(turn);
        }
        *job = after;
    };
    happen(&mut job, Event::Claimed(Duty::Submit), START, policy);
    let lease = job.lease.unwrap();
    happen(&mut job, Event::Accepted(task.clone(), lease), START, policy);
    let done = START.plus(took);
    let mut called = !calls_back;
    loop {
        if !called && job.due_at.unwrap() >= done {
            called = true;
            let note = Note { task: None, duplicate: false, kept_bytes: 1, successor: job.id };
            happen(&mut job, Event::Callback(note), done, policy);
        }
        let now = job.due_at.unwrap();
        happen(&mut job, Event::Claimed(Duty::Ask), now, policy);
        let report = if now >= done {
            Report::Succeeded { links: vec!["https://example.com/v.mp4".into()], credits: None }
        } else {
            Report::Running { word: None, known: true, progress: None }
        };
        let lease = job.lease.unwrap();
        happen(&mut job, Event::Reported(task.clone(), report, lease), now, policy);
        if job.times.confirmed_at.is_some() {
            return (now.since(done), job.attempts.ask, turn);
        }
    }
}

/// What a number of jobs cost.
#[derive(Default)]
struct Figures {
    delays: Vec<i64>,
    asks: u32,
}

impl Figures {
    fn add(&mut self, delay: i64, asks: u32) {
        self.delays.push(delay);
        self.asks += asks;
    }

    fn at(&self, percent: usize) -> f64 {
        let mut sorted = self.delays.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)] as f64 / 1e3
    }

    fn asks(&self) -> f64 {
        f64::from(self.asks) / self.delays.len() as f64
    }

    fn row(&self, name: &str) -> String {
        format!("| {name} | {:.1} | {:.1} s | {:.1} s |", self.asks(), self.at(50), self.at(95))
    }
}

fn product() -> Policy {
    let mut policy = policy();
    policy.poll.first_after = 20_000;
    policy.poll.overdue_after = 240_000;
    policy.poll.interval = 15_000;
    policy
}

/// Every callback is lost, after as many jobs as are remembered had theirs; or from the beginning.
fn lost(duration: Duration, learned: bool) -> (Figures, Figures) {
    let (mut policy, mut random) = (product(), Random::new(7));
    for order in orders() {
        for _ in 0..if learned { 50 } else { 0 } {
            let took = duration(&order, &mut random);
            play(&order, took, true, &mut policy, &mut random);
        }
    }
    // Until that is noticed, three jobs wait as long as if they came.
    let order = orders().next().unwrap();
    while !policy.experience.is_silent() {
        let took = duration(&order, &mut random);
        play(&order, took, false, &mut policy, &mut random);
    }
    let (mut ours, mut fixed) = (Figures::default(), Figures::default());
    for order in orders() {
        for _ in 0..250 {
            let took = duration(&order, &mut random);
            let (delay, asks, _) = play(&order, took, false, &mut policy, &mut random);
            ours.add(delay, asks);
            let asks = took.div_euclid(10_000) + i64::from(took.rem_euclid(10_000) > 0);
            fixed.add(asks * 10_000 - took, u32::try_from(asks).unwrap());
        }
    }
    (ours, fixed)
}

#[test]
fn once_durations_are_learned_a_third_of_the_questions_notices_no_later_than_asking_every_ten_seconds() {
    let within: [(&str, Duration); 2] = [
        ("by request, ±20 %", |order, random| by_request(order, 20, random)),
        ("by request, ±40 %", |order, random| by_request(order, 40, random)),
    ];
    println!("| Durations 60–180 s | Asks a job | Median delay | 95th percentile |\n|---|---|---|---|");
    for (name, duration) in within {
        let (ours, fixed) = lost(duration, true);
        println!("{}\n{}", fixed.row(&format!("{name}: every 10 s")), ours.row(&format!("{name}: learned")));
        assert!(ours.asks() * 3.0 <= fixed.asks(), "{} of {}", ours.asks(), fixed.asks());
        assert!(ours.at(50) <= fixed.at(50), "{} beside {}", ours.at(50), fixed.at(50));
    }
    for (name, learned) in [("anything: learned", true), ("anything: nothing learned", false)] {
        let (ours, fixed) = lost(anything, learned);
        println!("{}", ours.row(name));
        assert!(ours.asks() < fixed.asks() / 2.0);
    }
}

#[test]
fn with_callbacks_that_come_a_job_is_asked_about_once() {
    let (mut policy, mut random, mut figures) = (product(), Random::new(7), Figures::default());
    for order in orders() {
        for _ in 0..250 {
            let took = by_request(&order, 40, &mut random);
            let (delay, asks, turn) = play(&order, took, true, &mut policy, &mut random);
            assert_eq!((delay, turn), (0, None));
            figures.add(delay, asks);
        }
    }
    println!("{}", figures.row("callbacks come: any"));
    assert!(figures.asks() <= 1.2, "{}", figures.asks());
}

#[test]
fn three_jobs_in_a_row_without_their_callback_are_silence_and_one_callback_ends_it() {
    let (mut policy, mut random) = (product(), Random::new(1));
    let order = orders().next().unwrap();
    let mut next = |calls_back| play(&order, 60_000, calls_back, &mut policy, &mut random).2;
    assert_eq!([next(false), next(false), next(true), next(false), next(false)], [None; 5]);
    assert_eq!(next(false), Some(Turn::Silent));
    assert_eq!(next(false), None, "it is said once");
    assert_eq!(next(true), Some(Turn::Recovered));
}

#[test]
fn a_silence_is_recalled_from_the_records() {
    let finished = |received, expected| {
        let mut job = support::job(1, expected);
        job.callback = CallbackMemory { expected, received, ..CallbackMemory::default() };
        job.times.confirmed_at = Some(START);
        job
    };
    let (heard, missed, unasked) = (finished(1, true), finished(0, true), finished(0, false));
    assert!(Experience::of([&heard, &missed, &missed, &unasked, &missed]).is_silent());
    assert!(!Experience::of([&missed, &missed, &missed, &heard]).is_silent());
    assert!(!Experience::of([&unasked, &unasked, &unasked]).is_silent());
}

#[test]
fn a_long_task_is_given_its_usual_time_and_a_quarter_more_before_it_is_asked_about() {
    let (mut policy, mut random) = (product(), Random::new(1));
    let order = orders().next().unwrap();
    for _ in 0..5 {
        play(&order, 600_000, true, &mut policy, &mut random);
    }
    policy.poll.jitter = 0.0;
    let (delay, asks, _) = play(&order, 700_000, false, &mut policy, &mut random);
    assert_eq!((delay, asks), (50_000, 1), "asked about after 750 s, not after 240 s");
}
