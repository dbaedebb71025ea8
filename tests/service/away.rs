//! A store that is away while a copy is recorded.

use std::{cell::Cell, sync::Arc};

use reelhook::{
    app::NewRequest,
    lifecycle::{Duty, Event, Job, Phase, Report, TaskId},
    runner::Duties,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Break, tasks::finish, wire, world::World};

/// So often the copy waits for something while the store is away.
const TURNS: u32 = 8;

/// The file is stored and recorded; then the store is away where its document is to be read for the manifest.
#[test]
fn a_copy_is_not_to_blame_for_a_store_that_is_away_at_its_manifest() {
    let world = World::new(1, Break::Nothing, false);
    let (app, disk) = (world.app(), &world.disk);
    let duties = Duties::new(Arc::clone(app));
    let job = finish(
        async {
            let input = json!({ "model": "kling-3", "prompt": "a fox", "duration": 5 });
            let id = app.create(NewRequest { input, ..NewRequest::default() }, "web").await.unwrap().job.id;
            let lease = |jobs: Vec<Job>| jobs[0].lease.unwrap();
            let task = TaskId("task-1".into());
            let submit = lease(app.claim(Duty::Submit, 1).await.unwrap());
            app.apply(id, &Event::Accepted(task.clone(), submit)).await.unwrap();
            world.pass(3_600_000);
            let ask = lease(app.claim(Duty::Ask, 1).await.unwrap());
            let done = Report::Succeeded { links: vec!["https://them.example/v.mp4".into()], credits: None };
            app.apply(id, &Event::Reported(task, done, ask)).await.unwrap();
            app.claim(Duty::Fetch, 1).await.unwrap().remove(0)
        },
        || disk.sync(),
    );
    let id = job.id;

    let (stop, was_away, was_sealed) = (CancellationToken::new(), Cell::new(0), Cell::new(false));
    let get = async |_| Ok(wire::stored("v.mp4".into(), "key"));
    let seal = async |_| {
        was_sealed.set(true);
        Ok(())
    };
    finish(duties.fetch(job, "key", &stop, get, seal), || {
        disk.sync();
        let is_stored = disk.look(|tables| tables.job(id).unwrap().files().next().is_some());
        was_away.update(|turns| turns + u32::from(is_stored));
        disk.set_away((1..TURNS).contains(&was_away.get()));
        world.pass(1_000);
    });

    let left = disk.look(|tables| tables.job(id).unwrap().clone());
    assert!(was_away.get() > TURNS && !was_sealed.get(), "or it never was at its manifest without a store");
    let Phase::Fetching { trouble, attempts, .. } = left.phase else { panic!("{left:?}") };
    assert_eq!(
        (trouble, attempts, left.lease),
        (0, 0, None),
        "it goes on at once, and nothing is held against it"
    );
}
