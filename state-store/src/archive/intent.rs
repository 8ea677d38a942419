//! The archive of one partition as a state machine: what to do next is a value, doing it is the owner's.
//!
//! ```text
//! propose(due) ---> proposed --[barrier commits]--> open --object_written--> written --Finish--> finishing --[commits]--> done
//!                       \--[aborts]--> gone                                     ^------[aborts]------/
//! ```
//! 1. `propose` gives an intent record (object name, keys, versions) for the owner's next barrier.
//! 2. Once that has committed, `next_step` asks for the object: the owner reads the versions
//!    ([`crate::KeyedPartition::version`]), encodes them ([`super::encode`], on a thread that may compute) and puts them under
//!    the intent's name, which only succeeds once. That it is there already means that it was done before.
//! 3. Then `next_step` gives the manifest record, the intent's tombstone, and the versions to remove
//!    ([`crate::KeyedPartition::remove_version`]) with one barrier.
//!
//! After a crash the intents in the local copy are open again, and the steps lead to the same object and the same manifest:
//! name and contents depend on the intent alone, and a version stays readable until its tombstone commits.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::manifest::Manifest;
use crate::changelog::{ChangeRecord, ChangelogKey, EntryVersion, FORMAT, Fields};
use crate::error::StateError;
use crate::keyed::{ExpiredEntry, KeyedPartition, StateValue};

/// Bytes that the versions of one intent may take: its record is to fit into a changelog topic whose `max.message.bytes` is a
/// fraction of Kafka's default, however long keys are.
const MAX_INTENT_BYTES: usize = 256 << 10;
/// Bytes of a version beside its key: the key's length, sequence and time.
const VERSION_BYTES: usize = 4 + 8 + 8;

/// What is to be archived as one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its number within the partition.
    pub id: u64,
    /// The object's name below the archive's root.
    pub object: String,
    /// Keys and versions, in ascending order.
    pub versions: Vec<(Bytes, EntryVersion)>,
}

/// What the owner does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put these versions as the object of that name, then call [`IntentLog::object_written`].
    PutObject(Intent),
    /// Push the records to the next barrier's changes, and remove the versions before it is taken.
    Finish {
        /// The manifest record, and the intent's tombstone.
        records: Vec<ChangeRecord>,
        /// Removed with [`crate::KeyedPartition::remove_version`]; a key that lives again keeps its new version.
        versions: Vec<(Bytes, EntryVersion)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Proposed,
    Open,
    /// With the object's size in bytes.
    Written(u64),
    Finishing(u64),
}

/// The open intents of one partition.
#[derive(Clone, Debug)]
pub struct IntentLog {
    /// What every object name starts with.
    root: String,
    intents: BTreeMap<u64, (Intent, Stage)>,
    last_id: u64,
}

impl IntentLog {
    /// The log of a partition as its local copy has it. Open it after the partition has been restored.
    pub fn open<V: StateValue>(partition: &KeyedPartition<V>) -> Result<IntentLog, StateError> {
        let spec = partition.spec();
        let unreadable = |detail: String| StateError::Format {
            place: format!("an archive intent of {spec}"),
            detail,
        };
        let mut log = IntentLog {
            root: format!("{}/{}/partition={}", spec.connector, spec.store, spec.partition),
            intents: BTreeMap::new(),
            last_id: 0,
        };
        let kind = |key: ChangelogKey<'_>| key.encode().get(..1).unwrap_or_default().to_vec();
        for (id, _) in partition.side_records(&kind(ChangelogKey::Manifest(0)))? {
            log.last_id = log.last_id.max(id_of(&id).map_err(unreadable)?);
        }
        for (id, value) in partition.side_records(&kind(ChangelogKey::Intent(0)))? {
            let id = id_of(&id).map_err(unreadable)?;
            let intent = Intent::decode(id, &value).map_err(unreadable)?;
            log.last_id = log.last_id.max(id);
            log.intents.insert(id, (intent, Stage::Open));
        }
        Ok(log)
    }

