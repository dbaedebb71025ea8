//! S3 gives a file that came in pieces its name only if nobody has it, where it is asked to; `object_store` does not ask
//! (it does for a file in one request). Stores that know no such question ignore it.

use async_trait::async_trait;
use object_store::{
    ClientOptions, HeaderValue, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
    },
};
use reqwest::{Method, header::IF_NONE_MATCH};

/// Connects clients that ask.
#[derive(Debug, Default)]
pub(super) struct CreateOnly(ReqwestConnector);

impl HttpConnector for CreateOnly {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Asking(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Asking(HttpClient);

#[async_trait]
impl HttpService for Asking {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Signed already; a header that the signature does not name may be added.
        if completes_upload(&request) {
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        self.0.execute(request).await
    }
}

/// `POST /key?uploadId=…` is `CompleteMultipartUpload`, and nothing else is.
fn completes_upload(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId="))
}
