//! A PostgreSQL server for a test: its own folder and port, gone with the test.
//!
//! ```text
//!  PostgresServer::start -> scripts/install-packages.sh (once per machine) -> initdb -> postgres as a ServiceProcess, whose
//!     folder goes with it
//!  psql: runs statements as the superuser `postgres`, over the server's socket
//! ```
//! PostgreSQL does not run as root: where the tests do, it runs as the user `postgres`, which the package made.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::process::{ServiceProcess, Watch, free_port, tail, workspace};

/// A server that does not answer within this time will not come.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at whether it answers.
const PROBE_INTERVAL: Duration = Duration::from_millis(30);

/// A running PostgreSQL server with `wal_level=logical`. Users log in with their password over TCP (scram-sha-256).
pub struct PostgresServer {
    folder: PathBuf,
    binaries: PathBuf,
    port: u16,
    process: Mutex<Option<ServiceProcess>>,
}

/// One server for all tests of a binary.
static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();

impl PostgresServer {
    /// The server that tests of this binary share; it ends with the process. Use databases of your own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(|| Self::start(&[])).await
    }

    /// A server of one's own, with more (or other) settings of `postgresql.conf`.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not start; the end of its log is in the error.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let settings: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let server = tokio::task::spawn_blocking(move || Self::prepare(&settings)).await??;
        server.run().await?;
        Ok(server)
    }

    fn prepare(settings: &[(String, String)]) -> Result<Self> {
        let script = workspace().join("scripts/install-packages.sh");
        let installed = Command::new(&script)
            .arg("test")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .status();
        if !installed
            .with_context(|| format!("run {}", script.display()))?
            .success()
        {
            bail!("scripts/install-packages.sh test failed; see its output above");
        }
        let folder = tempfile::Builder::new().prefix("millrace-postgres-").tempdir()?.keep();
        let server = Self {
            folder,
            binaries: binaries()?,
            port: free_port()?,
            process: Mutex::new(None),
        };
        server.initialise(settings)?;
        Ok(server)
    }

    /// Its own folder, which the server's user may read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn initialise(&self, settings: &[(String, String)]) -> Result<()> {
        if is_root()? {
            let owned = Command::new("chown").arg("postgres:").arg(&self.folder).output()?;
            check(&owned, "chown postgres:")?;
        }
        let data = self.data();
        let made = self
            .program("initdb")
            .args([
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
            ])
            .arg("-D")
            .arg(&data)
            .output()?;
        check(&made, "initdb")?;
        let port = self.port.to_string();
        let folder = self.folder.display().to_string();
        let mut all: Vec<(String, String)> = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", folder.as_str()),
            ("wal_level", "logical"),
            ("max_wal_senders", "60"),
            ("max_replication_slots", "60"),
            // nothing outlives the machine, but a commit must be seen by slots at once
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("log_replication_commands", "on"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in settings {
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), value.clone()));
        }
        let lines: Vec<String> = all
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect();
        let mut configuration = std::fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))?;
        configuration.write_all(lines.concat().as_bytes())?;
        Ok(())
    }

    /// A program of the server, as a user that may run it.
    fn program(&self, name: &str) -> Command {
        let path = self.binaries.join(name);
        match is_root() {
            Ok(false) => Command::new(path),
            _ => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                    .arg(path);
                command
            }
        }
    }

    /// Starts the server and waits until it answers.
    async fn run(&self) -> Result<()> {
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data());
        server.current_dir("/");
        let watch = Watch {
            log: &self.log(),
            folder: Some(&self.folder),
            // PostgreSQL's fast shutdown: it waits for no client.
            stop: Signal::INT,
        };
        *self.process() = Some(ServiceProcess::watch("PostgreSQL", &server, &watch)?);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = self.psql("postgres", "SELECT 1").await else {
                return Ok(());
            };
            let ended = match self.process().as_mut() {
                Some(process) => process.ended()?,
                None => bail!("the server was stopped while it started"),
            };
            if let Some(status) = ended {
                bail!(
                    "PostgreSQL ended with {status} while it started; the end of its log:\n{}",
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "PostgreSQL did not answer ({error}); the end of its log:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<ServiceProcess>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements in `database` as the superuser; what they return, as text: columns separated by `|`, rows by lines.
    ///
    /// # Errors
    /// When a statement fails; the server's message is in the error.
    pub async fn psql(&self, database: &str, statements: &str) -> Result<String> {
        let mut command = Command::new(self.binaries.join("psql"));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
                "-p",
            ])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/");
        let statements = statements.to_owned();
        let output = tokio::task::spawn_blocking(move || -> Result<Output> {
            let mut psql = command.spawn().context("run psql")?;
            let mut input = psql.stdin.take().context("psql has no input")?;
            // psql may end before it has read everything
            let writing = std::thread::spawn(move || {
                let _ = input.write_all(statements.as_bytes());
            });
            let output = psql.wait_with_output()?;
            let _ = writing.join();
            Ok(output)
        })
        .await??;
        check(&output, "psql")?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Runs statements in `database` as the superuser without waiting for them; they end, and what they hold is let go, when what
    /// is returned is dropped.
    ///
    /// # Errors
    /// When psql does not start.
    pub async fn psql_in_background(&self, database: &str, statements: &str) -> Result<BackgroundPsql> {
        let mut psql = Command::new(self.binaries.join("psql"))
            .args(["-X", "-q", "-U", "postgres", "-d", database, "-c", statements, "-p"])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .context("run psql")?;
        match psql.try_wait()? {
            Some(status) => bail!("psql ended with {status}"),
            None => Ok(BackgroundPsql(psql)),
        }
    }

    /// Kills the server at once (SIGKILL); its data stays. Returns when it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self) -> Result<()> {
        let process = self.process().take().context("the server does not run")?;
        tokio::task::spawn_blocking(move || process.kill()).await?
    }

    /// Stops the server cleanly, without waiting for clients; its data stays. Returns when it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process().take().context("the server does not run")?;
        tokio::task::spawn_blocking(move || process.stop().map(|_| ())).await?
    }

    /// Starts the server again after `kill` or `stop`, on the same port with the same data.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self) -> Result<()> {
        // what a killed server leaves behind; no other server has this folder
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        self.run().await
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Copies the data of a server that does not run to its folder's `name`, or back from there: a restored backup.
    ///
    /// # Errors
    /// When it runs, or the disk's.
    pub fn copy_data(&self, name: &str, back: bool) -> Result<()> {
        if self.process().is_some() {
            bail!("the server runs: stop it before its data is copied");
        }
        let (data, copy) = (self.data(), self.folder.join(name));
        let (from, to) = if back { (copy, data) } else { (data, copy) };
        let _ = std::fs::remove_dir_all(&to);
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).output()?;
        check(&copied, "cp -a")
    }

    /// Has a server that does not run come up as a standby at its next start: it can be promoted, to a timeline of its own.
    ///
    /// # Errors
    /// The disk's.
    pub fn become_standby(&self) -> Result<()> {
        let signal = self.data().join("standby.signal");
        std::fs::write(&signal, "")?;
        if is_root()? {
            let owned = Command::new("chown").arg("postgres:").arg(&signal).output()?;
            check(&owned, "chown postgres:")?;
        }
        Ok(())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        tail(&self.log(), 40)
    }
}

/// Statements that run.
pub struct BackgroundPsql(Child);

impl Drop for BackgroundPsql {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // the test fails: its folder goes, so the log is kept by being shown
            let _ = writeln!(std::io::stderr(), "the end of PostgreSQL's log:\n{}", self.log_tail());
        }
        // A process takes the folder with it.
        if self.process().take().is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn check(output: &Output, what: &str) -> Result<()> {
    if !output.status.success() {
        bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("run id")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

/// Where the newest installed server's programs are.
fn binaries() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            let binaries = version.path().join("bin");
            binaries.join("postgres").exists().then_some((number, binaries))
        })
        .collect();
    found.sort_unstable();
    match found.pop() {
        Some((_, binaries)) => Ok(binaries),
        None => bail!("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/postgres"),
    }
}
