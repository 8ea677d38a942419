//! Where the job runs: Kafka, an S3 server, passwords in files; and what an operator does there, as `configs/retail/README.md`
//! says it.

use crate::files;
use crate::outputs::{PARTITIONS, topics};
use crate::purchases::unpacked;
use anyhow::{Context, Result};
use std::path::Path;
use tests::inference::create_topics;
use tests::s3::{ACCESS_KEY, SECRET_KEY};
use tests::worker::WorkerProcess;
use tests::{KafkaBroker, PostgresServer, S3Server};

const DATABASE: &str = "retail";
const PASSWORD: &str = "correct horse battery staple";
/// What nobody may be told.
pub const SECRETS: [&str; 2] = [PASSWORD, SECRET_KEY];
/// The bucket of `archive.url`.
pub const BUCKET: &str = "retail-archive";

/// Services, and files with passwords.
pub struct Site {
    /// Apache Kafka
    pub broker: KafkaBroker,
    /// the archive
    pub s3: S3Server,
    secrets: tempfile::TempDir,
}

impl Site {
    /// Starts the services and makes the topics of outputs.
    pub async fn start() -> Result<Site> {
        let (broker, s3) = tokio::try_join!(KafkaBroker::start(), S3Server::start(BUCKET))?;
        let secrets = tempfile::Builder::new().prefix("millrace-secrets-").tempdir()?;
        let keys = format!("access.key.id={ACCESS_KEY}\nsecret.access.key={SECRET_KEY}\n");
        std::fs::write(secrets.path().join("s3.properties"), keys)?;
        std::fs::write(
            secrets.path().join("postgres.properties"),
            format!("password={PASSWORD}\n"),
        )?;
        let outputs: Vec<_> = topics().map(|topic| (topic, PARTITIONS)).collect();
        create_topics(&broker.bootstrap(), &outputs).await?;
        Ok(Site { broker, s3, secrets })
    }

    /// Where the passwords are.
    pub fn secrets(&self) -> &Path {
        self.secrets.path()
    }

    /// A worker of this site; it is not started.
    pub fn worker(&self, name: &str) -> Result<WorkerProcess> {
        let addresses = [
            ("bootstrap.servers", self.broker.bootstrap()),
            ("s3.endpoint", self.s3.endpoint()),
        ];
        let properties = files::worker_properties(self.secrets(), &addresses)?;
        WorkerProcess::with_properties(name, properties, &files::root())
    }

    /// Posts `configs/retail/NAME.json` with some options replaced.
    pub async fn post(&self, worker: &WorkerProcess, name: &str, changes: &[(&str, String)]) -> Result<()> {
        let connector = files::connector(name, self.secrets(), changes)?;
        worker.success("POST", "/connectors", Some(&connector)).await.map(drop)
    }

    /// Puts stores, feature view, tenants and models.
    pub async fn put_documents(&self, worker: &WorkerProcess) -> Result<()> {
        for (path, text) in files::documents()? {
            worker.put_text(&path, "application/yaml", text).await?;
        }
        Ok(())
    }
}

/// The catalog's database, as `schema.sql` makes it, with the demo's products.
pub struct Catalog {
    /// PostgreSQL
    pub server: PostgresServer,
    /// rows of the table
    pub rows: usize,
}

impl Catalog {
    /// Starts PostgreSQL and makes the database.
    pub async fn start() -> Result<Catalog> {
        let server = PostgresServer::start(&[]).await?;
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE}")).await?;
        let catalog = Catalog {
            server,
            rows: unpacked("products")?.lines().count() - 1,
        };
        catalog.sql(&files::read("configs/retail/schema.sql")?).await?;
        catalog
            .sql(&format!("ALTER ROLE millrace PASSWORD '{PASSWORD}'"))
            .await?;
        let copy = r"\copy products FROM STDIN (FORMAT csv, HEADER, FORCE_NOT_NULL (package_size))";
        let products = unpacked("products")?;
        catalog
            .sql(&format!("{copy}\n{products}\\.\n"))
            .await
            .context("copy the products")?;
        Ok(catalog)
    }

    /// Runs statements.
    pub async fn sql(&self, statements: &str) -> Result<String> {
        self.server.psql(DATABASE, statements).await
    }

    /// Replaced options of `catalog.json`.
    pub fn addresses(&self) -> [(&'static str, String); 2] {
        [
            ("database.hostname", "127.0.0.1".to_owned()),
            ("database.port", self.server.port().to_string()),
        ]
    }
}
