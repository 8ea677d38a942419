//! The real worker killed at random moments under load, over Apache Kafka and S3.
//!
//! `MILLRACE_SOAK_KILLS` says how often (6; `make soak`: 50) and `MILLRACE_SOAK_SEED` repeats a run's decisions: the seed is
//! printed when a run begins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use anyhow::{Context, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::fault_job::{BUCKET, FaultJob, Progress};
use tests::{KafkaBroker, S3Server};

/// Kills of one job.
const KILLS_PER_JOB: u64 = 5;
/// A kill comes so long after the process was started, at the latest: while it starts, restores, or works.
const LATEST_KILL_MS: u64 = 4_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_a_worker_loses_and_doubles_nothing() -> Result<()> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let seed = number("MILLRACE_SOAK_SEED").unwrap_or(clock);
    let kills = number("MILLRACE_SOAK_KILLS").unwrap_or(6);
    eprintln!("soak: {kills} kills, MILLRACE_SOAK_SEED={seed}");
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let mut random = Random(seed);
    let mut left = kills;
    let mut undisturbed = None;
    for number in 0.. {
        let of_this_job = left.min(KILLS_PER_JOB);
        let guarantee = if number % 3 == 2 {
            "at_least_once"
        } else {
            "exactly_once_v2"
        };
        let s3 = S3Server::start(BUCKET).await?;
        let run = async {
            let name = format!("soak-{number}");
            let mut job = FaultJob::start(&name, &bootstrap, &s3.endpoint(), guarantee).await?;
            // The first job, which nothing disturbs, is what the others are compared with.
            if number > 0 {
                for _ in 0..of_this_job {
                    disturb(&mut job, &mut random).await?;
                }
            }
            let outcome = job.finish(&s3).await?;
            let restored = job.state_restored().await?;
            assert_eq!(restored, outcome.state, "state from the changelog");
            anyhow::Ok(outcome)
        };
        let outcome = run
            .await
            .with_context(|| format!("job soak-{number} of MILLRACE_SOAK_SEED={seed}"))?;
        assert_eq!(
            undisturbed.get_or_insert_with(|| outcome.clone()),
            &outcome,
            "MILLRACE_SOAK_SEED={seed}"
        );
        if number > 0 {
            left -= of_this_job;
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Some load, a kill at some moment, sometimes with the local copy gone, and a start that is not waited for.
async fn disturb(job: &mut FaultJob, random: &mut Random) -> Result<()> {
    for _ in 0..=random.below(2) {
        job.send_batch()?;
    }
    if random.below(3) == 0 {
        assert_eq!(job.predicted().await?, Progress::Predicted);
    }
    tokio::time::sleep(Duration::from_millis(random.below(LATEST_KILL_MS))).await;
    job.worker.kill()?;
    if random.below(4) == 0 {
        job.worker.wipe_state()?;
    }
    job.worker.start_without_waiting().await
}
