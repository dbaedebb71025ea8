//! The models: their rules and their prices.
//!
//! kling-3 is documented field by field, so every rule is checked here and named when broken. Of the other models only
//! the inputs and a base price are documented; what is not documented passes through untouched.

mod fields;
mod price;

use fields::Fields;
pub use price::{Estimate, Pricing, usd};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::reply::Mapping;

const PROMPT_MAX: usize = 2500;
const DURATION_S: std::ops::RangeInclusive<f64> = 3.0..=15.0;
const DURATION_DEFAULT_S: f64 = 5.0;
const MODES: [&str; 2] = ["std", "pro"];
const ASPECT_RATIOS: [&str; 3] = ["1:1", "9:16", "16:9"];
/// Every field that is documented for kling-3.
const KLING_FIELDS: [&str; 11] = [
    "model",
    "callback_url",
    "prompt",
    "mode",
    "duration",
    "aspect_ratio",
    "sound",
    "image",
    "multi_shots",
    "multi_prompt",
    "kling_elements",
];

/// What is documented of a model.
struct Known {
    name: &'static str,
    inputs: &'static [&'static str],
    /// In credits. kling-3 is priced by the second instead.
    base_credits: u64,
}

const KLING_3: &str = "kling-3";
const MODELS: [Known; 4] = [
    Known { name: KLING_3, inputs: &["text", "image"], base_credits: 0 },
    Known { name: "grok-video", inputs: &["text", "image"], base_credits: 24 },
    Known { name: "ltx-2", inputs: &["text", "image", "video", "audio"], base_credits: 24 },
    Known { name: "wan-2-6", inputs: &["text", "image", "video"], base_credits: 80 },
];

/// An input that passed every rule, with its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The upstream's own body, untouched but for `model`, which is filled in.
    pub body: Map<String, Value>,
    /// One of the known models.
    pub model: String,
    /// kling-3: always given, `std` unless asked otherwise. Other models: as typed.
    pub mode: Option<String>,
    /// Length of the video in seconds.
    pub duration_s: Option<f64>,
    /// The prompt as typed.
    pub prompt: Option<String>,
    /// What it will cost.
    pub estimate: Estimate,
    /// What is let through, but may not be what was meant.
    pub notices: Vec<String>,
}

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer into the request, such as `/input/duration`.
    pub pointer: String,
    /// `required`, `wrong_type`, `too_long`, `out_of_range`, `not_one_of`, `not_a_url`, `unknown_model`,
    /// `unknown_field` or `not_allowed`.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// Checks an upstream body before money is spent on it.
///
/// A `null` counts as not given. Fields without a documented rule pass untouched; but one that is almost a documented
/// field of kling-3 is a typing error, and the video that is paid for would not be the one that was meant.
///
/// # Errors
/// Every broken rule, not only the first.
pub fn check(input: &Value, default_model: &str, pricing: &Pricing) -> Result<Checked, Vec<FieldError>> {
    judge(input, default_model, pricing, Misspelt::Refused)
}

/// As [`check`], of a body that the upstream takes as it is: what looks like a typing error passes with a notice.
///
/// # Errors
/// Every other broken rule.
pub fn check_verbatim(
    input: &Value,
    default_model: &str,
    pricing: &Pricing,
) -> Result<Checked, Vec<FieldError>> {
    judge(input, default_model, pricing, Misspelt::Noticed)
}

/// What becomes of a field that is almost a documented one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Misspelt {
    Refused,
    Noticed,
}

fn judge(
    input: &Value,
    default_model: &str,
    pricing: &Pricing,
    misspelt: Misspelt,
) -> Result<Checked, Vec<FieldError>> {
    let Some(body) = input.as_object() else {
        return Err(vec![FieldError {
            pointer: "/input".into(),
            code: "wrong_type",
            detail: "the input must be an object: the upstream's own request body".into(),
        }]);
    };
    let mut fields = Fields::new(body);
    if fields.given("callback_url").is_some() {
        fields.wrong(
            "callback_url",
            "not_allowed",
            "callback_url is set by reelhook; to be told when the video is stored, follow /v1/events or ask with ?wait=",
        );
    }
    let Some(model) = pick_model(&mut fields, default_model) else { return Err(fields.errors) };
    let (mode, duration_s, estimate) = match model.name {
        KLING_3 => check_kling(&mut fields, pricing),
        _ => check_undocumented(&mut fields, model),
    };
    let notices = match model.name {
        KLING_3 => fields.undocumented(KLING_3, &KLING_FIELDS, misspelt),
        _ => Vec::new(),
    };
    if !fields.errors.is_empty() {
        return Err(fields.errors);
    }
    let prompt = body.get("prompt").and_then(Value::as_str).map(str::to_owned);
    let mut body = body.clone();
    body.insert("model".into(), model.name.into());
    Ok(Checked { body, model: model.name.into(), mode, duration_s, prompt, estimate, notices })
}

