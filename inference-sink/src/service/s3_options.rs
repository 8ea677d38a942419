//! The `s3.*` options of the worker's properties: how the archive's bucket and models' buckets are reached.
//!
//! Names follow Confluent's S3 sink (`s3.region`, `s3.path.style.access.enabled`) and the AWS tools.

use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, ParsedConfig, Width};
use connect_api::error::ConnectError;
use objects::S3Settings;

const GROUP: &str = "S3";
const PREFIX: &str = "s3.";

/// Adds the declaration.
pub(super) fn define(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, config_type, order| {
        ConfigKey::new(name, config_type)
            .group(GROUP, order, Width::Medium)
            .importance(Importance::Medium)
            .default_null()
    };
    definition
        .define(
            key("s3.endpoint", ConfigType::String, 1)
                .doc("URL of an S3 server other than AWS, such as https://minio.example:9000. Default: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL of the environment, then AWS."),
        )
        .define(
            key("s3.region", ConfigType::String, 2)
                .doc("Region of the buckets. Default: AWS_REGION or AWS_DEFAULT_REGION of the environment, then us-east-1."),
        )
        .define(
            key("s3.access.key.id", ConfigType::String, 3)
                .doc("Access key. Default: AWS_ACCESS_KEY_ID of the environment, then a web identity token, the container's or the instance's role. ~/.aws is not read."),
        )
        .define(
            key("s3.secret.access.key", ConfigType::Password, 4)
                .doc("Secret of s3.access.key.id. Default: AWS_SECRET_ACCESS_KEY of the environment."),
        )
        .define(
            key("s3.session.token", ConfigType::Password, 5)
                .doc("Session token of temporary keys. Default: AWS_SESSION_TOKEN of the environment."),
        )
        .define(
            key("s3.path.style.access.enabled", ConfigType::Boolean, 6)
                .default("true")
                .doc("true: requests go to ENDPOINT/BUCKET/KEY; false: to BUCKET.ENDPOINT/KEY."),
        )
}

/// The settings. Error: an `s3.` option that does not exist, by name; half a pair of keys.
pub(super) fn parse(parsed: &ParsedConfig, properties: &ConfigMap) -> Result<S3Settings, ConnectError> {
    let known = define(ConfigDef::new());
    if let Some(unknown) = properties
        .keys()
        .find(|name| name.starts_with(PREFIX) && known.key(name).is_none())
    {
        let names: Vec<&str> = known.keys().map(|key| key.name.as_str()).collect();
        return Err(ConnectError::config(format!(
            "configuration {unknown} is not supported; options of S3 are {}, and the bucket is part of archive.url",
            names.join(", ")
        )));
    }
    let text = |name: &str| parsed.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let settings = S3Settings {
        endpoint: text("s3.endpoint"),
        region: text("s3.region"),
        access_key_id: text("s3.access.key.id"),
        secret_access_key: text("s3.secret.access.key"),
        session_token: text("s3.session.token"),
        path_style: parsed.boolean("s3.path.style.access.enabled"),
    };
    settings.check().map_err(ConnectError::config)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ServiceOptions;

    fn options(properties: &[(&str, &str)]) -> Result<ServiceOptions, ConnectError> {
        let properties: ConfigMap = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect();
        ServiceOptions::parse(&properties)
    }

    #[test]
    fn settings_are_read_and_secrets_do_not_show() {
        let options = options(&[
            ("archive.url", "s3://cold/millrace"),
            ("s3.endpoint", "http://127.0.0.1:9000"),
            ("s3.region", "eu-central-1"),
            ("s3.access.key.id", "AKIA"),
            ("s3.secret.access.key", "do-not-show"),
        ])
        .unwrap();
        assert_eq!(options.s3.secret_access_key.as_deref(), Some("do-not-show"));
        assert!(options.s3.path_style);
        assert!(!format!("{options:?}").contains("do-not-show"));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (properties, words) in [
            ([("archive.url", "gs://cold/a"), ("s3.region", "a")], "scheme gs"),
            (
                [("archive.url", "s3://cold"), ("s3.bucket.name", "cold")],
                "s3.bucket.name is not supported",
            ),
            (
                [("archive.url", "s3://cold"), ("s3.access.key.id", "AKIA")],
                "s3.secret.access.key",
            ),
            (
                [("archive.url", "s3://a:do-not-show@b/c"), ("s3.region", "a")],
                "archive.url",
            ),
            (
                [
                    ("archive.url", "s3://cold"),
                    ("s3.path.style.access.enabled", "perhaps"),
                ],
                "true or false",
            ),
        ] {
            let error = options(&properties).unwrap_err().message().to_owned();
            assert!(error.contains(words), "{properties:?}: {error}");
            assert!(!error.contains("do-not-show"), "{error}");
        }
    }
}
