//! NATS JetStream: published with the event's id, by which the stream knows repeats, and acknowledged.

use std::time::Duration;

use async_nats::{
    Client, ConnectError, ConnectOptions,
    connection::State,
    jetstream::{
        self, Context,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
    },
};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;
use url::Url;

use super::{Message, Outcome, Way, content_type, span};
use crate::{config::Format, lifecycle::Answer, spans::TRACEPARENT};

/// A server, and what lets us in.
pub(super) struct Address {
    pub(super) server: Url,
    pub(super) credentials: Option<SecretString>,
}

/// A subject of a JetStream stream.
pub(super) struct Nats {
    address: Address,
    subject: String,
    content_type: &'static str,
    timeout: Duration,
    /// Made by the first try that succeeds in it; from then on the client connects anew by itself.
    context: OnceCell<Context>,
}

impl Nats {
    pub(super) fn new(address: Address, subject: String, format: Format, timeout: Duration) -> Self {
        let content_type = content_type(format);
        Self { address, subject, content_type, timeout, context: OnceCell::new() }
    }

    async fn publish(&self, message: &Message) -> Outcome {
        let context = match self.context.get_or_try_init(|| self.connect()).await {
            Ok(context) => context,
            Err(error) => return Outcome::failed(error),
        };
        // What is published now would wait unseen for a connection and go out much later.
        if context.client().connection_state() != State::Connected {
            let server = &self.address.server;
            return Outcome::failed(format!("the connection to {server} is lost and being made anew"));
        }
        let subject = self.subject.replace("{type}", &message.kind.name());
        let mut publish = PublishMessage::build()
            .message_id(message.event_id.to_string())
            .header("Content-Type", self.content_type)
            .payload(message.body.clone());
        if let Some(trace) = &message.trace {
            publish = publish.header(TRACEPARENT, trace.as_str());
        }
        let acknowledged = match context.send_publish(subject.clone(), publish).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(ack) => Outcome::new(Answer::Delivered, stored(&ack)),
            Err(error) => Outcome::failed(why(&error, &subject)),
        }
    }

    async fn connect(&self) -> Result<Context, String> {
        let Address { server, credentials } = &self.address;
        let options = match credentials {
            Some(credentials) => options(credentials.expose_secret().trim())
                .map_err(|error| format!("the credentials are no .creds file: {error}"))?,
            None => ConnectOptions::new(),
        };
        let options = options.name("reelhook").connection_timeout(self.timeout);
        let client: Client = options
            .connect(server.as_str())
            .await
            .map_err(|error: ConnectError| format!("{server} cannot be connected to: {error}"))?;
        let mut context = jetstream::new(client);
        context.set_timeout(self.timeout);
        Ok(context)
    }
}

#[async_trait]
impl Way for Nats {
    async fn hand_over(&self, message: &Message) -> Outcome {
        tokio::time::timeout(self.timeout, self.publish(message)).await.unwrap_or_else(|_| {
            Outcome::failed(format!(
                "no acknowledgement within {}; it may be in the stream",
                span(self.timeout)
            ))
        })
    }
}

/// The three forms of credentials cannot be taken for one another: a token has no colon.
fn options(credentials: &str) -> std::io::Result<ConnectOptions> {
    if credentials.starts_with("-----BEGIN") {
        return ConnectOptions::with_credentials(credentials);
    }
    Ok(match credentials.split_once(':') {
        Some((user, password)) => {
            ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        }
        None => ConnectOptions::with_token(credentials.to_owned()),
    })
}

fn stored(ack: &PublishAck) -> String {
    let PublishAck { stream, sequence, duplicate, .. } = ack;
    let again = if *duplicate { ", as before" } else { "" };
    format!("message {sequence} of the stream {stream}{again}")
}

fn why(error: &PublishError, subject: &str) -> String {
    match error.kind() {
        PublishErrorKind::StreamNotFound => format!(
            "no stream holds the subject {subject}: add it to a stream, for example with `nats stream add`"
        ),
        PublishErrorKind::TimedOut => "the stream did not acknowledge in time; it may be there".to_owned(),
        _ => format!("not stored under {subject}: {error}"),
    }
}
