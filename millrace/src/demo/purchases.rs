//! The retail data as files: what was bought, and whether it was bought again.
//!
//! The question that the models answer is "will this household buy this product type again within 14 days?". The answer
//! is read off the same file: a later purchase of the same type by the same household within the next 14 days. For the
//! purchases of the last 14 days nobody knows yet; they have no label (`configs/demo/models/FEATURES.md`).

use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

/// How far ahead the models look.
const HORIZON_MS: i64 = 14 * 24 * 3_600_000;

/// Product type of a product that the catalog does not have.
const NO_TYPE: u32 = u32::MAX;

/// What happened after each purchase, by its row in the file.
pub struct Purchases {
    /// number of purchases that are replayed
    pub rows: usize,
    purchases: Vec<Purchase>,
    labels: Vec<Option<bool>>,
}

struct Purchase {
    household: u32,
    product_type: u32,
    at_ms: i64,
}

impl Purchases {
    /// Reads `transactions.csv.gz` and `products.csv.gz` below `directory`; only the first `limit` purchases, if given,
    /// count as rows, but the answers look at all of them.
    pub fn read(directory: &Path, limit: Option<usize>) -> Result<Self> {
        let types = product_types(&directory.join("products.csv.gz"))?;
        let purchases = purchases(&directory.join("transactions.csv.gz"), &types)?;
        let labels = labels(&purchases);
        let rows = limit.map_or(labels.len(), |limit| limit.min(labels.len()));
        Ok(Self {
            rows,
            purchases,
            labels,
        })
    }

    /// How many windows of `length_ms` by household have closed when everything was replayed to `partitions` partitions:
    /// those whose end and grace lie not behind the stream time of the household's partition.
    pub fn closed_windows(&self, length_ms: i64, grace_ms: i64, partitions: i32) -> usize {
        let replayed = self.purchases.get(..self.rows).unwrap_or_default();
        let partition = |household: u32| kafka_client::partition_for_key(household.to_string().as_bytes(), partitions);
        let mut stream_time: HashMap<i32, i64> = HashMap::new();
        let mut windows: HashSet<(u32, i64)> = HashSet::new();
        for purchase in replayed {
            let time = stream_time
                .entry(partition(purchase.household))
                .or_insert(purchase.at_ms);
            *time = purchase.at_ms.max(*time);
            windows.insert((purchase.household, purchase.at_ms.div_euclid(length_ms)));
        }
        let closes = |window: i64| (window + 1) * length_ms + grace_ms;
        windows
            .iter()
            .filter(|(household, window)| stream_time.get(&partition(*household)) >= Some(&closes(*window)))
            .count()
    }

    /// Whether the type of purchase `row` was bought again within 14 days; `None` where nobody knows.
    pub fn bought_again(&self, row: usize) -> Option<bool> {
        self.labels.get(row).copied().flatten()
    }
}

fn reader(path: &Path) -> Result<csv::Reader<impl Read>> {
    let file = std::fs::File::open(path).with_context(|| format!("the demo's data is not at {}", path.display()))?;
    Ok(csv::Reader::from_reader(flate2::read::MultiGzDecoder::new(
        std::io::BufReader::new(file),
    )))
}

fn column(headers: &csv::StringRecord, name: &str, path: &Path) -> Result<usize> {
    headers
        .iter()
        .position(|header| header == name)
        .with_context(|| format!("{} has no column {name}", path.display()))
}

/// Number of the product type by product.
fn product_types(path: &Path) -> Result<HashMap<u64, u32>> {
    let mut reader = reader(path)?;
    let headers = reader.headers()?.clone();
    let (product, product_type) = (
        column(&headers, "product_id", path)?,
        column(&headers, "product_type", path)?,
    );
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut types = HashMap::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("{} is damaged", path.display()))?;
        let next = u32::try_from(numbers.len())?;
        let number = *numbers
            .entry(record.get(product_type).unwrap_or_default().to_owned())
            .or_insert(next);
        types.insert(record.get(product).unwrap_or_default().parse()?, number);
    }
    Ok(types)
}

