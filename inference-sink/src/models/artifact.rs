//! Artifacts: where models may be loaded from, and their bytes.

use feature_engine::resource::FieldError;
use objects::{Location, ReadError, S3Settings, read_object};
use sha2::{Digest, Sha256};
use std::path::{Component, Path, PathBuf};
use tokio::runtime::Handle;

/// Largest artifact that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Prefixes of artifacts that may be loaded (`inference.artifact.allowed.prefixes`). Empty: none.
#[derive(Clone, Debug, Default)]
pub struct AllowedPrefixes {
    prefixes: Vec<String>,
    /// how S3 is reached; none: not at all
    s3: Option<(S3Settings, Handle)>,
    /// where objects that were read are kept, so that a restart does not depend on their store
    kept: Option<PathBuf>,
}

/// Why an artifact could not be read.
#[derive(Debug)]
pub struct ArtifactError {
    /// what is wrong
    pub error: FieldError,
    /// its store could not be reached: another attempt may succeed
    pub unreachable: bool,
}

impl From<FieldError> for ArtifactError {
    fn from(error: FieldError) -> ArtifactError {
        ArtifactError {
            error,
            unreachable: false,
        }
    }
}

/// An artifact that may be loaded.
enum Allowed {
    File(PathBuf),
    Object { bucket: Location, key: String },
}

impl AllowedPrefixes {
    /// The prefixes as configured: `s3://BUCKET/PREFIX`, `file:` URLs or directories.
    pub fn new(prefixes: &[String]) -> AllowedPrefixes {
        AllowedPrefixes {
            prefixes: prefixes.to_vec(),
            s3: None,
            kept: None,
        }
    }

    /// Reads objects of S3 too, on this runtime, and keeps those that were read below a directory.
    pub fn with_s3(mut self, settings: &S3Settings, runtime: Handle, kept: PathBuf) -> AllowedPrefixes {
        self.s3 = Some((settings.clone(), runtime));
        self.kept = Some(kept);
        self
    }

    /// Whether an artifact may be loaded.
    fn allowed(&self, artifact: &str) -> Result<Allowed, FieldError> {
        let refused = |message: String| FieldError::new("artifact", message);
        match Location::parse(artifact).map_err(refused)? {
            Location::Directory(path) if path.components().any(|part| part == Component::ParentDir) => {
                Err(refused("may not contain `..`".to_owned()))
            }
            Location::Directory(path) => {
                let inside =
                    |prefix: Location| matches!(prefix, Location::Directory(prefix) if path.starts_with(&prefix));
                self.check(artifact, inside)?;
                Ok(Allowed::File(path))
            }
            Location::S3 { bucket, prefix: key } => {
                let inside = |prefix: Location| {
                    matches!(prefix, Location::S3 { bucket: allowed, prefix }
                        if allowed == bucket && Path::new(&key).starts_with(&prefix) && key != prefix)
                };
                self.check(artifact, inside)?;
                let bucket = Location::S3 {
                    bucket,
                    prefix: String::new(),
                };
                Ok(Allowed::Object { bucket, key })
            }
        }
    }

    fn check(&self, artifact: &str, inside: impl Fn(Location) -> bool) -> Result<(), FieldError> {
        if self
            .prefixes
            .iter()
            .any(|prefix| Location::parse(prefix).is_ok_and(&inside))
        {
            return Ok(());
        }
        let message = match self.prefixes.is_empty() {
            true => "no artifact may be loaded: the worker's inference.artifact.allowed.prefixes is empty".to_owned(),
            false => format!(
                "{artifact} is not below one of the worker's inference.artifact.allowed.prefixes: {}",
                self.prefixes.join(", ")
            ),
        };
        Err(FieldError::new("artifact", message))
    }

    /// Reads an artifact whose hash is known or not. Blocks on the disk or the network, so not for the threads of the runtime.
    pub fn read(&self, artifact: &str, sha256: Option<&str>) -> Result<Vec<u8>, ArtifactError> {
        let (bucket, key) = match self.allowed(artifact)? {
            Allowed::File(path) => return Ok(self.read_file(&path)?),
            Allowed::Object { bucket, key } => (bucket, key),
        };
        if let Some(bytes) = sha256.and_then(|hash| self.read_kept(hash)) {
            return Ok(bytes);
        }
        let failed = |message: String| FieldError::new("artifact", format!("{artifact}: {message}"));
        let Some((settings, runtime)) = &self.s3 else {
            return Err(failed("S3 cannot be reached from here".to_owned()).into());
        };
        let objects = bucket.open(settings).map_err(failed)?;
        let read = runtime.block_on(read_object(&*objects, &key, MAX_BYTES));
        let bytes = read.map_err(|error| ArtifactError {
            unreachable: matches!(error, ReadError::Unreachable(_)),
            error: failed(error.to_string()),
        })?;
        self.keep(&bytes);
        Ok(bytes)
    }

    /// The kept copy of an object; none: there is none, or it is damaged.
    fn read_kept(&self, hash: &str) -> Option<Vec<u8>> {
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let directory = self.kept.as_ref().filter(|_| is_hash)?;
        let bytes = std::fs::read(directory.join(hash)).ok()?;
        (sha256(&bytes) == hash).then_some(bytes)
    }

