//! What a job that is sent again costs.

use reelhook::{
    app::NewRequest,
    lifecycle::{Duty, Event, RetryMode, TaskId},
};
use serde_json::json;

use crate::{Break, tasks::finish, world::World};

/// A job that follows another one for free, and is then sent again, is paid for as its request says.
#[test]
fn a_follow_up_that_cost_nothing_is_sent_again_at_the_full_price() {
    let world = World::new(1, Break::Nothing, false);
    let (app, disk) = (world.app(), &world.disk);
    let done = finish(
        async {
            let input = json!({ "model": "kling-3", "prompt": "a fox", "duration": 5 });
            let first = app.create(NewRequest { input, ..NewRequest::default() }, "web").await.unwrap().job;
            let lease = app.claim(Duty::Submit, 1).await.unwrap()[0].lease.unwrap();
            app.apply(first.id, &Event::Accepted(TaskId("task-1".into()), lease)).await.unwrap();
            app.cancel(first.id).await.unwrap();
            let free = app.retry(first.id, RetryMode::Recheck, false).await.unwrap().job;
            app.cancel(free.id).await.unwrap();
            let paid = app.retry(free.id, RetryMode::Resubmit, false).await.unwrap().job;
            [first, free, paid].map(|job| (job.cost.estimated_credits, job.cost.reserved.map(|r| r.credits)))
        },
        || disk.sync(),
    );
    assert_eq!(done, [(300, Some(300)), (0, None), (300, Some(300))]);
}
