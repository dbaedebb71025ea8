//! One accepted task: what it was asked for, how far it is, which links it gave out.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::Url;

use super::{
    directive::Directives,
    request::Request,
    shape::Stage,
    video::{Aspect, Video},
};

const DEFAULT_TIME: Duration = Duration::from_secs(20);
/// The name of every task's file; a link is `/files/{task}/{FILE_NAME}?sig=…`.
pub(super) const FILE_NAME: &str = "video.mp4";

#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) credits: u32,
    pub(super) directives: Directives,
    pub(super) callback_url: Option<Url>,
    pub(super) created_at: Timestamp,
    pub(super) accepted_at: Instant,
    /// From acceptance to the end, already divided by the speed.
    pub(super) time: Duration,
    /// How often the task route was asked.
    pub(super) asks: u32,
    /// How often the file was asked for with GET.
    pub(super) gets: u32,
    /// Whether the one TCP reset that was asked for has happened.
    pub(super) was_reset: bool,
    aspect: Aspect,
    /// Scheme and authority under which the client reached us, so that links work from where the client is.
    origin: String,
    /// Tells this task's file and links from all others'; follows from seed and id.
    key: [u8; 32],
    /// When each link was given out.
    links: Vec<Instant>,
}

/// Why a link does not open the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkError {
    Forged,
    Expired,
}

impl Task {
    pub(super) fn new(ordinal: u64, seed: u64, speed: f64, request: Request, origin: String) -> Self {
        let id = task_id(seed, ordinal, &request.model);
        let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(&id).finalize().into();
        let directives = request.directives.scaled(speed);
        let time = match directives.delay {
            Some(delay) => delay,
            None if directives.early_callback => Duration::ZERO,
            None => DEFAULT_TIME.div_f64(speed),
        };
        Self {
            id,
            model: request.model,
            credits: request.credits,
            directives,
            callback_url: request.callback_url,
            created_at: Timestamp::now(),
            accepted_at: Instant::now(),
            time,
            asks: 0,
            gets: 0,
            was_reset: false,
            aspect: request.aspect,
            origin,
            key,
            links: Vec::new(),
        }
    }

    /// RFC 3339 with milliseconds.
    pub(super) fn created_at_text(&self) -> String {
        format!("{:.3}", self.created_at)
    }

    pub(super) fn is_finished(&self, now: Instant) -> bool {
        now >= self.accepted_at + self.time
    }

    /// What the task route says now.
    pub(super) fn stage(&mut self, now: Instant) -> Stage {
        if self.is_finished(now) {
            return self.outcome(now);
        }
        let share = now.duration_since(self.accepted_at).div_duration_f64(self.time);
        match &self.directives.status {
            Some(word) if share < 0.5 => Stage::Odd { word: word.clone() },
            _ => Stage::Running { percent: (share * 100.0) as u8 },
        }
    }

    /// How the task ends.
    pub(super) fn outcome(&mut self, now: Instant) -> Stage {
        match &self.directives.fail {
            Some(why) => Stage::Failed { why: why.clone() },
            None => self.success(now),
        }
    }

    /// What a success looks like, true or not.
    pub(super) fn success(&mut self, now: Instant) -> Stage {
        Stage::Succeeded { url: (!self.directives.no_url).then(|| self.link(now)) }
    }

    fn link(&mut self, now: Instant) -> String {
        if self.links.is_empty() || self.directives.fresh_links() {
            self.links.push(now);
        }
        let signature = self.signature(self.links.len() - 1);
        format!("{}/files/{}/{FILE_NAME}?sig={signature}", self.origin, self.id)
    }

    fn signature(&self, link: usize) -> String {
        let digest = Sha256::new().chain_update(self.key).chain_update(link.to_string()).finalize();
        format!("{link}-{}", hex::encode(&digest[..16]))
    }

    /// Judges the `sig` of a link.
    pub(super) fn check_link(&self, signature: &str, now: Instant) -> Result<(), LinkError> {
        let number: usize =
            signature.split('-').next().and_then(|number| number.parse().ok()).ok_or(LinkError::Forged)?;
        let given_at = *self.links.get(number).ok_or(LinkError::Forged)?;
        if signature != self.signature(number) {
            return Err(LinkError::Forged);
        }
        match self.directives.url_expire {
            Some(life) if now >= given_at + life => Err(LinkError::Expired),
            _ => Ok(()),
        }
    }

    /// A link to a file that does not exist, under a name that shows up in the ledger when someone falls for it.
    pub(super) fn foreign_link(&self) -> String {
        format!("{}/files/{}/{FILE_NAME}?sig=0-{}", self.origin, self.foreign_id(), "0".repeat(32))
    }

    /// The id that a forgery names.
    pub(super) fn foreign_id(&self) -> String {
        format!("forged_{}", self.id)
    }

    pub(super) fn video(&self) -> Video {
        Video::new(self.aspect, self.directives.size, self.key)
    }

    /// A strong validator: the same as long as the bytes are.
    pub(super) fn etag(&self) -> String {
        hex::encode(&Sha256::new().chain_update(self.key).chain_update("etag").finalize()[..16])
    }

    pub(super) fn last_modified(&self) -> SystemTime {
        SystemTime::from(self.created_at) + self.time
    }
}

/// An id like the documented `n50xxxx_kling3`. It is a bijection of the ordinal, so a sandbox never repeats one.
fn task_id(seed: u64, ordinal: u64, model: &str) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = split_mix(seed.wrapping_add(ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut text = String::from("n50");
    while rest > 0 {
        text.push(char::from(DIGITS[(rest % 36) as usize]));
        rest /= 36;
    }
    text.push('_');
    text.extend(model.chars().filter(|letter| letter.is_ascii_alphanumeric()));
    text
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
