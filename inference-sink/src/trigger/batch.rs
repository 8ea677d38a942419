//! `each` and `batch`: how many of the rows that wait may run now.

/// When the rows that wait are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// up to so many rows may run now
    Now(usize),
    /// nothing before this time, in microseconds, unless more rows come
    At(u64),
    /// nothing waits
    Never,
}

/// The trigger of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTrigger {
    /// rows of a full batch; none: whatever waits
    pub max_batch_size: Option<usize>,
    /// longest wait of a row for a full batch, in microseconds
    pub max_queue_delay_us: u64,
}

impl BatchTrigger {
    /// `each`
    pub const EACH: BatchTrigger = BatchTrigger {
        max_batch_size: None,
        max_queue_delay_us: 0,
    };

    /// What is due of `rows` rows, the oldest of which came at `oldest_us`. `closing`: a barrier wants them all.
    pub fn due(&self, rows: usize, oldest_us: u64, now_us: u64, closing: bool) -> Due {
        if rows == 0 {
            return Due::Never;
        }
        let Some(max) = self.max_batch_size else {
            return Due::Now(rows);
        };
        let deadline_us = oldest_us.saturating_add(self.max_queue_delay_us);
        if rows >= max || closing || now_us >= deadline_us {
            Due::Now(rows.min(max))
        } else {
            Due::At(deadline_us)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_batch_is_too_large_and_no_row_waits_too_long(
            max in 1usize..100, delay in 0u64..10_000, rows in 0usize..300, oldest in 0u64..10_000, waited in 0u64..20_000, closing: bool,
        ) {
            let trigger = BatchTrigger { max_batch_size: Some(max), max_queue_delay_us: delay };
            let now = oldest + waited;
            match trigger.due(rows, oldest, now, closing) {
                Due::Now(n) => {
                    prop_assert!(n >= 1 && n <= max && n <= rows);
                    prop_assert!(n == max || waited >= delay || closing);
                }
                Due::At(at) => prop_assert!(rows > 0 && rows < max && !closing && at > now && at == oldest + delay),
                Due::Never => prop_assert_eq!(rows, 0),
            }
            prop_assert_eq!(BatchTrigger::EACH.due(rows, oldest, now, closing), if rows == 0 { Due::Never } else { Due::Now(rows) });
        }
    }
}
