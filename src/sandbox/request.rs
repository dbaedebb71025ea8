//! Reading and pricing a create call.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::{directive::Directives, refusal::Refusal, video::Aspect};

const MAX_PROMPT_CHARS: usize = 2500;
const DEFAULT_SECONDS: f64 = 5.0;

/// A create call that makes sense.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) model: String,
    pub(super) directives: Directives,
    pub(super) aspect: Aspect,
    pub(super) callback_url: Option<Url>,
    pub(super) credits: u32,
}

/// The body of a create call, as far as the sandbox looks at it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    pub(super) model: String,
    pub(super) prompt: String,
    mode: Mode,
    duration: Option<f64>,
    aspect_ratio: Option<String>,
    sound: Option<bool>,
    multi_shots: bool,
    multi_prompt: Vec<Shot>,
    callback_url: Option<Url>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Std,
    Pro,
}

#[derive(Debug, Deserialize)]
struct Shot {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    duration: f64,
}

impl Body {
    /// Reads the body as an object: the derived reader alone would take a list for one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice::<Map<String, Value>>(bytes)
            .and_then(|object| serde_json::from_value(Value::Object(object)))
            .map_err(|error| Refusal::bad_request(format!("invalid body: {error}")))
    }

    /// Checks the body as the documentation of the upstream demands.
    pub(super) fn check(self) -> Result<Request, Refusal> {
        let invalid = |message: &str| Err(Refusal::new(422, message));
        if self.prompt.trim().is_empty() && !self.multi_shots {
            return invalid("prompt is required");
        }
        if self.multi_shots && self.multi_prompt.is_empty() {
            return invalid("multi_prompt is required when multi_shots is true");
        }
        if self.prompt.chars().count() > MAX_PROMPT_CHARS {
            return invalid("prompt is longer than 2500 characters");
        }
        if self.model == "kling-3" && self.duration.is_some_and(|seconds| !(3.0..=15.0).contains(&seconds)) {
            return invalid("duration must be 3 to 15 seconds");
        }
        if self.callback_url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            return invalid("callback_url must be an http or https URL");
        }
        let Some(aspect) = Aspect::parse(self.aspect_ratio.as_deref().unwrap_or("16:9")) else {
            return invalid("aspect_ratio must be 1:1, 9:16 or 16:9");
        };
        let Some(credits) = self.credits() else {
            return invalid("model must be kling-3, grok-video, ltx-2 or wan-2-6");
        };
        let directives = self
            .all_prompts()
            .parse::<Directives>()
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        Ok(Request { model: self.model, directives, aspect, callback_url: self.callback_url, credits })
    }

    fn all_prompts(&self) -> String {
        let shots = self.multi_prompt.iter().map(|shot| shot.prompt.as_str());
        std::iter::once(self.prompt.as_str()).chain(shots).collect::<Vec<_>>().join("\n")
    }

    /// The price in credits, from the upstream's price list; `None` for a model that is not on it.
    fn credits(&self) -> Option<u32> {
        let per_second = match (self.mode, self.sound.unwrap_or(true)) {
            (Mode::Std, false) => 40.0,
            (Mode::Std, true) => 60.0,
            (Mode::Pro, false) => 54.0,
            (Mode::Pro, true) => 80.0,
        };
        let shots: f64 = self.multi_prompt.iter().map(|shot| shot.duration).sum();
        let seconds =
            if self.multi_shots && shots > 0.0 { shots } else { self.duration.unwrap_or(DEFAULT_SECONDS) };
        match self.model.as_str() {
            "kling-3" => Some((per_second * seconds).ceil() as u32),
            "grok-video" | "ltx-2" => Some(24),
            "wan-2-6" => Some(80),
            _ => None,
        }
    }
}
