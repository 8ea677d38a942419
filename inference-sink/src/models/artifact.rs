//! Artifacts: where models may be loaded from, and their bytes.

use feature_engine::resource::FieldError;
use sha2::{Digest, Sha256};
use std::path::{Component, Path, PathBuf};

/// Largest artifact that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Prefixes of artifacts that may be loaded (`inference.artifact.allowed.prefixes`). Empty: none.
#[derive(Clone, Debug, Default)]
pub struct AllowedPrefixes(Vec<String>);

impl AllowedPrefixes {
    /// The prefixes as configured: `file:` URLs or directories.
    pub fn new(prefixes: &[String]) -> AllowedPrefixes {
        AllowedPrefixes(prefixes.to_vec())
    }

    /// The path of an artifact that may be loaded.
    pub fn path(&self, artifact: &str) -> Result<PathBuf, FieldError> {
        let refused = |message: String| Err(FieldError::new("artifact", message));
        if let Some((scheme, _)) = artifact.split_once("://").filter(|(scheme, _)| *scheme != "file") {
            return refused(format!("scheme {scheme} is not supported yet; use a file: URL"));
        }
        let path = local_path(artifact);
        if path.components().any(|part| part == Component::ParentDir) {
            return refused("may not contain `..`".to_owned());
        }
        let allowed = self.0.iter().any(|prefix| path.starts_with(local_path(prefix)));
        if !allowed {
            return refused(match self.0.is_empty() {
                true => {
                    "no artifact may be loaded: the worker's inference.artifact.allowed.prefixes is empty".to_owned()
                }
                false => format!(
                    "{artifact} is not below one of the worker's inference.artifact.allowed.prefixes: {}",
                    self.0.join(", ")
                ),
            });
        }
        Ok(path)
    }

    /// Reads an artifact. Blocks on the disk.
    pub fn read(&self, artifact: &str) -> Result<Vec<u8>, FieldError> {
        let path = self.path(artifact)?;
        let failed = |error: std::io::Error| FieldError::new("artifact", format!("{}: {error}", path.display()));
        // A link must not lead out of what is allowed.
        let real = path.canonicalize().map_err(failed)?;
        let inside = self.0.iter().any(|prefix| {
            local_path(prefix)
                .canonicalize()
                .is_ok_and(|prefix| real.starts_with(prefix))
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

fn local_path(url: &str) -> PathBuf {
    Path::new(
        url.strip_prefix("file://")
            .or_else(|| url.strip_prefix("file:"))
            .unwrap_or(url),
    )
    .to_path_buf()
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
            allowed.read(&format!("file://{}/a.onnx", inside.display())).unwrap(),
            b"abc"
        );
        for (artifact, reason) in [
            (format!("file://{}/secret", directory.path().display()), "not below"),
            (format!("file://{}/../secret", inside.display()), ".."),
            (format!("file://{}s/a.onnx", inside.display()), "not below"),
            ("s3://bucket/a.onnx".to_owned(), "s3 is not supported"),
            (format!("file://{}/none.onnx", inside.display()), "No such file"),
        ] {
            let error = allowed.read(&artifact).unwrap_err();
            assert!(error.message.contains(reason), "{artifact}: {error}");
        }
        std::os::unix::fs::symlink(directory.path().join("secret"), inside.join("link.onnx")).unwrap();
        let error = allowed
            .read(&format!("file://{}/link.onnx", inside.display()))
            .unwrap_err();
        assert!(error.message.contains("outside"), "{error}");
        assert!(
            AllowedPrefixes::default()
                .read("file:///etc/passwd")
                .unwrap_err()
                .message
                .contains("is empty")
        );
    }

    #[test]
    fn hashes_as_sha256sum_does() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
