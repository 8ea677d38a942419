//! Archive objects: Parquet files of expired entries, sorted by key and version.
//!
//! The same entries always give the same bytes. Both functions compute and block: never call them on an async thread.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::ArchivedEntry;
use crate::changelog::EntryVersion;
use crate::error::StateError;
use crate::keyed::ExpiredEntry;

/// `value` is what the store wrote, and is put back from; `json` is the same for people and query engines, where the caller
/// can say it in JSON. `changelog_version` is the number of the barrier that wrote the entry.
const SCHEMA: &str = "
message archived_entry {
  REQUIRED BYTE_ARRAY key;
  REQUIRED BYTE_ARRAY value;
  OPTIONAL BYTE_ARRAY json (UTF8);
  REQUIRED INT64 write_time_ms (TIMESTAMP_MILLIS);
  REQUIRED INT64 expiry_time_ms (TIMESTAMP_MILLIS);
  REQUIRED INT64 changelog_version;
}";

const KEY: usize = 0;
const VALUE: usize = 1;
const WRITE_TIME: usize = 3;
const EXPIRY_TIME: usize = 4;
const VERSION: usize = 5;

/// Entries per row group: what is decoded to look for one key.
const ROW_GROUP: usize = 8_192;

/// Encodes entries as one object. `json` says a value in JSON, where it can.
pub fn encode(entries: &[ExpiredEntry], json: impl Fn(&[u8]) -> Option<String>) -> Result<Bytes, StateError> {
    let mut sorted: Vec<&ExpiredEntry> = entries.iter().collect();
    sorted.sort_unstable_by(|a, b| (&a.key, a.version).cmp(&(&b.key, b.version)));
    write(&sorted, &json).map_err(|error| StateError::Archive {
        object: "that is being written".into(),
        detail: error.to_string(),
    })
}

fn write(entries: &[&ExpiredEntry], json: &impl Fn(&[u8]) -> Option<String>) -> Result<Bytes, ParquetError> {
    let properties = WriterProperties::builder()
        .set_created_by("millrace".into())
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for entries in entries.chunks(ROW_GROUP) {
        let mut group = file.next_row_group()?;
        bytes_column(&mut group, entries.iter().map(|entry| Some(entry.key.clone())))?;
        bytes_column(&mut group, entries.iter().map(|entry| Some(entry.payload.clone())))?;
        bytes_column(
            &mut group,
            entries.iter().map(|entry| json(&entry.payload).map(Bytes::from)),
        )?;
        number_column(&mut group, entries.iter().map(|entry| entry.version.touched_ms))?;
        number_column(&mut group, entries.iter().map(|entry| entry.expires_ms))?;
        number_column(&mut group, entries.iter().map(|entry| entry.version.sequence as i64))?;
        group.close()?;
    }
    Ok(file.into_inner()?.into())
}

type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// The next column; definition levels matter only where it is optional.
fn bytes_column(group: &mut Group<'_>, values: impl Iterator<Item = Option<Bytes>>) -> Result<(), ParquetError> {
    let values: Vec<Option<Bytes>> = values.collect();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<ByteArray> = values.into_iter().flatten().map(ByteArray::from).collect();
    if let Some(mut column) = group.next_column()? {
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&levels), None)?;
        column.close()?;
    }
    Ok(())
}

fn number_column(group: &mut Group<'_>, values: impl Iterator<Item = i64>) -> Result<(), ParquetError> {
    let values: Vec<i64> = values.collect();
    if let Some(mut column) = group.next_column()? {
        column.typed::<Int64Type>().write_batch(&values, None, None)?;
        column.close()?;
    }
    Ok(())
}

/// Every entry of an object, by key and version.
pub fn entries(object: &str, bytes: Bytes) -> Result<Vec<ArchivedEntry>, StateError> {
    all(bytes).map_err(|error| StateError::Archive {
        object: object.to_owned(),
        detail: format!("is not readable: {error}"),
    })
}

fn all(bytes: Bytes) -> Result<Vec<ArchivedEntry>, ParquetError> {
    let file = SerializedFileReader::new(bytes)?;
    let mut entries = Vec::new();
    for number in 0..file.num_row_groups() {
        let group = file.get_row_group(number)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let (keys, values) = (
            bytes_of(group.get_column_reader(KEY)?, rows)?,
            bytes_of(group.get_column_reader(VALUE)?, rows)?,
        );
        let (write_times, expiry_times, versions) = (
            numbers_of(group.get_column_reader(WRITE_TIME)?, rows)?,
            numbers_of(group.get_column_reader(EXPIRY_TIME)?, rows)?,
            numbers_of(group.get_column_reader(VERSION)?, rows)?,
        );
        let times = write_times.into_iter().zip(expiry_times).zip(versions);
        for ((key, value), ((touched_ms, expires_ms), sequence)) in keys.iter().zip(&values).zip(times) {
            entries.push(ArchivedEntry {
                key: Bytes::copy_from_slice(key.data()),
                payload: Bytes::copy_from_slice(value.data()),
                version: EntryVersion {
                    sequence: sequence as u64,
                    touched_ms,
                },
                expires_ms,
            });
        }
    }
    Ok(entries)
}

