//! `reelhook openapi`: the document that the server serves.

use super::{
    client::{Client, Connection},
    exit::Failure,
    output::Output,
};

pub(crate) async fn run(connection: &Connection, output: &Output) -> Result<(), Failure> {
    output.document(&Client::new(connection)?.get(&["openapi.json"]).await?.document)
}
