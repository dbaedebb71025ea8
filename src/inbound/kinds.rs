//! The kinds of problems: what a client can tell apart and act on.

use actix_web::http::StatusCode;

/// A kind of problem.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name: the `code`, and the end of the `type`.
    pub(super) slug: &'static str,
    /// The usual status.
    pub(super) status: StatusCode,
    /// The same words each time.
    pub(super) title: &'static str,
    /// The same request can succeed without a change.
    pub(super) retryable: bool,
    /// What its page says; without one it means no more than its status and has no page.
    pub(super) page: Option<&'static str>,
}

macro_rules! kinds {
    ($($name:ident $slug:literal $status:ident $retryable:literal $title:literal $page:literal;)*) => {
        $(pub(super) static $name: Kind = Kind {
            slug: $slug,
            status: StatusCode::$status,
            title: $title,
            retryable: $retryable,
            page: Some($page),
        };)*
        /// Every kind that has a page.
        pub(super) static ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    INVALID_INPUT "invalid-input" UNPROCESSABLE_ENTITY false "The request is not valid"
        "Some part of the request breaks a rule. `errors` names every place with a JSON pointer into the body (or the name of a query parameter or header), a code and a sentence. With status 400 the body is not JSON at all. No job was created and nothing was spent: correct the request and send it again.";
    UNAUTHENTICATED "unauthenticated" UNAUTHORIZED false "An API key is needed"
        "No key came with the request, or one that this server does not know, or one that was revoked or has expired. Send `Authorization: Bearer <key>`. Keys are made with `reelhook keys create`.";
    FORBIDDEN "forbidden" FORBIDDEN false "Not allowed"
        "The key is good but lacks the scope that the route needs; or a signed link is wrong or has expired; or the server runs without keys, where requests are only taken from this machine and from its own pages, and none by which a proxy says that it hands it on, so that no foreign web page and no such proxy can spend credits. A proxy that says nothing cannot be told from an app on this machine: to serve others, set a key.";
    JOB_NOT_FOUND "job-not-found" NOT_FOUND false "There is no such job"
        "The id is not one of a job that this server knows. Jobs are forgotten after `[retention] jobs`, and their `Idempotency-Key` with them: sent again, it makes a new job.";
    IDEMPOTENCY_KEY_REUSED "idempotency-key-reused" UNPROCESSABLE_ENTITY false "The Idempotency-Key belongs to another request"
        "The same `Idempotency-Key` was sent before with another body. The first job stands; nothing was created or spent now. Use a new key for a new job.";
    BUDGET_EXCEEDED "budget-exceeded" PAYMENT_REQUIRED false "The budget does not allow it"
        "The job would exceed a limit of `[budget]`. Nothing was created or spent. Wait for the next day or month (UTC), or raise the limit.";
    MAX_CREDITS_EXCEEDED "max-credits-exceeded" UNPROCESSABLE_ENTITY false "The job costs more than max_credits"
        "The estimate is above the request's own `max_credits`. Nothing was created or spent. Ask for less (length, mode, sound), or raise `max_credits`.";
    QUEUE_FULL "queue-full" TOO_MANY_REQUESTS true "Too many jobs are queued"
        "As many jobs as `[api] queue_limit` allows wait to be submitted. Nothing was created or spent. Send the request again after `Retry-After`.";
    RATE_LIMITED "rate-limited" TOO_MANY_REQUESTS true "Too many requests"
        "The key has used up `[api] rate_limit_per_minute`; or on the callback listener, the job `[callback] rate_limit_per_minute` (it is looked at all the same) or the address `[callback] miss_limit_per_minute`. Nothing else was done. Send the request again after `Retry-After`.";
    NOT_HELD "not-held" CONFLICT false "The job is not held"
        "Only a held job can be resolved: one where it is uncertain whether money was spent. This one is not, or was resolved meanwhile. Nothing was changed or spent.";
    ALREADY_TERMINAL "already-terminal" CONFLICT false "The job has ended"
        "The job has succeeded, failed or was canceled, and an outcome never changes. Nothing was changed or spent.";
    NOTHING_TO_RETRY "nothing-to-retry" CONFLICT false "There is nothing to retry in this way"
        "The job's state does not allow this mode of retry; the detail says why and which mode would do. Nothing was changed or spent.";
    FILE_NOT_READY "file-not-ready" CONFLICT true "The file is not stored yet"
        "The job has not ended, so its files may still come. Wait for the job, for example with `?wait=60s`, and ask again.";
    FILE_REMOVED "file-removed" GONE false "The file was removed"
        "The job's files were removed from storage, since the job ended longer ago than `[retention] videos`. What they were stands in the job. While the provider still has the video, `retry` with `download` fetches it again for free.";
    CLOCK_JUMPED "clock-jumped" CONFLICT true "The server's clock jumped"
        "The clock jumped less than an hour ago, so nobody knows what is past its time, and nothing was removed. Look at the clock of the machine (of the database, where several instances share one), and send the request again after an hour.";
    INVALID_CURSOR "invalid-cursor" BAD_REQUEST false "The cursor is not one of ours"
        "`cursor` must be the `next_cursor` of an earlier answer, `after` and `Last-Event-ID` the number of an event. Begin again without it.";
    BODY_TOO_LARGE "body-too-large" PAYLOAD_TOO_LARGE false "The body is too large"
        "The body is larger than `[server] body_limit` (for callbacks: `[callback] body_limit`; for a ping: 1 KiB). Nothing was created or spent. Large media belong behind a URL.";
    UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE false "The body must be plain JSON"
        "The body must come as `Content-Type: application/json` and without a `Content-Encoding`. Nothing was created or spent.";
    STORE_UNAVAILABLE "store-unavailable" SERVICE_UNAVAILABLE true "The store is not available"
        "What was asked could not be read or written durably, for example because the disk is full. What was acknowledged before is safe. Send the request again after `Retry-After`, with the same `Idempotency-Key`.";
    SHUTTING_DOWN "shutting-down" SERVICE_UNAVAILABLE true "The server is stopping"
        "The server finishes what runs and takes nothing new. Nothing was created or spent. Send the request again after `Retry-After`.";
    INTERNAL "internal" INTERNAL_SERVER_ERROR true "Something is wrong in the server"
        "An error of ours. The server's log has it under the `request_id`. Whether a job was created can be seen by sending the request again with the same `Idempotency-Key`.";
}

macro_rules! plain {
    ($($name:ident $slug:literal $status:ident $retryable:literal $title:literal;)*) => {
        $(pub(super) static $name: Kind = Kind {
            slug: $slug,
            status: StatusCode::$status,
            title: $title,
            retryable: $retryable,
            page: None,
        };)*
    };
}

plain! {
    NOT_FOUND "not-found" NOT_FOUND false "Not Found";
    METHOD_NOT_ALLOWED "method-not-allowed" METHOD_NOT_ALLOWED false "Method Not Allowed";
    REQUEST_TIMEOUT "request-timeout" REQUEST_TIMEOUT true "Request Timeout";
    RANGE_NOT_SATISFIABLE "range-not-satisfiable" RANGE_NOT_SATISFIABLE false "Range Not Satisfiable";
}
