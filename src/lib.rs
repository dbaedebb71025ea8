//! reelhook submits video jobs with a callback URL that points at itself, remembers them, receives the completion
//! webhook, downloads the finished video into storage, and asks the provider about every callback that never arrives.
//!
//! *Inbound calls are given to the app, the lifecycle decides, the store remembers, the runner has outbound do it.*
//!
//! 1. [`inbound`] takes a request and hands it to the [`app`], which prices it and lets the [`store`] remember it.
//! 2. The [`runner`] waits for what is due, claims it durably, and only then has [`outbound`] call somebody.
//! 3. Whatever is learned, by an answer, a callback or a person, is an event; [`App::apply`](app::App::apply) loads
//!    the job, lets the pure [`lifecycle`] step, and writes the change if nobody was faster.
//! 4. What the provider says is read by [`provider`], which is pure as well. A callback is only a hint: it makes our
//!    own question due, and the task route decides.
//!
//! Rules that the code keeps everywhere: a claim is durable before a byte leaves; a lost answer is never sent again;
//! an acknowledgement waits for the sync of what it saw; an outcome never changes; `succeeded` means stored and
//! verified. Knowledge runs one way, from [`lifecycle`] and [`provider`], which know nothing of ours, to [`server`],
//! which puts everything together; `tests/tidy.rs` holds it.

pub mod app;
pub mod chaos;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod disk;
pub mod doctor;
pub mod entropy;
pub mod inbound;
pub mod keys;
pub mod lifecycle;
pub mod live;
pub mod outbound;
pub mod provider;
pub mod refusal;
pub mod runner;
pub mod sandbox;
pub mod server;
pub mod spans;
pub mod store;
pub mod telemetry;
