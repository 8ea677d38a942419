//! How fairly CPU was shared: what each tenant got, beside what it would have got had all been served by weight.
//!
//! Pure. A tenant that got all it asked for has no complaint, however little that was, so used CPU alone says nothing.

/// What a tenant asked for and got, in microseconds of CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// share of CPU under contention, relative
    pub weight: f64,
    /// what its runs have taken
    pub used_us: f64,
    /// that, and what the rows that wait will take
    pub asked_us: f64,
}

/// Jain's index over `used / fair share` of tenants that have asked for anything: 1 where each got its max-min fair share of
/// all CPU that was used, `1/n` where one of `n` got everything that all of them wanted. 1 where nobody asked.
pub fn fairness_index(tenants: &[Demand]) -> f64 {
    let used_us: f64 = tenants.iter().map(|tenant| tenant.used_us).sum();
    let shares = max_min_shares(used_us, tenants);
    let served = tenants.iter().zip(shares).filter(|(_, share)| *share > 0.0);
    jain_index(served.map(|(tenant, share)| tenant.used_us / share))
}

/// Max-min fair shares of `capacity_us`, in the order of `tenants`: nobody gets more than asked for, and what one leaves goes to
/// the others by weight.
pub fn max_min_shares(capacity_us: f64, tenants: &[Demand]) -> Vec<f64> {
    // Who needs least by weight is satisfied first.
    let mut order: Vec<usize> = (0..tenants.len()).collect();
    let need = |tenant: &Demand| tenant.asked_us / tenant.weight.max(f64::MIN_POSITIVE);
    let needs: Vec<f64> = tenants.iter().map(need).collect();
    let need_of = |index: &usize| needs.get(*index).copied().unwrap_or_default();
    order.sort_by(|a, b| need_of(a).total_cmp(&need_of(b)));
    let mut weight: f64 = tenants.iter().map(|tenant| tenant.weight).sum();
    let mut left_us = capacity_us;
    let mut shares = vec![0.0; tenants.len()];
    for index in order {
        let (Some(tenant), Some(share)) = (tenants.get(index), shares.get_mut(index)) else {
            continue;
        };
        let by_weight = if weight > 0.0 {
            left_us * tenant.weight / weight
        } else {
            0.0
        };
        *share = tenant.asked_us.min(by_weight).max(0.0);
        left_us -= *share;
        weight -= tenant.weight;
    }
    shares
}

/// Jain's fairness index (R. Jain, D. Chiu, W. Hawe, DEC TR-301, 1984): `(sum x)^2 / (n * sum x^2)`; 1 is perfectly fair, `1/n`
/// gives everything to one. 1 where there is nothing to share.
pub(super) fn jain_index(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (count * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(weight: f64, used_us: f64, asked_us: f64) -> Demand {
        Demand {
            weight,
            used_us,
            asked_us,
        }
    }

    #[test]
    fn whoever_gets_what_it_asks_for_is_treated_fairly() {
        assert_eq!(fairness_index(&[]), 1.0);
        assert_eq!(
            fairness_index(&[
                demand(1.0, 1_000_000.0, 1_000_000.0),
                demand(1.0, 1.0, 1.0),
                demand(5.0, 0.0, 0.0)
            ]),
            1.0
        );
        // Both want more than there is: by weight.
        let saturated = [demand(1.0, 100.0, 5_000.0), demand(9.0, 900.0, 5_000.0)];
        assert!((fairness_index(&saturated) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn one_that_is_kept_waiting_by_others_is_not() {
        // Four want the same, and one gets it.
        let mut tenants = [demand(1.0, 0.0, 100.0); 4];
        tenants[0].used_us = 100.0;
        assert!((fairness_index(&tenants) - 0.25).abs() < 1e-12);
        // Who wants little waits for it, while the other is served.
        assert!(fairness_index(&[demand(1.0, 0.0, 10.0), demand(1.0, 1_000.0, 1_000.0)]) < 0.6);
    }

    #[test]
    fn what_one_leaves_goes_to_the_others() {
        let tenants = [
            demand(1.0, 0.0, 10.0),
            demand(1.0, 0.0, 1_000.0),
            demand(2.0, 0.0, 1_000.0),
        ];
        assert_eq!(max_min_shares(100.0, &tenants), [10.0, 30.0, 60.0]);
    }

    proptest! {
        #[test]
        fn the_index_lies_between_one_nth_and_one_and_shares_are_max_min(
            tenants in prop::collection::vec((1u32..10, 0.0f64..1e6, 0.0f64..1e6), 1..20),
        ) {
            let tenants: Vec<Demand> = tenants
                .into_iter()
                .map(|(weight, used, waiting)| demand(f64::from(weight), used, used + waiting))
                .collect();
            let index = fairness_index(&tenants);
            prop_assert!(index <= 1.0 + 1e-9 && index >= 1.0 / tenants.len() as f64 - 1e-9, "{index}");
            let used: f64 = tenants.iter().map(|tenant| tenant.used_us).sum();
            let shares = max_min_shares(used, &tenants);
            prop_assert!((shares.iter().sum::<f64>() - used).abs() <= used * 1e-9 + 1e-9);
            for (tenant, share) in tenants.iter().zip(&shares) {
                prop_assert!(*share <= tenant.asked_us + 1e-9);
                // Whoever gets less than it asked for gets as much by weight as anybody.
                if *share < tenant.asked_us - 1e-6 {
                    for (other, others) in tenants.iter().zip(&shares) {
                        prop_assert!(others / other.weight <= share / tenant.weight + 1e-6);
                    }
                }
            }
        }
    }
}
