//! The provider's callbacks. Whoever calls is a stranger with a token, and what he says is a hint: it is remembered, and
//! our own question decides.

use actix_web::{
    HttpRequest, HttpResponse,
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
};

const OK: &[u8] = b"{\"ok\":true}";

/// What a ping may ask.
#[derive(Deserialize)]
struct Challenge {
    challenge: String,
}

/// Puts the callback listener's routes into an actix application, whose data must hold a [`Context`].
pub fn callback(config: &mut ServiceConfig) {
    config.service(
        web::resource("/cb/ping")
            .route(web::get().to(ping))
            .route(web::post().to(ping))
            .default_service(web::to(nothing)),
    );
    // Apart, since a resource of several paths matches each twice.
    for path in ["/cb/{job}/{token}", "/cb/{job}/{token}/callback"] {
        config.service(web::resource(path).route(web::post().to(receive)).default_service(web::to(nothing)));
    }
    config.default_service(web::to(nothing));
}

/// Tells an operator that the public address leads here. A body is read as a callback's is; a challenge in it is answered
/// with what only this server can say.
async fn ping(request: HttpRequest, payload: Payload, context: Data<Context>) -> HttpResponse {
    let limit = context.app.config().callback.body_limit;
    match body::read(request.headers(), &mut payload.into_inner(), limit).await {
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
async fn nothing() -> HttpResponse {
    counter!("reelhook_callback_misses_total").increment(1);
    refuse(&Problem::not_found("there is nothing here").closing())
}

async fn receive(request: HttpRequest, payload: Payload, context: Data<Context>) -> HttpResponse {
    let Some(id) = job(&request, &context) else { return nothing().await };
    match arrive(&request, payload, &context, id).await {
        Ok(answer) => answer,
        Err(problem) => refuse(&problem),
    }
}

/// The job of the path, if the token is the job's own. Nothing is read to tell.
fn job(request: &HttpRequest, context: &Context) -> Option<JobId> {
    let path = request.match_info();
    let (id, token) = (path.get("job")?, path.get("token")?);
    context.app.token_is_valid(id, token).then(|| id.parse().ok()).flatten()
}

async fn arrive(
    request: &HttpRequest,
    payload: Payload,
    context: &Context,
    id: JobId,
) -> Result<HttpResponse, Problem> {
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
            signature::verify(settings.signature, &settings.signature_secrets, header, &body, seconds);
        if let Err(forged) = verified {
            answer = Some(Problem::new(
                &kinds::UNAUTHENTICATED,
                format!("the signature does not verify: {forged}"),
            ));
            refused = Some(Refused::Signature(forged.to_string()));
        }
    }
    let delivery_id = signature::delivery_id(header);
    let arrived = context.app.arrive(id, Incoming { body, delivery_id, refused }).await?;
    match (answer, arrived.challenge) {
        (Some(problem), _) => Err(problem),
        (None, Some(challenge)) => Ok(respond(json!({ "challenge": challenge }).to_string().into())),
        (None, None) => Ok(ok()),
    }
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
