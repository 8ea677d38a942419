//! Prints what the stores cost: `cargo run --release -p state-store --example throughput [directory]`.
//!
//! Keyed: reads and updates of cached keys, a barrier with its commit, per operation. Global: a first copy of a topic of
//! 200-byte rows in rows per second on one core, reads of hot rows and first reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

use std::time::Instant;

use state_store::{
    Database, Gate, GlobalRecord, GlobalSpec, GlobalStore, KeyedPartition, KeyedSpec, MemoryBudget, Position,
    RowFormat, Since, StateValue, Ttl,
};

/// Four numbers, as a small aggregate has.
#[derive(Clone, Default)]
struct Aggregate([f64; 4]);

impl StateValue for Aggregate {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        for number in self.0 {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (_, numbers) = bytes.split_first().ok_or("empty")?;
        let mut aggregate = Aggregate::default();
        for (to, from) in aggregate.0.iter_mut().zip(numbers.chunks_exact(8)) {
            *to = f64::from_le_bytes(from.try_into().map_err(|_| "short")?);
        }
        Ok(aggregate)
    }
    fn heap_bytes(&self) -> usize {
        0
    }
}

fn main() {
    let directory = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, Into::into)
        .join("millrace-throughput");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).unwrap();
    }
    let before = resident_kib();
    let started = Instant::now();
    let db = Database::open(&directory, MemoryBudget::default()).unwrap();
    println!(
        "open: {:.1} ms, {} KiB resident",
        started.elapsed().as_secs_f64() * 1e3,
        resident_kib() - before
    );
    keyed(&db, None);
    keyed(
        &db,
        Some(Ttl {
            after_ms: 86_400_000,
            since: Since::Write,
        }),
    );
    global(&db);
    drop(db);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn keyed(db: &Database, ttl: Option<Ttl>) {
    const KEYS: usize = 100_000;
    const EVENTS_PER_BARRIER: usize = 10_000;
    let store = if ttl.is_some() { "with-ttl" } else { "without-ttl" };
    let spec = KeyedSpec {
        connector: "bench".into(),
        store: store.into(),
        partition: 0,
        ttl,
        archive: false,
    };
    let mut partition: KeyedPartition<Aggregate> = KeyedPartition::open(db, spec).unwrap();
    let keys: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| format!("household-{number:08}").into_bytes())
        .collect();
    // A stride that visits keys out of order, as events do.
    let order = |event: usize| keys.get(event * 7_919 % KEYS).unwrap();
    let mut offset = 0;
    let mut barrier = |partition: &mut KeyedPartition<Aggregate>, time: i64| {
        let started = Instant::now();
        let changes = partition.changes();
        let encoded = started.elapsed();
        let count = changes.records.len();
        offset += 1;
        let position = Position {
            input_offset: offset,
            stream_time_ms: time,
            changelog_offset: offset,
        };
        partition.committed(changes, &position).unwrap();
        (count, encoded, started.elapsed() - encoded)
    };
    for event in 0..KEYS {
        partition
            .get_or_insert_with(order(event), 0, Aggregate::default)
            .unwrap();
    }
    barrier(&mut partition, 0);

    let started = Instant::now();
    let mut found = 0;
    for event in 0..1_000_000 {
        found += usize::from(partition.get(order(event), 1).unwrap().is_some());
    }
    println!("keyed {store}: get {:.0} ns ({found} found)", per(started, 1_000_000));

    let (mut update, mut encode, mut commit, mut records) = (0.0, 0.0, 0.0, 0);
    let mut event = 0;
    for round in 0..50 {
        let started = Instant::now();
        for _ in 0..EVENTS_PER_BARRIER {
            let value = partition
                .get_or_insert_with(order(event), round, Aggregate::default)
                .unwrap();
            if let Some(number) = value.0.first_mut() {
                *number += 1.0;
            }
            event += 1;
        }
        update += started.elapsed().as_nanos() as f64;
        let (count, encoded, committed) = barrier(&mut partition, round);
        records += count;
        encode += encoded.as_nanos() as f64;
        commit += committed.as_nanos() as f64;
    }
    let records = records as f64;
    println!(
        "keyed {store}: update {:.0} ns, barrier per entry: encode {:.0} ns, commit {:.0} ns",
        update / event as f64,
        encode / records,
        commit / records
    );
}

fn global(db: &Database) {
    const ROWS: usize = 1_000_000;
    const BATCH: usize = 8_192;
    let spec = GlobalSpec {
        store: "products".into(),
        topic: "catalog.products".into(),
        format: RowFormat::default(),
        gate: Gate::default(),
    };
    let store = GlobalStore::open(db, spec, |_, value| Ok(value.len())).unwrap();
    // Values that compress about as JSON rows do; the topic hands keys out in no order.
    let key = |number: usize| format!("product-{:08}", number * 7_919 % ROWS).into_bytes();
    let value = |number: usize| {
        format!(
            r#"{{"product_id":{number},"brand":"Private","product_type":"type {}","text":"{}"}}"#,
            number % 97,
            "x".repeat(120)
        )
        .into_bytes()
    };
    let rows: Vec<(Vec<u8>, Vec<u8>)> = (0..ROWS).map(|number| (key(number), value(number))).collect();
    let started = Instant::now();
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        let records: Vec<GlobalRecord<'_>> = rows
            .iter()
            .enumerate()
            .map(|(number, (key, value))| GlobalRecord {
                partition: 0,
                offset: i64::try_from(batch * BATCH + number).unwrap_or(i64::MAX),
                timestamp_ms: None,
                key: Some(key),
                value: Some(value),
                marker_header: None,
            })
            .collect();
        store.apply(&records).unwrap();
    }
    let applied = started.elapsed().as_secs_f64();
    store.reached_end().unwrap();
    let total = started.elapsed().as_secs_f64();
    println!(
        "global: first copy of {} rows at {:.0} rows/s (applied {applied:.2} s, served after {total:.2} s)",
        store.len(),
        ROWS as f64 / total
    );
    let started = Instant::now();
    let mut bytes = 0;
    for number in 0..50_000 {
        bytes += store.get(&key(number)).map_or(0, |row| *row);
    }
    println!("global: first read {:.0} ns ({bytes} bytes)", per(started, 50_000));
    let hot: Vec<Vec<u8>> = (0..50_000).map(key).collect();
    let started = Instant::now();
    let mut bytes = 0;
    for _ in 0..20 {
        for key in &hot {
            bytes += store.get(key).map_or(0, |row| *row);
        }
    }
    println!("global: hot read {:.0} ns ({bytes} bytes)", per(started, 1_000_000));
    let started = Instant::now();
    let missing = (0..1_000_000)
        .filter(|number| store.get(&(number % 1_000u32).to_be_bytes()).is_none())
        .count();
    println!(
        "global: read of a missing key {:.0} ns ({missing} missing)",
        per(started, 1_000_000)
    );
}

/// Resident memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn per(started: Instant, count: u32) -> f64 {
    started.elapsed().as_nanos() as f64 / f64::from(count)
}