    /// Keeps a copy under its hash. Without one the next start needs the store: slower, not wrong.
    fn keep(&self, bytes: &[u8]) {
        let Some(directory) = &self.kept else { return };
        let hash = sha256(bytes);
        let unfinished = directory.join(format!("{hash}.new"));
        let kept = std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&unfinished, bytes))
            .and_then(|()| std::fs::rename(&unfinished, directory.join(hash)));
        if let Err(error) = kept {
            tracing::warn!(directory = %directory.display(), error = %error, "a model's artifact could not be kept");
        }
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>, FieldError> {
        let failed = |error: std::io::Error| FieldError::new("artifact", format!("{}: {error}", path.display()));
        // A link must not lead out of what is allowed.
        let real = path.canonicalize().map_err(failed)?;
        let inside = self.prefixes.iter().any(|prefix| match Location::parse(prefix) {
            Ok(Location::Directory(prefix)) => prefix.canonicalize().is_ok_and(|prefix| real.starts_with(prefix)),
            _ => false,
        });
        if !inside {
            return Err(FieldError::new(
                "artifact",
                format!("{} is a link to a place outside the allowed prefixes", path.display()),
            ));
        }
        let size = std::fs::metadata(&real).map_err(failed)?.len();
        if size > MAX_BYTES {
            return Err(FieldError::new(
                "artifact",
                format!("has {size} bytes, more than the limit of {MAX_BYTES}"),
            ));
        }
        std::fs::read(&real).map_err(failed)
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_an_allowed_prefix_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("models");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("a.onnx"), b"abc").unwrap();
        std::fs::write(directory.path().join("secret"), b"key").unwrap();
        let allowed = AllowedPrefixes::new(&[format!("file://{}", inside.display())]);
        assert_eq!(
            allowed
                .read(&format!("file://{}/a.onnx", inside.display()), None)
                .unwrap(),
            b"abc"
        );
        for (artifact, reason) in [
            (format!("file://{}/secret", directory.path().display()), "not below"),
            (format!("file://{}/../secret", inside.display()), ".."),
            (format!("file://{}s/a.onnx", inside.display()), "not below"),
            ("s3://bucket/a.onnx".to_owned(), "not below"),
            ("gs://bucket/a.onnx".to_owned(), "gs is not supported"),
            (format!("file://{}/none.onnx", inside.display()), "No such file"),
        ] {
            let error = allowed.read(&artifact, None).unwrap_err().error;
            assert!(error.message.contains(reason), "{artifact}: {error}");
        }
        std::os::unix::fs::symlink(directory.path().join("secret"), inside.join("link.onnx")).unwrap();
        let error = allowed
            .read(&format!("file://{}/link.onnx", inside.display()), None)
            .unwrap_err()
            .error;
        assert!(error.message.contains("outside"), "{error}");
        assert!(
            AllowedPrefixes::default()
                .read("file:///etc/passwd", None)
                .unwrap_err()
                .error
                .message
                .contains("is empty")
        );
    }

    #[test]
    fn a_prefix_of_s3_is_a_bucket_and_whole_parts_of_a_path() {
        let allowed = AllowedPrefixes::new(&["s3://models/ads/".to_owned(), "s3://open".to_owned()]);
        for artifact in [
            "s3://models/ads/1.onnx",
            "s3://models/ads/bid/1.onnx",
            "s3://open/1.onnx",
        ] {
            assert!(allowed.allowed(artifact).is_ok(), "{artifact}");
        }
        for artifact in [
            "s3://models/adserver/1.onnx",
            "s3://models/1.onnx",
            "s3://other/ads/1.onnx",
            "s3://open",
            "/ads/1.onnx",
        ] {
            let error = allowed.allowed(artifact).err().map(|error| error.message);
            assert!(error.is_some_and(|error| error.contains("not below")), "{artifact}");
        }
    }

    #[test]
    fn a_kept_copy_is_used_while_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        // Nobody listens there.
        let settings = S3Settings {
            endpoint: Some("http://127.0.0.1:1".into()),
            region: Some("us-east-1".into()),
            access_key_id: Some("key".into()),
            secret_access_key: Some("secret".into()),
            ..S3Settings::default()
        };
        let allowed = AllowedPrefixes::new(&["s3://models".to_owned()]).with_s3(
            &settings,
            runtime.handle().clone(),
            directory.path().to_path_buf(),
        );
        let hash = sha256(b"abc");
        allowed.keep(b"abc");
        assert_eq!(allowed.read("s3://models/a.onnx", Some(&hash)).unwrap(), b"abc");
        std::fs::write(directory.path().join(&hash), b"ab").unwrap();
        assert!(allowed.read_kept(&hash).is_none());
        assert!(allowed.read_kept("../secret").is_none());
        let error = allowed.read("s3://models/a.onnx", Some(&hash)).unwrap_err();
        assert!(error.unreachable, "{error:?}");
    }

    #[test]
    fn hashes_as_sha256sum_does() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
