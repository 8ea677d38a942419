//! Jain's fairness index (R. Jain, D. Chiu, W. Hawe, DEC TR-301, 1984).

/// The index of `shares`: `(sum x)^2 / (n * sum x^2)`; 1 is perfectly fair, `1/n` gives everything to one. Shares are
/// to be divided by their weights before. 1 where there is nothing to share.
pub fn jain_index(shares: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for share in shares {
        count += 1.0;
        sum += share;
        squares += share * share;
    }
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (count * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::jain_index;
    use proptest::prelude::*;

    #[test]
    fn equal_shares_are_fair_and_one_taker_is_not() {
        assert_eq!(jain_index([2.0, 2.0, 2.0]), 1.0);
        assert_eq!(jain_index([5.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(jain_index([]), 1.0);
    }

    proptest! {
        #[test]
        fn lies_between_one_nth_and_one(shares in prop::collection::vec(0.0f64..1e6, 1..20)) {
            let index = jain_index(shares.iter().copied());
            prop_assert!(index <= 1.0 + 1e-9 && index >= 1.0 / shares.len() as f64 - 1e-9);
        }
    }
}