    /// Intents that are not done.
    pub fn len(&self) -> usize {
        self.intents.len()
    }

    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty()
    }

    /// Proposes to archive entries that are due, as one object; those of open intents are left out, and so are those whose keys
    /// the intent's record has no room for: they are due again. Returns the intent record for the next barrier; none: nothing
    /// is left.
    pub fn propose(&mut self, due: &[ExpiredEntry]) -> Option<ChangeRecord> {
        let taken: HashSet<(&Bytes, EntryVersion)> = self
            .intents
            .values()
            .flat_map(|(intent, _)| intent.versions.iter().map(|(key, version)| (key, *version)))
            .collect();
        let mut versions: Vec<(Bytes, EntryVersion)> = due
            .iter()
            .filter(|entry| !taken.contains(&(&entry.key, entry.version)))
            .map(|entry| (entry.key.clone(), entry.version))
            .collect();
        versions.sort_unstable();
        versions.dedup();
        let mut bytes = 0;
        let fits = versions.iter().take_while(|(key, _)| {
            bytes += VERSION_BYTES + key.len();
            bytes <= MAX_INTENT_BYTES
        });
        // One that is longer than that alone is the changelog's own entry, which was taken.
        versions.truncate(fits.count().max(1));
        if versions.is_empty() {
            return None;
        }
        let id = self.last_id + 1;
        self.last_id = id;
        let object = format!("{}/{id:012}-{}.parquet", self.root, digest(&versions));
        let intent = Intent { id, object, versions };
        let record = intent.to_record();
        self.intents.insert(id, (intent, Stage::Proposed));
        Some(record)
    }

    /// What is to be done next; none: nothing before the next barrier.
    pub fn next_step(&mut self) -> Option<Step> {
        for (id, (intent, stage)) in &mut self.intents {
            match *stage {
                Stage::Proposed | Stage::Finishing(_) => {}
                Stage::Open => return Some(Step::PutObject(intent.clone())),
                Stage::Written(bytes) => {
                    *stage = Stage::Finishing(bytes);
                    let keys: Vec<&[u8]> = intent.versions.iter().map(|(key, _)| key.as_ref()).collect();
                    let manifest = Manifest::new(*id, intent.object.clone(), bytes, &keys);
                    let done = ChangeRecord {
                        key: ChangelogKey::Intent(*id).encode().into(),
                        value: None,
                    };
                    let records = vec![manifest.to_record(), done];
                    return Some(Step::Finish {
                        records,
                        versions: intent.versions.clone(),
                    });
                }
            }
        }
        None
    }

    /// The object of an intent is in the archive, written now or before.
    pub fn object_written(&mut self, id: u64, bytes: u64) {
        if let Some((_, stage @ Stage::Open)) = self.intents.get_mut(&id) {
            *stage = Stage::Written(bytes);
        }
    }

    /// The barrier that has the records of all steps so far has committed.
    pub fn barrier_committed(&mut self) {
        self.intents
            .retain(|_, (_, stage)| !matches!(stage, Stage::Finishing(_)));
        for (_, stage) in self.intents.values_mut() {
            if *stage == Stage::Proposed {
                *stage = Stage::Open;
            }
        }
    }

    /// The barrier was aborted: its steps are to be taken again.
    pub fn barrier_aborted(&mut self) {
        self.intents.retain(|_, (_, stage)| *stage != Stage::Proposed);
        for (_, stage) in self.intents.values_mut() {
            if let Stage::Finishing(bytes) = *stage {
                *stage = Stage::Written(bytes);
            }
        }
    }
}

impl Intent {
    /// The changelog record: `01 object count(4)`, then per version `key sequence(8) touched_ms(8)`.
    fn to_record(&self) -> ChangeRecord {
        let mut value = vec![FORMAT];
        let put = |bytes: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        put(self.object.as_bytes(), &mut value);
        value.extend_from_slice(&u32::try_from(self.versions.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (key, version) in &self.versions {
            put(key, &mut value);
            value.extend_from_slice(&version.sequence.to_be_bytes());
            value.extend_from_slice(&version.touched_ms.to_be_bytes());
        }
        ChangeRecord {
            key: ChangelogKey::Intent(self.id).encode().into(),
            value: Some(value.into()),
        }
    }

    fn decode(id: u64, value: &[u8]) -> Result<Intent, String> {
        let mut fields = Fields::of_value(value)?;
        let object = std::str::from_utf8(fields.bytes()?)
            .map_err(|error| error.to_string())?
            .to_owned();
        let count = fields.u32()?;
        let mut versions = Vec::new();
        for _ in 0..count {
            let key = Bytes::copy_from_slice(fields.bytes()?);
            versions.push((
                key,
                EntryVersion {
                    sequence: fields.u64()?,
                    touched_ms: fields.i64()?,
                },
            ));
        }
        Ok(Intent { id, object, versions })
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of keys and versions.
fn digest(versions: &[(Bytes, EntryVersion)]) -> String {
    let mut hash = Sha256::new();
    for (key, version) in versions {
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        hash.update(version.sequence.to_be_bytes());
        hash.update(version.touched_ms.to_be_bytes());
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn id_of(bytes: &[u8]) -> Result<u64, String> {
    <[u8; 8]>::try_from(bytes)
        .map(u64::from_be_bytes)
        .map_err(|_| "its id is not 8 bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of long keys an object has as many as its intent's record has room for; the others come with the next.
    #[test]
    fn an_intent_is_never_larger_than_a_topic_takes() {
        for (key_bytes, keys) in [(1, 200u64), (300, 200), (5_000, 200), (200_000, 30), (900_000, 5)] {
            let due: Vec<ExpiredEntry> = (0..keys)
                .map(|number| {
                    let key = [&number.to_be_bytes()[..], &vec![b'k'; key_bytes]].concat();
                    ExpiredEntry {
                        key: key.into(),
                        version: EntryVersion {
                            sequence: number,
                            touched_ms: 0,
                        },
                        expires_ms: 0,
                        payload: Bytes::new(),
                        superseded: false,
                    }
                })
                .collect();
            let mut log = IntentLog {
                root: "c/s/partition=0".into(),
                intents: BTreeMap::new(),
                last_id: 0,
            };
            let mut archived = 0;
            while let Some(record) = log.propose(&due) {
                let bytes = record.value.as_ref().map_or(0, Bytes::len);
                let versions: usize = log.intents.values().map(|(intent, _)| intent.versions.len()).sum();
                assert!(
                    bytes < MAX_INTENT_BYTES + 1_000 || versions - archived == 1,
                    "{bytes} bytes"
                );
                assert!(versions > archived, "nothing was proposed");
                archived = versions;
            }
            assert_eq!(archived, due.len(), "keys of {key_bytes} bytes");
        }
    }

    proptest! {
        #[test]
        fn intents_come_back(versions in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), any::<u64>(), any::<i64>()), 0..20), id: u64) {
            let versions = versions.into_iter().map(|(key, sequence, touched_ms)| (Bytes::from(key), EntryVersion { sequence, touched_ms }));
            let intent = Intent { id, object: "s/p/1.parquet".into(), versions: versions.collect() };
            prop_assert_eq!(Intent::decode(id, &intent.to_record().value.unwrap()), Ok(intent));
        }

        #[test]
        fn any_bytes_give_an_intent_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(intent) = Intent::decode(1, &bytes) {
                prop_assert!(intent.to_record().value.is_some());
            }
        }
    }
}
