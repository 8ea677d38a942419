//! Time to live: pure functions over event time in milliseconds.
//!
//! An entry counts its time from when it was last written or accessed ("touched"), in stream time. It is invisible from its
//! expiry time on, whether it has been deleted yet or not.

/// What an entry's time to live counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Since {
    /// The last write.
    Write,
    /// The last write or read.
    Access,
}

/// A time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ttl {
    /// How long an entry lives after it was touched, in milliseconds of stream time; at least 1.
    pub after_ms: i64,
    /// What touches it.
    pub since: Since,
}

impl Ttl {
    /// The first millisecond at which an entry touched at `touched_ms` is no longer visible.
    pub fn expires_at(&self, touched_ms: i64) -> i64 {
        touched_ms.saturating_add(self.after_ms.max(1))
    }

    /// Whether an entry touched at `touched_ms` has expired at `stream_time_ms`.
    pub fn is_expired(&self, touched_ms: i64, stream_time_ms: i64) -> bool {
        stream_time_ms >= self.expires_at(touched_ms)
    }
}

/// Eight bytes that sort as the number does: big endian, sign bit flipped.
pub fn ordered_bytes(time_ms: i64) -> [u8; 8] {
    (time_ms as u64 ^ (1 << 63)).to_be_bytes()
}

/// The number behind [`ordered_bytes`].
pub fn from_ordered_bytes(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_sort_as_times_do(a: i64, b: i64) {
            prop_assert_eq!(a.cmp(&b), ordered_bytes(a).cmp(&ordered_bytes(b)));
            prop_assert_eq!(from_ordered_bytes(ordered_bytes(a)), a);
        }

        #[test]
        fn an_entry_is_visible_exactly_until_its_expiry_time(touched in -1_000_000i64..1_000_000_000, after in 1i64..1_000_000, now: i64) {
            let ttl = Ttl { after_ms: after, since: Since::Write };
            prop_assert_eq!(ttl.is_expired(touched, now), now >= touched + after);
            prop_assert!(!ttl.is_expired(touched, touched));
        }

        #[test]
        fn times_at_the_ends_of_numbers_are_no_others(touched: i64, after in 1i64..=i64::MAX, now: i64) {
            let ttl = Ttl { after_ms: after, since: Since::Write };
            let exact = i128::from(touched) + i128::from(after);
            let expected = match i64::try_from(exact) {
                Ok(exact) => now >= exact,
                // Beyond all numbers: only at the very last one, where nothing comes after.
                Err(_) => now == i64::MAX,
            };
            prop_assert_eq!(ttl.is_expired(touched, now), expected);
        }

        #[test]
        fn expiry_never_moves_back_when_touched_later(a: i64, b: i64, after: i64) {
            let ttl = Ttl { after_ms: after, since: Since::Access };
            prop_assert!(ttl.expires_at(a.max(b)) >= ttl.expires_at(a.min(b)));
        }
    }
}