/// The newest version of a key in an object; none: it has none.
pub fn find(object: &str, bytes: Bytes, key: &[u8]) -> Result<Option<ArchivedEntry>, StateError> {
    search(bytes, key).map_err(|error| StateError::Archive {
        object: object.to_owned(),
        detail: format!("is not readable: {error}"),
    })
}

fn search(bytes: Bytes, key: &[u8]) -> Result<Option<ArchivedEntry>, ParquetError> {
    let file = SerializedFileReader::new(bytes)?;
    let mut found = None;
    for number in 0..file.num_row_groups() {
        let group = file.get_row_group(number)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let keys = bytes_of(group.get_column_reader(KEY)?, rows)?;
        // Sorted by key and version: the last one is the newest.
        let Some(row) = keys.iter().rposition(|found| found.data() == key) else {
            continue;
        };
        let number_at = |column: usize| -> Result<i64, ParquetError> {
            let numbers = numbers_of(group.get_column_reader(column)?, rows)?;
            numbers
                .get(row)
                .copied()
                .ok_or_else(|| ParquetError::General("a column is too short".into()))
        };
        let values = bytes_of(group.get_column_reader(VALUE)?, rows)?;
        let payload = values
            .get(row)
            .ok_or_else(|| ParquetError::General("a column is too short".into()))?;
        found = Some(ArchivedEntry {
            key: Bytes::copy_from_slice(key),
            payload: Bytes::copy_from_slice(payload.data()),
            version: EntryVersion {
                sequence: number_at(VERSION)? as u64,
                touched_ms: number_at(WRITE_TIME)?,
            },
            expires_ms: number_at(EXPIRY_TIME)?,
        });
    }
    Ok(found)
}

fn bytes_of(column: ColumnReader, rows: usize) -> Result<Vec<ByteArray>, ParquetError> {
    let ColumnReader::ByteArrayColumnReader(mut column) = column else {
        return Err(ParquetError::General("a column is not of bytes".into()));
    };
    let mut values = Vec::new();
    while values.len() < rows {
        let (records, _, _) = column.read_records(rows - values.len(), None, None, &mut values)?;
        if records == 0 {
            break;
        }
    }
    Ok(values)
}

fn numbers_of(column: ColumnReader, rows: usize) -> Result<Vec<i64>, ParquetError> {
    let ColumnReader::Int64ColumnReader(mut column) = column else {
        return Err(ParquetError::General("a column is not of 64-bit integers".into()));
    };
    let mut values = Vec::new();
    while values.len() < rows {
        let (records, _, _) = column.read_records(rows - values.len(), None, None, &mut values)?;
        if records == 0 {
            break;
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: Vec<u8>, sequence: u64, payload: Vec<u8>) -> ExpiredEntry {
        let version = EntryVersion {
            sequence,
            touched_ms: sequence as i64 * 10,
        };
        let (key, payload) = (Bytes::from(key), Bytes::from(payload));
        ExpiredEntry {
            key,
            version,
            expires_ms: version.touched_ms + 5,
            payload,
            superseded: false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_newest_version_of_each_key_is_found(
            rows in prop::collection::vec((prop::collection::vec(0u8..4, 0..3), prop::collection::vec(any::<u8>(), 0..9)), 0..60),
        ) {
            let entries: Vec<ExpiredEntry> =
                rows.into_iter().enumerate().map(|(number, (key, payload))| entry(key, number as u64 + 1, payload)).collect();
            let say = |payload: &[u8]| payload.len().is_multiple_of(2).then(|| format!("{payload:?}"));
            let object = encode(&entries, say).unwrap();
            let mut turned = entries.clone();
            turned.reverse();
            prop_assert_eq!(&object, &encode(&turned, say).unwrap());
            for wanted in &entries {
                let newest = entries.iter().filter(|entry| entry.key == wanted.key).max_by_key(|entry| entry.version).unwrap();
                let found = find("o", object.clone(), &wanted.key).unwrap().unwrap();
                prop_assert_eq!((&found.payload, found.version, found.expires_ms), (&newest.payload, newest.version, newest.expires_ms));
            }
            let mut sorted: Vec<_> = entries.iter().map(|entry| (entry.key.clone(), entry.version, entry.payload.clone())).collect();
            sorted.sort();
            let read: Vec<_> = super::entries("o", object.clone()).unwrap().into_iter().map(|entry| (entry.key, entry.version, entry.payload)).collect();
            prop_assert_eq!(read, sorted);
            prop_assert_eq!(find("o", object, b"none").unwrap(), None);
        }

        #[test]
        fn damaged_objects_are_errors(cut in 0usize..400, flip in 0usize..400) {
            let entries: Vec<ExpiredEntry> = (0..20).map(|number| entry(vec![number], 1, vec![number; 9])).collect();
            let mut object = encode(&entries, |_| None).unwrap().to_vec();
            let at = flip % object.len();
            object[at] ^= 0x55;
            object.truncate(object.len() - cut % object.len());
            // Whatever the damage: an answer or an error, never a panic.
            if let Err(error) = find("a/b.parquet", object.into(), &[3]) {
                prop_assert!(error.to_string().contains("a/b.parquet"));
            }
        }
    }
}
