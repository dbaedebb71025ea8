//! How this server proves to itself that it was reached.

use super::{App, AppError};

/// No honest question is longer, in bytes.
const MAX_CHALLENGE: usize = 128;

impl App {
    /// A question that nobody was asked before.
    ///
    /// # Errors
    /// [`AppError::NoEntropy`].
    pub fn challenge(&self) -> Result<String, AppError> {
        Ok(hex::encode(self.entropy.bytes::<16>()?))
    }

    /// The answer, which takes the secret of the callback tokens; none to a question that is too long.
    #[must_use]
    pub fn proof(&self, challenge: &str) -> Option<String> {
        (challenge.len() <= MAX_CHALLENGE).then(|| self.ping_tokens.mint(challenge))
    }

    /// Whether it is the answer of this server, or of one that shares its store.
    #[must_use]
    pub fn is_proof(&self, challenge: &str, proof: &str) -> bool {
        self.ping_tokens.check(challenge, proof)
    }
}
