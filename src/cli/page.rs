//! A page of a list, as every list of the API answers.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::exit::{Exit, Failure};

/// How many entries, and from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Range {
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    limit: u16,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
}

impl Range {
    /// As parameters of a query.
    pub(crate) fn query(&self) -> impl Iterator<Item = (&'static str, String)> {
        let cursor = self.cursor.clone().map(|cursor| ("cursor", cursor));
        [("limit", self.limit.to_string())].into_iter().chain(cursor)
    }
}

/// A page.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    /// Where the next begins; none at the end.
    pub(crate) next_cursor: Option<String>,
}

impl<T: DeserializeOwned> Page<T> {
    /// Reads an answer that is a page.
    pub(crate) fn read(document: &Value) -> Result<Self, Failure> {
        Self::deserialize(document).map_err(|error| {
            let detail = format!("the server's answer is not a list that this version reads: {error}");
            Failure::new(Exit::Failure, detail)
        })
    }
}
