//! Manifest records: which objects of the archive there are, and which keys each may have.
//!
//! Value: `01 object rows(8) bytes(8) min_key max_key filter`, where object, keys and filter have their length (4) before them.
//! The filter is a Bloom filter of ten bits per key, so that a read of a key opens about one object that lacks it in a hundred.

use bytes::Bytes;

use crate::changelog::{ChangeRecord, ChangelogKey, FORMAT, Fields};
use crate::database::Database;
use crate::error::StateError;
use crate::keyed::side_records;
use crate::keyspace::Keyspace;

/// One object of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its number within the partition; later objects have later versions of a key.
    pub id: u64,
    /// Its name below the archive's root.
    pub object: String,
    /// Entries in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The smallest key in it.
    pub min_key: Bytes,
    /// The largest key in it.
    pub max_key: Bytes,
    filter: Bytes,
}

const FILTER_BITS_PER_KEY: usize = 10;
const FILTER_PROBES: u64 = 7;

impl Manifest {
    /// The manifest of an object with these keys, in ascending order.
    pub(super) fn new(id: u64, object: String, bytes: u64, keys: &[&[u8]]) -> Manifest {
        let mut filter = vec![0u8; (keys.len() * FILTER_BITS_PER_KEY).div_ceil(8).max(1)];
        for key in keys {
            for bit in filter_bits(key, filter.len()) {
                if let Some(byte) = filter.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        let copied = |key: Option<&&[u8]>| Bytes::copy_from_slice(key.copied().unwrap_or_default());
        Manifest {
            id,
            object,
            rows: keys.len() as u64,
            bytes,
            min_key: copied(keys.first()),
            max_key: copied(keys.last()),
            filter: filter.into(),
        }
    }

    /// Every object of a store that the local copies of this worker know of, newest first within each partition.
    pub fn list(db: &Database, connector: &str, store: &str) -> Result<Vec<Manifest>, StateError> {
        let mut manifests = Vec::new();
        for (partition, keyspace) in Keyspace::partitions(db, connector, store)? {
            let mut found = Self::of_keyspace(db, keyspace).map_err(|detail| StateError::Format {
                place: format!("the archive manifest of store {store} of connector {connector}, partition {partition}"),
                detail: detail.to_string(),
            })?;
            found.reverse();
            manifests.extend(found);
        }
        Ok(manifests)
    }

    pub(super) fn of_keyspace(db: &Database, keyspace: Keyspace) -> Result<Vec<Manifest>, StateError> {
        let start = ChangelogKey::Manifest(0).encode();
        let records = side_records(db, keyspace, start.get(..1).unwrap_or_default())?;
        let decode = |(id, value): (Bytes, Bytes)| {
            let id = <[u8; 8]>::try_from(id.as_ref())
                .map(u64::from_be_bytes)
                .map_err(|_| "its id is not 8 bytes".to_owned());
            id.and_then(|id| Manifest::decode(id, &value))
                .map_err(|detail| StateError::Format {
                    place: "an archive manifest".into(),
                    detail,
                })
        };
        records.into_iter().map(decode).collect()
    }

    /// Whether the object may have the key; false: it has not.
    pub fn may_contain(&self, key: &[u8]) -> bool {
        key >= self.min_key.as_ref()
            && key <= self.max_key.as_ref()
            && filter_bits(key, self.filter.len()).all(|bit| {
                self.filter
                    .get(bit / 8)
                    .is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
            })
    }

    /// The changelog record.
    pub fn to_record(&self) -> ChangeRecord {
        let mut value = vec![FORMAT];
        let put = |bytes: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        put(self.object.as_bytes(), &mut value);
        value.extend_from_slice(&self.rows.to_be_bytes());
        value.extend_from_slice(&self.bytes.to_be_bytes());
        for bytes in [&self.min_key, &self.max_key, &self.filter] {
            put(bytes, &mut value);
        }
        ChangeRecord {
            key: ChangelogKey::Manifest(self.id).encode().into(),
            value: Some(value.into()),
        }
    }

    /// Reads the value of a manifest record. Error: what is wrong with it.
    pub fn decode(id: u64, value: &[u8]) -> Result<Manifest, String> {
        let mut fields = Fields::of_value(value)?;
        let object = std::str::from_utf8(fields.bytes()?)
            .map_err(|error| error.to_string())?
            .to_owned();
        Ok(Manifest {
            id,
            object,
            rows: fields.u64()?,
            bytes: fields.u64()?,
            min_key: Bytes::copy_from_slice(fields.bytes()?),
            max_key: Bytes::copy_from_slice(fields.bytes()?),
            filter: Bytes::copy_from_slice(fields.bytes()?),
        })
    }
}

/// Double hashing (Kirsch and Mitzenmacher, 2006) over FNV-1a: it must give the same bits for ever.
fn filter_bits(key: &[u8], filter_bytes: usize) -> impl Iterator<Item = usize> {
    let bits = (filter_bytes as u64 * 8).max(1);
    let first = key.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (first ^ (first >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let second = (mixed ^ (mixed >> 33)) | 1;
    (0..FILTER_PROBES).map(move |probe| (first.wrapping_add(probe.wrapping_mul(second)) % bits) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn manifests_come_back_and_know_their_keys(mut keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..60), id: u64) {
            keys.sort();
            let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let manifest = Manifest::new(id, "a/b.parquet".into(), 17, &borrowed);
            let record = manifest.to_record();
            let read = Manifest::decode(id, &record.value.unwrap()).unwrap();
            prop_assert_eq!(&read, &manifest);
            prop_assert!(keys.iter().all(|key| read.may_contain(key)));
        }

        #[test]
        fn any_bytes_give_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(manifest) = Manifest::decode(1, &bytes) {
                prop_assert!(manifest.to_record().value.is_some());
            }
        }
    }

    #[test]
    fn most_other_keys_are_ruled_out() {
        let keys: Vec<Vec<u8>> = (0u32..1000).map(|key| (key * 2).to_be_bytes().to_vec()).collect();
        let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let manifest = Manifest::new(1, "o".into(), 1, &borrowed);
        let wrong = (0u32..999)
            .filter(|key| manifest.may_contain(&(key * 2 + 1).to_be_bytes()))
            .count();
        assert!(wrong < 50, "{wrong}");
    }
}