fn purchases(path: &Path, types: &HashMap<u64, u32>) -> Result<Vec<Purchase>> {
    let mut reader = reader(path)?;
    let headers = reader.headers()?.clone();
    let household = column(&headers, "household_id", path)?;
    let product = column(&headers, "product_id", path)?;
    let at = column(&headers, "transaction_timestamp", path)?;
    let mut purchases = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .with_context(|| format!("{} is damaged", path.display()))?
    {
        let text = record.get(at).unwrap_or_default();
        let time =
            time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).with_context(|| {
                format!(
                    "{} has a transaction_timestamp that is not RFC 3339: {text}",
                    path.display()
                )
            })?;
        let product: u64 = record.get(product).unwrap_or_default().parse()?;
        purchases.push(Purchase {
            household: record.get(household).unwrap_or_default().parse()?,
            product_type: types.get(&product).copied().unwrap_or(NO_TYPE),
            at_ms: i64::try_from(time.unix_timestamp_nanos() / 1_000_000)?,
        });
    }
    Ok(purchases)
}

/// Walks backwards: the last purchase seen of a household and type is the next one of the purchase at hand.
fn labels(purchases: &[Purchase]) -> Vec<Option<bool>> {
    let end_ms = purchases.last().map_or(0, |purchase| purchase.at_ms);
    let mut next: HashMap<(u32, u32), i64> = HashMap::new();
    let mut after: HashMap<(u32, u32), i64> = HashMap::new();
    let mut labels: Vec<Option<bool>> = purchases
        .iter()
        .rev()
        .map(|purchase| {
            let key = (purchase.household, purchase.product_type);
            // purchases of the same instant are not later ones
            let later = match next.get(&key) {
                Some(at_ms) if *at_ms > purchase.at_ms => {
                    after.insert(key, *at_ms);
                    Some(*at_ms)
                }
                _ => after.get(&key).copied(),
            };
            next.insert(key, purchase.at_ms);
            if purchase.product_type == NO_TYPE || purchase.at_ms > end_ms - HORIZON_MS {
                return None;
            }
            Some(later.is_some_and(|later| later - purchase.at_ms <= HORIZON_MS))
        })
        .collect();
    labels.reverse();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    fn purchase(household: u32, product_type: u32, day: i64) -> Purchase {
        Purchase {
            household,
            product_type,
            at_ms: day * DAY_MS,
        }
    }

    #[test]
    fn a_purchase_is_labelled_by_the_next_later_one_of_its_household_and_type() {
        let purchases = [
            purchase(1, 7, 0),
            purchase(1, 7, 0),
            purchase(2, 7, 1),
            purchase(1, 8, 2),
            purchase(1, 7, 14),
            purchase(1, 8, 17),
            purchase(9, 9, 100),
        ];
        let expected = [
            Some(true),
            Some(true),
            Some(false),
            Some(false),
            Some(false),
            Some(false),
            None,
        ];
        assert_eq!(labels(&purchases), expected);
    }

    #[test]
    fn a_window_closes_when_its_partition_has_moved_past_it() {
        let purchases = vec![
            purchase(1, 7, 0),
            purchase(1, 7, 0),
            purchase(1, 7, 1),
            purchase(1, 7, 3),
        ];
        let labels = labels(&purchases);
        let purchases = Purchases {
            rows: 4,
            purchases,
            labels,
        };
        assert_eq!(purchases.closed_windows(DAY_MS, 0, 1), 2);
        assert_eq!(purchases.closed_windows(DAY_MS, DAY_MS + 1, 1), 1);
    }

    #[test]
    fn purchases_of_unknown_products_have_no_label() {
        let purchases = [purchase(1, NO_TYPE, 0), purchase(1, NO_TYPE, 1), purchase(1, 1, 50)];
        assert_eq!(labels(&purchases), [None, None, None]);
    }
}