fn pick_model(fields: &mut Fields<'_>, default_model: &str) -> Option<&'static Known> {
    let name = match fields.given("model") {
        None => default_model,
        Some(Value::String(name)) => name,
        Some(_) => {
            fields.wrong("model", "wrong_type", "model must be a string");
            return None;
        }
    };
    let known = MODELS.iter().find(|model| model.name == name);
    if known.is_none() {
        let names = MODELS.map(|model| model.name);
        let close = names
            .into_iter()
            .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), known), known))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = close.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or(".".into());
        let detail = format!("unknown model `{name}`{hint} Known models: {}", names.join(", "));
        fields.wrong("model", "unknown_model", detail);
    }
    known
}

type Terms = (Option<String>, Option<f64>, Estimate);

fn check_kling(fields: &mut Fields<'_>, pricing: &Pricing) -> Terms {
    let multi_shots = fields.flag("multi_shots").unwrap_or(false);
    fields.text("prompt", PROMPT_MAX);
    if !multi_shots {
        fields.require("prompt", "prompt is required unless multi_shots is true");
    }
    let mode = fields.choice("mode", &MODES).unwrap_or("std");
    let duration = fields.number("duration", DURATION_S).unwrap_or(DURATION_DEFAULT_S);
    fields.choice("aspect_ratio", &ASPECT_RATIOS);
    let sound = fields.flag("sound").unwrap_or(true);
    fields.web_address("image");
    fields.list("kling_elements");
    let shots = fields.shots("multi_prompt");
    if multi_shots {
        fields.require("multi_prompt", "multi_prompt is required when multi_shots is true");
    }
    let estimate = if multi_shots {
        pricing.shots(mode, sound, shots, duration)
    } else {
        pricing.seconds(mode, sound, duration)
    };
    let length = if multi_shots { shots.unwrap_or(duration) } else { duration };
    (Some(mode.to_owned()), Some(length), estimate)
}

fn check_undocumented(fields: &mut Fields<'_>, model: &Known) -> Terms {
    fields.text("prompt", usize::MAX);
    if !fields.any_besides("model") {
        fields.require("prompt", "the input is empty: give a prompt, or the model's other inputs");
    }
    let mode = fields.given("mode").and_then(Value::as_str).map(str::to_owned);
    let duration = fields.given("duration").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
    (mode, duration, Estimate::base(model.name, model.base_credits))
}

/// One entry of the catalogue.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// As it is written in `model`.
    pub name: &'static str,
    /// What it takes: `text`, `image`, `video`, `audio`.
    pub inputs: &'static [&'static str],
    /// False where no callback is expected and only asking tells that a job is done.
    pub callbacks: bool,
    /// The documented parameters; others pass through unchecked.
    pub parameters: Vec<Parameter>,
    /// The price of a job.
    pub price: Price,
}

/// A documented parameter.
#[derive(Clone, Debug, Serialize)]
pub struct Parameter {
    /// As it is written in the input.
    pub name: &'static str,
    /// JSON type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What the upstream takes when it is left out.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub default: Value,
    /// The rule in words.
    pub rule: String,
}

/// The price of a job in credits; a credit is about $0.01.
#[derive(Clone, Debug, Serialize)]
pub struct Price {
    /// A job with nothing but a prompt.
    pub base_credits: u64,
    /// Whether the documented rule gives the charge to the credit.
    pub exact: bool,
    /// Rates by the second, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Pricing>,
}

/// Every known model with its rules and prices, for `GET /v1/models`. `mapping` says which of them never call back.
pub fn catalogue(pricing: &Pricing, mapping: &Mapping) -> Vec<Model> {
    let entry = |known: &Known| {
        let kling = known.name == KLING_3;
        let base_credits = match kling {
            true => pricing.seconds("std", true, DURATION_DEFAULT_S).credits,
            false => known.base_credits,
        };
        Model {
            name: known.name,
            inputs: known.inputs,
            callbacks: mapping.calls_back(known.name),
            parameters: if kling { kling_parameters() } else { Vec::new() },
            price: Price { base_credits, exact: kling, per_second: kling.then_some(*pricing) },
        }
    };
    MODELS.iter().map(entry).collect()
}

fn kling_parameters() -> Vec<Parameter> {
    let parameter =
        |name, kind, default, rule: &str| Parameter { name, kind, default, rule: rule.to_owned() };
    let prompt = format!("at most {PROMPT_MAX} characters; required unless multi_shots is true");
    let duration = format!("{} to {} seconds", DURATION_S.start(), DURATION_S.end());
    let one_of = |choices: &[&str]| format!("one of {}", choices.join(", "));
    vec![
        parameter("prompt", "string", Value::Null, &prompt),
        parameter("mode", "string", json!("std"), &one_of(&MODES)),
        parameter("duration", "number", json!(5), &duration),
        parameter("aspect_ratio", "string", json!("16:9"), &one_of(&ASPECT_RATIOS)),
        parameter("sound", "boolean", json!(true), "with a sound track; priced by the second"),
        parameter("image", "string", Value::Null, "absolute image URL: image-to-video"),
        parameter(
            "multi_shots",
            "boolean",
            json!(false),
            "several shots from multi_prompt; price not documented",
        ),
        parameter(
            "multi_prompt",
            "array",
            Value::Null,
            "of {prompt, duration}; required when multi_shots is true",
        ),
        parameter("kling_elements", "array", Value::Null, "passed through"),
    ]
}
