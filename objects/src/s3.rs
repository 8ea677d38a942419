//! How S3 is reached: endpoint, region, credentials.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::signing::Signing;

/// Settings of S3. What is not set is taken from the environment variables of the AWS tools (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3`,
/// `AWS_ENDPOINT_URL`), then, for credentials, from a web identity token, the container's or the instance's metadata service.
#[derive(Clone, Default)]
pub struct S3Settings {
    /// `s3.endpoint`: a URL; none: AWS.
    pub endpoint: Option<String>,
    /// `s3.region`.
    pub region: Option<String>,
    /// `s3.access.key.id`.
    pub access_key_id: Option<String>,
    /// `s3.secret.access.key`.
    pub secret_access_key: Option<String>,
    /// `s3.session.token`.
    pub session_token: Option<String>,
    /// `s3.path.style.access.enabled`: `ENDPOINT/BUCKET/KEY` rather than `BUCKET.ENDPOINT/KEY`.
    pub path_style: bool,
}

/// Never shows a secret.
impl std::fmt::Debug for S3Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

/// One request, from connecting to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A request is tried again this often, and for so long, before its error is reported; what waits for the object then says
/// so, and goes on trying at its own pace.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

impl S3Settings {
    /// Whether the settings fit together; the error names the options.
    pub fn check(&self) -> Result<(), String> {
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err("s3.access.key.id and s3.secret.access.key belong together: set both, or neither to use the environment's".into());
        }
        match &self.endpoint {
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => Err(
                "Invalid value for configuration s3.endpoint: must be a URL that starts with https:// or http://"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    /// A client of one bucket.
    pub(super) fn bucket(&self, bucket: &str) -> Result<AmazonS3, String> {
        self.check()?;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(!self.path_style)
            .with_crypto_provider(Arc::new(Signing))
            .with_client_options(
                ClientOptions::new()
                    .with_timeout(REQUEST_TIMEOUT)
                    .with_connect_timeout(CONNECT_TIMEOUT)
                    // An endpoint without TLS is the operator's choice; AWS's own are https.
                    .with_allow_http(true),
            )
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: RETRY_TIMEOUT,
            });
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let (Some(id), Some(secret)) = (&self.access_key_id, &self.secret_access_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = &self.session_token {
            builder = builder.with_token(token);
        }
        builder.build().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let settings = S3Settings {
            access_key_id: Some("AKIA".into()),
            secret_access_key: Some("do-not-show".into()),
            session_token: Some("do-not-show".into()),
            ..S3Settings::default()
        };
        assert!(!format!("{settings:?}").contains("do-not-show"));
        assert!(
            settings
                .bucket("cold")
                .is_ok_and(|bucket| !format!("{bucket}").contains("do-not-show"))
        );
    }

    #[test]
    fn half_a_pair_of_keys_is_refused() {
        let settings = S3Settings {
            access_key_id: Some("AKIA".into()),
            ..S3Settings::default()
        };
        assert!(
            settings
                .bucket("cold")
                .is_err_and(|error| error.contains("s3.secret.access.key"))
        );
    }
}
