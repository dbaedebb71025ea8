//! Creating a job: check, price, book, remember. Nothing is sent here.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{App, AppError, trace};
use crate::{
    lifecycle::{Cost, Job, JobId, MAX_NOTIFY, Millis, NewJob, Notify, Reservation},
    provider::models::{self, Checked, FieldError},
    store::{DeliveryCounts, Exceeded, IdempotencyKey, Insert, Inserted, Limits},
};

/// A caller's wish for a video.
#[derive(Clone, Debug, Default)]
pub struct NewRequest {
    /// The upstream's own body.
    pub input: Value,
    /// It was written for the upstream: a field that looks misspelt passes, as it would there.
    pub verbatim: bool,
    /// Labels; at most 10 of 64 characters.
    pub tags: Vec<String>,
    /// The caller's own data; at most 4 KiB.
    pub metadata: Map<String, Value>,
    /// Refuse when the estimate is above this.
    pub max_credits: Option<u64>,
    /// Do not submit after this.
    pub deadline: Option<Deadline>,
    /// Who is told how it ends, beside the sinks; at most four. Whether their URLs may be called, the caller has judged.
    pub notify: Vec<Notify>,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// The trace that it belongs to, as a W3C `traceparent`; no part of what makes two requests the same.
    pub trace: Option<String>,
}

/// A deadline as it was asked for: the same words are the same request, whenever they are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// This instant.
    At(Millis),
    /// So many milliseconds after the job is created.
    After(i64),
}

impl Deadline {
    /// The instant, for a job that is created at `now`.
    #[must_use]
    pub const fn from(self, now: Millis) -> Millis {
        match self {
            Self::At(at) => at,
            Self::After(span) => now.plus(span),
        }
    }
}

/// What is kept of a request, for ever unchanged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Document {
    /// What is sent, but for the callback URL.
    pub input: Map<String, Value>,
    /// The caller's own data.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// A job that exists, durably.
#[derive(Clone, Debug)]
pub struct Created {
    /// It.
    pub job: Job,
    /// What else there is of it, where it was made just now: nobody has to ask the store.
    pub fresh: Option<Fresh>,
    /// It was there already: the idempotency key made it before.
    pub replayed: bool,
}

/// What there is of a job in its first revision.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Its request.
    pub document: Document,
    /// Its deliveries, all of them owed.
    pub deliveries: DeliveryCounts,
}

const MAX_TAGS: usize = 10;
const MAX_TAG: usize = 64;
const MAX_METADATA: usize = 4 * 1024;
const MAX_KEY: usize = 255;

impl App {
    /// Checks and prices a request, and spends nothing.
    ///
    /// # Errors
    /// [`AppError::Invalid`] with every wrong place.
    pub fn estimate(&self, input: &Value) -> Result<Checked, AppError> {
        let config = self.config();
        models::check(input, &config.upstream.default_model, &config.pricing).map_err(AppError::Invalid)
    }

    /// The same for an input that the upstream takes as it is, or that was taken before.
    pub(super) fn estimate_verbatim(&self, input: &Value) -> Result<Checked, AppError> {
        let config = self.config();
        models::check_verbatim(input, &config.upstream.default_model, &config.pricing)
            .map_err(AppError::Invalid)
    }

    /// Creates a job for the caller named `owner`. It exists durably when this returns.
    ///
    /// # Errors
    /// Whatever speaks against it; then no job exists and nothing was spent.
    pub async fn create(&self, request: NewRequest, owner: &str) -> Result<Created, AppError> {
        let checked = self.check(&request)?;
        let now = self.now();
        let key = request.idempotency_key.as_ref().map(|key| IdempotencyKey {
            owner: owner.to_owned(),
            key: key.clone(),
            fingerprint: fingerprint(&request),
            reusable: false,
        });
        let document = Document { input: checked.body, metadata: request.metadata };
        let new = NewJob {
            callback_expected: self.expects_callback(&checked.model),
            cost: booked(checked.estimate.credits, checked.estimate.exact, now),
            duration_s: checked.duration_s.map(|seconds| seconds.ceil() as u32),
            model: checked.model,
            mode: checked.mode,
            tags: request.tags,
            deadline: request.deadline.map(|deadline| deadline.from(now)),
            notices: checked.notices,
            notify: request.notify,
            trace: request.trace,
        };
        self.insert(Job::new(self.fresh_id()?, now, new), document, key).await
    }

