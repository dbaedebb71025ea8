//! Reading what the upstream says, tolerantly.

/// Extra pointers and words for reading upstream bodies; each list is tried before the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    pub task_id: Vec<String>,
    pub status: Vec<String>,
    pub video_url: Vec<String>,
    pub error_message: Vec<String>,
    pub succeeded_words: Vec<String>,
    pub failed_words: Vec<String>,
    pub pending_words: Vec<String>,
    /// Models that never call back.
    pub no_callback_models: Vec<String>,
}
