//! The provider's callbacks. Whoever calls is a stranger with a token, and what he says is a hint: it is remembered, and
//! our own question decides.

use std::time::{Duration, SystemTime};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web::{self, Bytes, Data, Payload, ServiceConfig},
};
use metrics::counter;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Context, body, finish::protect, kinds, problem::Problem};
use crate::{
    app::{Incoming, Refused},
    lifecycle::JobId,
    provider::signature,
    spans::{Attribute, Span, Work},
};

const OK: &[u8] = b"{\"ok\":true}";
/// However fast there is room again: a flood makes one look a second.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// Longest body of a ping, in bytes: a challenge of the longest kind fits however it is escaped. Whoever sends one has shown
/// no token.
const MAX_PING: usize = 1024;

/// What a ping may ask.
#[derive(Deserialize)]
struct Challenge {
    challenge: String,
}

/// Puts the callback listener's routes into an actix application, whose data must hold a [`Context`]. Callbacks are no
/// route: they come in floods, and to match a path by an expression costs more than to check its token.
pub fn callback(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/cb/ping")
                .route(web::get().to(ping))
                .route(web::post().to(ping))
                .default_service(web::to(nothing)),
        )
        .default_service(web::to(receive));
}

/// Tells an operator that the public address leads here. A challenge in the body is answered with what only this server can
/// say.
async fn ping(request: HttpRequest, payload: Payload, context: Data<Context>) -> HttpResponse {
    match body::read(request.headers(), &mut payload.into_inner(), MAX_PING).await {
        Ok(body) => match serde_json::from_slice::<Challenge>(&body) {
            Ok(Challenge { challenge }) => {
                respond(json!({ "ok": true, "proof": context.app.proof(&challenge) }).to_string().into())
            }
            Err(_) => ok(),
        },
        Err(fault) => refuse(&fault.into()),
    }
}

/// The same for every miss: a guess learns nothing.
async fn nothing(request: HttpRequest, context: Data<Context>) -> HttpResponse {
    miss(&request, &context)
}

fn miss(request: &HttpRequest, context: &Context) -> HttpResponse {
    counter!("reelhook_callback_misses_total").increment(1);
    match context.limits.miss(request.peer_addr().map(|peer| peer.ip())) {
        Ok(()) => refuse(&Problem::not_found("there is nothing here").closing()),
        Err(wait) => refuse(&too_many("too many requests from this address open nothing", wait)),
    }
}

async fn receive(request: HttpRequest, payload: Payload, context: Data<Context>) -> HttpResponse {
    let Some(id) = job(&request, &context) else { return miss(&request, &context) };
    if let Err(wait) = context.limits.callback(id) {
        look_later(&context, id, wait);
        return refuse(&too_many("too many callbacks came for this job; it will be looked at", wait));
    }
    match arrive(&request, payload, &context, id).await {
        Ok(answer) => answer,
        Err(problem) => refuse(&problem),
    }
}

/// The job of `POST /cb/{job}/{token}`, with or without `/callback` behind it, if the token is the job's own. Nothing is
/// read to tell.
fn job(request: &HttpRequest, context: &Context) -> Option<JobId> {
    let path = request.path().strip_prefix("/cb/").filter(|_| request.method() == Method::POST)?;
    let (id, token) = path.strip_suffix("/callback").unwrap_or(path).split_once('/')?;
    context.app.token_is_valid(id, token).then(|| id.parse().ok()).flatten()
}

async fn arrive(
    request: &HttpRequest,
    payload: Payload,
    context: &Context,
    id: JobId,
) -> Result<HttpResponse, Problem> {
    let begun = SystemTime::now();
    let config = context.app.config();
    let settings = &config.callback;
    let header = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
    let read = body::read(request.headers(), &mut payload.into_inner(), settings.body_limit).await;
    let (body, mut refused, mut answer) = match read {
        Ok(body) => (body, None, None),
        // Not read, but something happened, and its sender may never say it again: the job is looked at.
        Err(fault) => (Bytes::new(), Some(Refused::Unread(fault.to_string())), Some(Problem::from(fault))),
    };
    if answer.is_none() {
        let seconds = context.app.now().0.div_euclid(1_000);
        let verified =
            signature::verify(&settings.signature, &settings.signature_secrets, header, &body, seconds);
        if let Err(forged) = verified {
            answer = Some(Problem::new(
                &kinds::UNAUTHENTICATED,
                format!("the signature does not verify: {forged}"),
            ));
            refused = Some(Refused::Signature(forged.to_string()));
        }
    }
    let delivery_id = signature::delivery_id(settings.signature.scheme, header);
    let arrived = context.app.arrive(id, Incoming { body, delivery_id, refused }).await?;
    let mut span = Span::taken_for_job(Work::Callback, arrived.trace.as_deref(), begun);
    span.tell(Attribute::Job, id);
    span.end(arrived.verdict.as_str(), false);
    match (answer, arrived.challenge) {
        (Some(problem), _) => Err(problem),
        (None, Some(challenge)) => Ok(respond(json!({ "challenge": challenge }).to_string().into())),
        (None, None) => Ok(ok()),
    }
}

/// What the callback would have said is not known, and its sender may never say it again: the job is looked at when
/// there is room, once for all that are turned away until then. Should the process end before, the job is asked about
/// as one whose callback never came.
fn look_later(context: &Data<Context>, id: JobId, wait: Duration) {
    if !context.limits.owe(id) {
        return;
    }
    let context = context.clone();
    tokio::spawn(async move {
        tokio::time::sleep(wait.max(LEAST_WAIT)).await;
        context.limits.settle(id);
        let why = "more callbacks came than [callback] rate_limit_per_minute; some were not read".to_owned();
        let refused = Some(Refused::Unread(why));
        let incoming = Incoming { body: Bytes::new(), delivery_id: None, refused };
        if let Err(error) = context.app.arrive(id, incoming).await {
            tracing::warn!(job = %id, %error, "callbacks were turned away, and the job cannot be looked at now");
        }
    });
}

fn too_many(what: &str, wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    Problem::new(&kinds::RATE_LIMITED, format!("{what}; try again in {seconds} s"))
        .with(header::RETRY_AFTER, seconds.to_string())
        .closing()
}

fn ok() -> HttpResponse {
    respond(Bytes::from_static(OK))
}

fn respond(body: Bytes) -> HttpResponse {
    let mut answer = HttpResponse::Ok().content_type("application/json").body(body);
    protect(answer.headers_mut());
    answer
}

fn refuse(problem: &Problem) -> HttpResponse {
    let id = Uuid::now_v7().to_string();
    if problem.is_ours() {
        tracing::warn!(request_id = id, %problem, "a callback could not be taken; its sender should try again");
    }
    let mut answer = problem.response(&id);
    protect(answer.headers_mut());
    answer
}
