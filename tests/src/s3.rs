//! An S3 server for a test: versitygw over a folder, on a port of its own, gone with the test.
//!
//! ```text
//!  S3Server::start -> scripts/s3-server.sh install (once per machine) -> process (see `process`)
//!     kill, stop -> start_again: the same port and the same objects
//! ```

use crate::process::{ServiceProcess, free_port, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server that does not listen within this time will not.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at whether it listens.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Keys of the only account.
pub const ACCESS_KEY: &str = "test-access-key";
/// Its secret.
pub const SECRET_KEY: &str = "test-secret-key";
/// The region of all buckets.
pub const REGION: &str = "us-east-1";

/// A server with its folder.
pub struct S3Server {
    binary: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    process: Option<ServiceProcess>,
}

impl S3Server {
    /// A server with one bucket.
    ///
    /// # Errors
    /// When the server cannot be built or does not start; the end of its log is in the error.
    pub async fn start(bucket: &str) -> Result<S3Server> {
        let binary = tokio::task::spawn_blocking(install).await??;
        let folder = tempfile::Builder::new().prefix("millrace-s3-").tempdir()?;
        // A folder in the root is a bucket.
        std::fs::create_dir_all(folder.path().join("buckets").join(bucket))?;
        std::fs::create_dir_all(folder.path().join("attributes"))?;
        let mut server = S3Server {
            binary,
            folder,
            port: free_port()?,
            process: None,
        };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts the server after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_again(&mut self) -> Result<()> {
        let address = self.address();
        let (buckets, attributes) = (
            self.folder.path().join("buckets"),
            self.folder.path().join("attributes"),
        );
        let arguments = ["--port", &address, "--region", REGION, "posix", "--sidecar"].map(PathBuf::from);
        let arguments = arguments.into_iter().chain([attributes, buckets]);
        let environment = [("ROOT_ACCESS_KEY", ACCESS_KEY), ("ROOT_SECRET_KEY", SECRET_KEY)];
        let mut process = ServiceProcess::spawn("s3", &self.binary, arguments, &environment)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            if !process.is_running()? || Instant::now() > deadline {
                bail!("the S3 server does not listen on {address}; log {}", process.log_tail());
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Kills the server at once; its objects stay.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the S3 server does not run")?.kill()
    }

    /// Stops the server cleanly; its objects stay.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the S3 server does not run")?
            .stop()
            .map(|_| ())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL for `s3.endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Puts an object past the server.
    ///
    /// # Errors
    /// The disk's.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.path().join("buckets").join(bucket).join(key);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::fs::write(path, bytes).context("put an object")
    }

    /// Names of all objects of a bucket with their bytes, read past the server, in order.
    ///
    /// # Errors
    /// The disk's.
    pub fn objects(&self, bucket: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let root = self.folder.path().join("buckets").join(bucket);
        let mut open = vec![root.clone()];
        let mut objects = Vec::new();
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path.strip_prefix(&root)?.display().to_string();
                // What starts so is the server's own.
                if name.starts_with(".sgwtmp") {
                    continue;
                }
                match path.is_dir() {
                    true => open.push(path),
                    false => objects.push((name, std::fs::read(&path)?)),
                }
            }
        }
        objects.sort();
        Ok(objects)
    }
}

fn install() -> Result<PathBuf> {
    let script = workspace().join("scripts/s3-server.sh");
    let installed = Command::new(&script).arg("install").stderr(Stdio::inherit()).output();
    let installed = installed.with_context(|| format!("run {}", script.display()))?;
    if !installed.status.success() {
        bail!("scripts/s3-server.sh install failed; see its output above");
    }
    Ok(PathBuf::from(String::from_utf8(installed.stdout)?.trim()))
}