    pub(super) async fn insert(
        &self,
        job: Job,
        document: Document,
        key: Option<IdempotencyKey>,
    ) -> Result<Created, AppError> {
        let estimated = job.cost.estimated_credits;
        let ((event, deliveries), limits) = (job.created(&self.policy()), self.limits());
        let owed = deliveries.len() as u32;
        let insert = Insert { job, event, deliveries, document: encode(&document), key, limits };
        match self.store.insert(insert).await? {
            Inserted::New(job) => {
                trace::created(&job);
                if job.cost.reserved.is_some() {
                    self.mind_budgets(None).await;
                }
                let deliveries = DeliveryCounts { total: owed, pending: owed, ..DeliveryCounts::default() };
                let fresh = Fresh { document, deliveries };
                Ok(Created { job: *job, fresh: Some(fresh), replayed: false })
            }
            Inserted::Replayed(job) => Ok(Created { job: *job, fresh: None, replayed: true }),
            Inserted::KeyReused(id) => Err(AppError::KeyReused(id)),
            Inserted::OverBudget { period, booked, limit } => {
                self.mind_budgets(Some(Exceeded { period, booked, limit })).await;
                Err(AppError::OverBudget { period, estimated, booked, limit })
            }
            Inserted::QueueFull { limit } => Err(AppError::QueueFull(limit)),
        }
    }

    /// The request of a job.
    ///
    /// # Errors
    /// The store's; [`AppError::NotFound`] when there is none.
    pub async fn document(&self, id: JobId) -> Result<Document, AppError> {
        let bytes = self.store.document(id).await?.ok_or(AppError::NotFound(id))?;
        serde_json::from_slice(&bytes).map_err(|_| crate::store::StoreError::Damaged(id.to_string()).into())
    }

    pub(super) fn expects_callback(&self, model: &str) -> bool {
        self.public_url.is_some() && self.config().upstream.mapping.calls_back(model)
    }

    fn check(&self, request: &NewRequest) -> Result<Checked, AppError> {
        let mut wrong = own_fields(request, self.now());
        let estimate = match request.verbatim {
            true => self.estimate_verbatim(&request.input),
            false => self.estimate(&request.input),
        };
        let checked = match estimate {
            Ok(checked) => checked,
            Err(AppError::Invalid(more)) => {
                wrong.extend(more);
                return Err(AppError::Invalid(wrong));
            }
            Err(other) => return Err(other),
        };
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        let estimated = checked.estimate.credits;
        if let Some(allowed) = request.max_credits.filter(|allowed| estimated > *allowed) {
            return Err(AppError::MaxCredits { estimated, allowed });
        }
        self.within_job_limit(estimated)?;
        Ok(checked)
    }

    /// What no insert and no replacement may exceed.
    pub(super) fn limits(&self) -> Limits {
        let config = self.config();
        Limits {
            daily_credits: config.budget.daily_credits,
            monthly_credits: config.budget.monthly_credits,
            queued: config.api.queue_limit as u64,
        }
    }

    pub(super) fn within_job_limit(&self, estimated: u64) -> Result<(), AppError> {
        let limit = self.config().budget.per_job_credits;
        if limit > 0 && estimated > limit {
            return Err(AppError::OverBudget { period: "per_job", estimated, booked: 0, limit });
        }
        Ok(())
    }
}

/// A paid job's cost, booked on the day of `now`.
pub(super) fn booked(credits: u64, exact: bool, now: Millis) -> Cost {
    Cost {
        estimated_credits: credits,
        exact,
        reported_credits: None,
        reserved: Some(Reservation { day: now.day(), credits }),
    }
}

fn encode(document: &Document) -> Bytes {
    serde_json::to_vec(document).unwrap_or_default().into()
}

fn own_fields(request: &NewRequest, now: Millis) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut say = |pointer: &str, code: &'static str, detail: String| {
        wrong.push(FieldError { pointer: pointer.to_owned(), code, detail });
    };
    if request.tags.len() > MAX_TAGS {
        say("/tags", "too_many", format!("at most {MAX_TAGS} tags, got {}", request.tags.len()));
    }
    for (index, tag) in request.tags.iter().enumerate() {
        if tag.is_empty() || tag.chars().count() > MAX_TAG {
            say(&format!("/tags/{index}"), "length", format!("a tag has 1 to {MAX_TAG} characters"));
        }
    }
    let size = serde_json::to_vec(&request.metadata).map_or(0, |bytes| bytes.len());
    if size > MAX_METADATA {
        say(
            "/metadata",
            "too_large",
            format!("metadata is at most {MAX_METADATA} bytes of JSON, got {size}"),
        );
    }
    if request.notify.len() > MAX_NOTIFY {
        say(
            "/notify",
            "too_many",
            format!("at most {MAX_NOTIFY} URLs are told, got {}", request.notify.len()),
        );
    }
    if request.deadline.is_some_and(|deadline| deadline.from(now) <= now) {
        say("/deadline", "past", "the deadline is not in the future".to_owned());
    }
    if request.idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
        say("Idempotency-Key", "length", format!("the key has 1 to {MAX_KEY} characters"));
    }
    wrong
}

/// What makes two requests the same: everything that was asked for, in whatever order its members stand.
fn fingerprint(request: &NewRequest) -> [u8; 32] {
    let mut canonical = json!({
        "input": request.input,
        "tags": request.tags,
        "metadata": request.metadata,
        "max_credits": request.max_credits,
        "deadline": request.deadline,
    });
    // Only where there are any: requests of earlier versions keep their fingerprints.
    if !request.notify.is_empty() {
        canonical["notify"] = json!(request.notify);
    }
    Sha256::digest(canonical.to_string()).into()
}
