//! Area under the ROC curve.

/// The probability that a positive is scored above a negative, ties counting half (Mann-Whitney U); `None` where there
/// are not both. Scores are `(score, is positive)`.
pub fn auc(mut scores: Vec<(f32, bool)>) -> Option<f64> {
    scores.sort_by(|left, right| left.0.total_cmp(&right.0));
    let positives = scores.iter().filter(|(_, positive)| *positive).count();
    let negatives = scores.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut rank_sum = 0.0;
    let mut first_rank = 1.0;
    for tied in scores.chunk_by(|left, right| left.0 == right.0) {
        let size = tied.len() as f64;
        let mean_rank = first_rank + (size - 1.0) / 2.0;
        rank_sum += mean_rank * tied.iter().filter(|(_, positive)| *positive).count() as f64;
        first_rank += size;
    }
    let (positives, negatives) = (positives as f64, negatives as f64);
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_decides() {
        assert_eq!(auc(vec![(0.1, false), (0.2, false), (0.3, true)]), Some(1.0));
        assert_eq!(auc(vec![(0.3, false), (0.2, true), (0.1, true)]), Some(0.0));
        assert_eq!(
            auc(vec![(0.1, false), (0.4, false), (0.35, true), (0.8, true)]),
            Some(0.75)
        );
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(auc(vec![(0.5, false), (0.5, true)]), Some(0.5));
    }

    #[test]
    fn one_class_has_none() {
        assert_eq!(auc(vec![(0.5, true)]), None);
        assert_eq!(auc(Vec::new()), None);
    }
}
