//! When an operation is tried again (contract 7.2): pure functions over milliseconds.

/// First wait.
const FIRST_DELAY_MS: i64 = 300;

/// Whether there may be another attempt `elapsed_ms` after the first one began. `timeout_ms`: 0 never, -1 always.
pub fn may_retry(timeout_ms: i64, elapsed_ms: i64) -> bool {
    match timeout_ms {
        -1 => true,
        timeout => elapsed_ms < timeout,
    }
}

/// Wait in ms before the attempt that follows failed attempt `attempt` (from 1): 300 ms doubled each time; where that
/// exceeds `max_ms`, a whole number below `max_ms` chosen by `random` (0 up to 1); cut at the deadline.
pub fn delay(attempt: u32, max_ms: i64, timeout_ms: i64, elapsed_ms: i64, random: f64) -> i64 {
    let doubled =
        FIRST_DELAY_MS.saturating_mul(1_i64.checked_shl(attempt.saturating_sub(1).min(48)).unwrap_or(i64::MAX));
    let delay = match doubled > max_ms {
        true => (random.clamp(0.0, 1.0) * max_ms as f64) as i64,
        false => doubled,
    };
    let delay = delay.min(max_ms.saturating_sub(i64::from(doubled > max_ms))).max(0);
    match timeout_ms {
        -1 => delay,
        timeout => delay.min(timeout.saturating_sub(elapsed_ms)).max(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_until_the_maximum() {
        let waits: Vec<i64> = (1..=9).map(|attempt| delay(attempt, 60_000, -1, 0, 0.5)).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 30_000]);
    }

    proptest! {
        #[test]
        fn a_wait_never_passes_the_maximum_nor_the_deadline(
            attempt in 1_u32..200, max in 0_i64..100_000, timeout in 0_i64..100_000, elapsed in 0_i64..200_000, random in 0.0..1.0
        ) {
            let wait = delay(attempt, max, timeout, elapsed, random);
            prop_assert!(wait >= 0 && wait <= max && (wait == 0 || elapsed + wait <= timeout));
        }
    }
}
