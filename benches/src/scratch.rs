//! The folder for everything that runs write. It goes when this process goes, however that ends.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Waits for the end of its input, which comes with the end of whoever holds the other end; then removes $1, in which programs
/// that are being killed may still write.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
while [ -e "$1" ]; do rm -rf "$1" 2>/dev/null; done
"#;

/// A folder that is watched over.
pub struct Scratch {
    folder: PathBuf,
    watchdog: Child,
}

impl Scratch {
    /// Makes it below the system's folder for temporary files.
    pub fn new() -> Result<Scratch> {
        let folder = tempfile::Builder::new().prefix("millrace-bench-").tempdir()?.keep();
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "scratch"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("run sh")?;
        Ok(Scratch { folder, watchdog })
    }

    /// A folder for one run.
    pub fn folder(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(&self.folder)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}
