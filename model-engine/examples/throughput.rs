#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]
//! Rows per second of models, by batch size, on one thread: per second of the thread's CPU time
//! (Linux) and the best of twenty runs, so that what else the machine does counts little.
//!
//! `cargo run --release -p model-engine --example throughput [FILE.onnx ...]`: without files, the
//! demo's models.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model_engine::{ElementType, Limits, Model, Values};

fn main() {
    let demo = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../configs/demo/models");
    let mut files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() {
        files = ["logistic", "mlp", "lightgbm", "costly", "window"]
            .map(|name| demo.join(format!("{name}.onnx")))
            .into();
    }
    println!(
        "{:<14} {:>10} {:>12} {:>12} {:>12}",
        "model", "memory", "batch", "rows/s", "us/row"
    );
    for file in files {
        let bytes = std::fs::read(&file).expect("the file can be read");
        let model = Arc::new(Model::load(&bytes, &Limits::default()).expect("the model loads"));
        let name = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        for batch in model.batch_sizes() {
            let rate = rows_per_second(&model, *batch);
            println!(
                "{name:<14} {:>10} {batch:>12} {rate:>12.0} {:>12.3}",
                model.memory_bytes(),
                1e6 / rate
            );
        }
    }
}

/// The best of twenty short runs.
fn rows_per_second(model: &Arc<Model>, batch: usize) -> f64 {
    const BATCHES: usize = 64;
    let mut session = model.session();
    // Different rows, so that branches are not learned by heart.
    let inputs: Vec<Vec<Values>> = (0..BATCHES)
        .map(|number| {
            model
                .inputs()
                .iter()
                .map(|input| values(input.element, noise(batch * input.width(), number as u64)))
                .collect()
        })
        .collect();
    let mut measure = || {
        let (start, cpu, mut rows) = (Instant::now(), cpu_time(), 0_usize);
        while start.elapsed() < Duration::from_millis(25) {
            for inputs in &inputs {
                rows += session.run(inputs, 0..batch).expect("the model runs").rows();
            }
        }
        let spent = match (cpu, cpu_time()) {
            (Some(before), Some(after)) if after > before => after - before,
            _ => start.elapsed(),
        };
        rows as f64 / spent.as_secs_f64()
    };
    (0..20).map(|_| measure()).fold(0.0, f64::max)
}

/// CPU time of this thread so far, where the kernel tells it.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn values(element: ElementType, noise: Vec<f32>) -> Values {
    match element {
        ElementType::Float => Values::Float(noise),
        ElementType::Double => Values::Double(noise.into_iter().map(f64::from).collect()),
        ElementType::Int64 | ElementType::Text => Values::Int64(noise.into_iter().map(|value| value as i64).collect()),
        ElementType::Int32 => Values::Int32(noise.into_iter().map(|value| value as i32).collect()),
        ElementType::Boolean => Values::Boolean(noise.into_iter().map(|value| value > 32.0).collect()),
    }
}

/// Values from 0 to 64, by xorshift.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 6400) as f32 / 100.0
        })
        .collect()
}
