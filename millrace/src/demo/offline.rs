//! What the training script predicted for the bundled purchases (`configs/demo/models/offline_predictions.csv.gz`).

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::Path;

/// Probability by row of the file, by model file (`lightgbm` for `lightgbm.onnx`).
pub type OfflinePredictions = HashMap<String, Vec<f32>>;

/// Reads them.
pub fn read(path: &Path) -> Result<OfflinePredictions> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = csv::Reader::from_reader(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file)));
    let models: Vec<String> = reader.headers()?.iter().skip(2).map(str::to_owned).collect();
    let mut columns: Vec<Vec<f32>> = vec![Vec::new(); models.len()];
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .with_context(|| format!("{} is damaged", path.display()))?
    {
        for (column, text) in columns.iter_mut().zip(record.iter().skip(2)) {
            column.push(
                text.parse()
                    .with_context(|| format!("{} has a probability that is no number", path.display()))?,
            );
        }
    }
    Ok(models.into_iter().zip(columns).collect())
}
