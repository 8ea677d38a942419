//! What millrace needs of a broker, as laws: the same for the development broker and for Apache Kafka. Where the two
//! disagree, Kafka is right.
//!
//! ```text
//!  tests/broker_laws_dev.rs   -> broker_laws!(start a DevBroker)   --\
//!                                                                     laws -> Wire (raw requests), kafka-client
//!  tests/broker_laws_kafka.rs -> broker_laws!(start a KafkaBroker) --/
//! ```
//!
//! A law gets a running broker and uses topics and groups of its own, so that laws may share one; those under
//! `restart` get a broker for themselves.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub mod groups;
pub mod offsets;
pub mod records;
pub mod restart;
pub mod topics;
pub mod transactions;
pub mod wire;

pub use crate::broker::BrokerUnderTest;

/// Nothing that a law waits for takes longer than this, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is an answer.
///
/// # Errors
/// When looking fails, or there is none in time.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("not within {PATIENCE:?}: {what}")
}

/// A name that no other law uses.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a test of every law, on the broker that `$shared` (an async function) gives the address of; those that restart
/// it get one of `$own`.
#[macro_export]
macro_rules! broker_laws {
    (shared: $shared:path, own: $own:path) => {
        $crate::broker_laws!(@shared $shared;
            records::order_headers_timestamps_and_nulls_are_kept,
            records::batches_stay_the_bytes_that_were_sent,
            records::a_long_poll_ends_with_the_first_record,
            records::damaged_and_oversized_batches_are_refused,
            records::offsets_are_found_by_time,
            records::deleted_records_are_gone,
            records::log_append_time_is_the_brokers,
            transactions::a_duplicate_batch_is_answered_with_its_offset,
            transactions::a_gap_in_the_sequence_is_refused,
            transactions::open_transactions_hold_back_readers,
            transactions::aborted_records_are_invisible,
            transactions::offsets_of_a_transaction_count_when_it_commits,
            transactions::a_new_producer_fences_the_old_one,
            transactions::a_batch_outside_a_transaction_is_refused,
            transactions::ending_twice_is_the_same_as_once,
            transactions::a_transaction_that_takes_too_long_is_aborted,
            groups::members_of_any_protocol_type_share_work,
            groups::a_silent_member_is_expired,
            groups::strangers_are_refused,
            groups::the_leader_is_told_again_when_it_rejoins,
            groups::consumers_divide_partitions,
            offsets::commits_are_read_back,
            offsets::commits_from_outside_need_an_empty_group,
            offsets::offsets_and_groups_are_deleted,
            topics::topics_are_created_once,
            topics::topics_are_configured,
            topics::partitions_are_added_and_topics_deleted,
            topics::compaction_keeps_the_last_of_a_key,
        );
        $crate::broker_laws!(@own $own;
            restart::everything_survives_a_restart,
            restart::everything_survives_a_crash,
            restart::an_open_transaction_survives_a_crash,
        );
    };
    (@shared $shared:path; $($module:ident::$law:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() -> anyhow::Result<()> {
                let bootstrap = $shared().await?;
                $crate::broker_laws::$module::$law(&bootstrap).await
            }
        )*
    };
    (@own $own:path; $($module:ident::$law:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() -> anyhow::Result<()> {
                let mut broker = $own().await?;
                $crate::broker_laws::$module::$law(&mut broker).await
            }
        )*
    };
}
