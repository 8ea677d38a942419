//! Signatures of the rows of a partition that are stored: open windows, entries of the feature log. A row says which one it is
//! of by the hash; what that is has a record of its own (`i tenant/model 00 hash`, the inputs as JSON), written with the first
//! row that needs it.

use crate::detach::MadeBy;
use crate::models::{InputSignature, InputSpec};
use bytes::Bytes;
use state_store::ChangeRecord;
use state_store::changelog::owner_record;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// First byte of the records' keys.
pub(super) const SIGNATURE: u8 = b'i';

/// The signatures.
#[derive(Default)]
pub(super) struct KeptSignatures {
    known: BTreeMap<Arc<str>, BTreeMap<u64, Arc<InputSignature>>>,
    unwritten: Vec<ChangeRecord>,
}

impl KeptSignatures {
    /// Takes up a record as it was committed, its key without the first byte.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("inputs of a model's rows: {error}");
        let zero = key.iter().position(|byte| *byte == 0);
        let model = zero
            .and_then(|at| key.get(..at))
            .ok_or_else(|| unreadable(&"no model"))?;
        let inputs: Vec<InputSpec> = serde_json::from_slice(value).map_err(|error| unreadable(&error))?;
        self.insert(
            &String::from_utf8_lossy(model).into(),
            Arc::new(InputSignature::new(inputs)),
        );
        Ok(())
    }

    fn insert(&mut self, model: &Arc<str>, signature: Arc<InputSignature>) {
        let own = self.known.entry(model.clone()).or_default();
        own.insert(signature.hash(), signature);
    }

    /// A row of this signature is stored in the interval at hand.
    pub fn keep(&mut self, model: &Arc<str>, signature: &Arc<InputSignature>) {
        if self.by_hash(model, signature.hash()).is_some() {
            return;
        }
        let value = serde_json::to_vec(signature.inputs()).unwrap_or_default();
        self.unwritten.push(record(model, signature.hash(), Some(value)));
        self.insert(model, signature.clone());
    }

    /// A signature of which a model's rows are stored.
    pub fn by_hash(&self, model: &str, hash: u64) -> Option<&Arc<InputSignature>> {
        self.known.get(model)?.get(&hash)
    }

    /// What rows of a version hold, or of one of which only the features' names are known.
    pub fn of(&self, model: &str, made_by: MadeBy) -> Option<&Arc<InputSignature>> {
        match made_by {
            MadeBy::Version { signature, .. } => self.by_hash(model, signature),
            MadeBy::Floats(names) => {
                let mut own = self.known.get(model)?.values();
                own.find(|signature| signature.hash_of_floats() == Some(names))
            }
        }
    }

    /// Models of which signatures are kept.
    pub fn models(&self) -> Vec<Arc<str>> {
        self.known.keys().cloned().collect()
    }

    /// Forgets those of a model's signatures that no stored row is of.
    pub fn retain(&mut self, model: &Arc<str>, used: &BTreeSet<u64>) {
        let Some(own) = self.known.get_mut(model) else { return };
        own.retain(|hash, _| {
            let stays = used.contains(hash);
            if !stays {
                self.unwritten.push(record(model, *hash, None));
            }
            stays
        });
        if own.is_empty() {
            self.known.remove(model);
        }
    }

    /// The records that are to be written.
    pub fn take_records(&mut self) -> Vec<ChangeRecord> {
        std::mem::take(&mut self.unwritten)
    }
}

fn record(model: &str, hash: u64, value: Option<Vec<u8>>) -> ChangeRecord {
    let key = [&[SIGNATURE], model.as_bytes(), b"\0", &hash.to_be_bytes()[..]].concat();
    owner_record(&key, value.map(Bytes::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model_engine::ElementType;

    fn signature(element: ElementType, features: &[&str]) -> Arc<InputSignature> {
        Arc::new(InputSignature::new(vec![InputSpec {
            tensor: "x".to_owned(),
            element,
            features: features.iter().map(|name| (*name).to_owned()).collect(),
        }]))
    }

    #[test]
    fn what_is_written_is_found_again_until_no_row_is_of_it() {
        let model: Arc<str> = "ads/bid".into();
        let (floats, ids) = (
            signature(ElementType::Float, &["a", "b"]),
            signature(ElementType::Int64, &["a", "b"]),
        );
        let mut kept = KeptSignatures::default();
        kept.keep(&model, &floats);
        kept.keep(&model, &floats);
        kept.keep(&model, &ids);
        assert_eq!(kept.take_records().len(), 2, "each once");
        let mut restored = KeptSignatures::default();
        for signature in [&floats, &ids] {
            let key = [model.as_bytes(), b"\0", &signature.hash().to_be_bytes()[..]].concat();
            restored
                .restore(&key, &serde_json::to_vec(signature.inputs()).unwrap())
                .unwrap();
        }
        assert_eq!(restored.by_hash(&model, ids.hash()), Some(&ids));
        let names = MadeBy::Floats(floats.hash_of_floats().unwrap());
        assert_eq!(restored.of(&model, names), Some(&floats));
        assert_eq!(restored.of("ads/other", names), None);
        restored.keep(&model, &ids);
        assert_eq!(restored.take_records().len(), 0, "it is written already");
        restored.retain(&model, &BTreeSet::from([ids.hash()]));
        assert_eq!(restored.of(&model, names), None);
        assert_eq!(restored.take_records().len(), 1);
        assert!(restored.restore(b"ads/bid", b"[]").is_err() && restored.restore(b"a\0", b"no").is_err());
    }
}
