//! How many rows a second the Postgres connector carries, and what CPU time it takes: a snapshot, then live changes, of a table
//! shaped like the retail catalog, from a real PostgreSQL through a worker into a compacted topic of Apache Kafka.
//!
//!   cargo run --release --workspace --example postgres_throughput [ROWS]
//!
//! The worker runs in this process, alone but for a look at the topic's end twenty times a second; PostgreSQL, Kafka and psql
//! are processes of their own and are not counted.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use connect_runtime::logging::Loggers;
use connect_runtime::{Plugins, Worker};
use kafka_client::{Admin, IsolationLevel, NewTopic, TopicPartition};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::{KafkaBroker, PostgresServer};

/// CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

struct Topic {
    admin: Admin,
    partition: TopicPartition,
}

impl Topic {
    async fn end(&self) -> i64 {
        let ends = self
            .admin
            .end_offsets(std::slice::from_ref(&self.partition), IsolationLevel::ReadUncommitted)
            .await
            .unwrap();
        ends.into_iter().map(|(_, end)| end).sum()
    }

    /// Waits until the topic has so many records; says what that took since `start`.
    async fn reaches(&self, records: i64, what: &str, rows: i64, start: Instant, cpu: f64) {
        while self.end().await < records {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let millions = rows as f64 / 1e6;
        println!(
            "{what}: {rows} rows in {seconds:.1} s, {:.0} rows/s, {:.2} CPU-s per million rows",
            rows as f64 / seconds,
            cpu / millions
        );
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rows: i64 = std::env::args().nth(1).map_or(Ok(1_000_000), |rows| rows.parse())?;
    let server = PostgresServer::start(&[]).await?;
    let broker = KafkaBroker::start().await?;
    let sql = format!(
        "CREATE TABLE products (product_id text PRIMARY KEY, manufacturer_id text, department text, brand text, \
         product_category text, product_type text, package_size text); \
         INSERT INTO products SELECT g::text, (g % 6000)::text, 'GROCERY', 'National', 'BAKED BREAD/BUNS/ROLLS', \
         'MAINSTREAM WHITE BREAD', '20 OZ' FROM generate_series(1, {rows}) g; \
         CREATE ROLE capture LOGIN REPLICATION SUPERUSER PASSWORD 'p'; CREATE PUBLICATION p FOR TABLE products"
    );
    server.psql("postgres", &sql).await?;
    let admin = Admin::new(&broker.config())?;
    admin
        .create_topics(&[NewTopic::new("catalog.products", 1, 1).with("cleanup.policy", "compact")])
        .await?;
    let topic = Topic {
        admin,
        partition: TopicPartition::new("catalog.products", 0),
    };
    let mut plugins = Plugins::builtin();
    plugins.connectors.extend(catalog_source::plugins());
    let properties = [
        ("bootstrap.servers", broker.bootstrap().as_str()),
        ("group.id", "throughput"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "false"),
        ("config.storage.topic", "configs"),
        ("offset.storage.topic", "offsets"),
        ("status.storage.topic", "statuses"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("listeners", "http://127.0.0.1:0"),
    ]
    .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
    .into_iter()
    .collect();
    let worker = Worker::start(&properties, Arc::new(plugins), Loggers::detached()).await?;
    let url = format!("http://{}/connectors/catalog/config", worker.id());
    let worker = worker.finish().await?;
    let config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1", "database.port": server.port().to_string(), "database.user": "capture",
        "database.password": "p", "database.dbname": "postgres", "topic.prefix": "retail", "slot.name": "throughput",
        "table.include.list": "public.products", "publication.name": "p", "publication.autocreate.mode": "disabled",
        "transforms": "row,key,route",
        "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.key.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
        "transforms.key.field": "product_id",
        "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.route.regex": "retail\\.public\\.(.*)",
        "transforms.route.replacement": "catalog.$1",
    });
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let created = reqwest::Client::new().put(url).json(&config).send().await?;
    anyhow::ensure!(created.status().is_success(), "{}", created.text().await?);
    topic.reaches(rows, "snapshot", rows, start, cpu).await;

    let changed = rows / 4;
    let sql = format!("UPDATE products SET package_size = '21 OZ' WHERE product_id::bigint <= {changed}");
    server.psql("postgres", &sql).await?;
    // committed: from here on the stream brings them
    let (start, cpu) = (Instant::now(), cpu_seconds());
    topic
        .reaches(rows + changed, "changes of one transaction", changed, start, cpu)
        .await;

    let singly: i64 = (rows / 20).max(1);
    let statements: Vec<String> = (1..=singly)
        .map(|id| format!("UPDATE products SET package_size = '22 OZ' WHERE product_id = '{id}';"))
        .collect();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    server.psql("postgres", &statements.join("\n")).await?;
    topic
        .reaches(
            rows + changed + singly,
            "changes of one row per transaction, as psql makes them",
            singly,
            start,
            cpu,
        )
        .await;
    worker.stop().await;
    Ok(())
}
