//! Bulk loading: rows are sorted in memory and go into RocksDB as finished files, past memtables and compaction.
//!
//! Rows lie in one arena in the order they came, each as it will be in the file (full key, then flag and value), so that
//! nothing is copied again. Of several rows of one key the last one wins, within a file by the sort and between files by order.

use std::path::PathBuf;

use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use super::area::Area;
use crate::database::{BULK_LOAD_DIRECTORY, Database, Family};
use crate::error::StateError;

pub(crate) struct BulkLoad {
    arena: Vec<u8>,
    rows: Vec<LoadedRow>,
    limit_bytes: usize,
    directory: PathBuf,
    /// Rows with a value in all files: exact while no two files have a key in common.
    file_rows: u64,
    /// The greatest key of all files; none: their keys overlap.
    greatest_key: Option<Vec<u8>>,
    /// Rows pushed since the version was last counted.
    pub(crate) unseen: bool,
}

#[derive(Clone, Copy)]
struct LoadedRow {
    /// The eight bytes of the key that tell rows apart best, as a number.
    sort: u64,
    start: u32,
    key_len: u32,
    /// Flag and value.
    value_len: u32,
}

impl BulkLoad {
    /// `area` is emptied: what was staged there before is gone.
    pub(crate) fn start(db: &Database, area: Area) -> Result<BulkLoad, StateError> {
        area.clear(db)?;
        // Other stores load at the same time, each in a directory of its own.
        let directory = db
            .path()
            .join(BULK_LOAD_DIRECTORY)
            .join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&directory).map_err(|error| StateError::Directory {
            path: directory.clone(),
            detail: error.to_string(),
        })?;
        Ok(BulkLoad {
            arena: Vec::new(),
            rows: Vec::new(),
            limit_bytes: db.budget().bulk_load_bytes.clamp(1 << 16, 1 << 30),
            directory,
            file_rows: 0,
            greatest_key: Some(Vec::new()),
            unseen: true,
        })
    }

    /// Takes a row, or a tombstone; writes a file when the buffer is full.
    pub(crate) fn push(
        &mut self,
        db: &Database,
        area: Area,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        self.unseen = true;
        let start = self.arena.len();
        area.key_onto(key, &mut self.arena);
        let middle = self.arena.len();
        Area::value_onto(value, &mut self.arena);
        let length = |from: usize, to: usize| u32::try_from(to - from).unwrap_or(u32::MAX);
        self.rows.push(LoadedRow {
            sort: 0,
            start: length(0, start),
            key_len: length(start, middle),
            value_len: length(middle, self.arena.len()),
        });
        // A row takes about its bytes and 24 more for sorting.
        if self.arena.len() + self.rows.len() * 24 >= self.limit_bytes {
            self.write_file(db)?;
        }
        Ok(())
    }

    /// Writes what is left; returns how many rows the area has.
    pub(crate) fn finish(&mut self, db: &Database, area: Area) -> Result<u64, StateError> {
        self.write_file(db)?;
        self.unseen = false;
        match &self.greatest_key {
            Some(_) => Ok(self.file_rows),
            None => area.count_rows(db),
        }
    }

    fn write_file(&mut self, db: &Database) -> Result<(), StateError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.sort();
        let path = self.directory.join(format!("{}.sst", uuid::Uuid::new_v4()));
        let options = db.file_options();
        let mut writer = SstFileWriter::create(&options);
        writer
            .open(&path)
            .map_err(StateError::database("opening a file for bulk loading"))?;
        let mut values = 0u64;
        for (position, row) in self.rows.iter().enumerate() {
            let (key, value) = parts(&self.arena, row);
            let last_of_key = self
                .rows
                .get(position + 1)
                .is_none_or(|next| parts(&self.arena, next).0 != key);
            if last_of_key {
                writer
                    .put(key, value)
                    .map_err(StateError::database("writing a file for bulk loading"))?;
                values += u64::from(value.first() == Some(&Area::VALUE));
            }
        }
        writer
            .finish()
            .map_err(StateError::database("finishing a file for bulk loading"))?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        db.rocksdb()
            .ingest_external_file_cf_opts(db.family(Family::Global)?, &ingest, vec![&path])
            .map_err(StateError::database("taking in a file of rows"))?;
        crash_point::reached("global.file_ingested");
        self.file_rows += values;
        self.greatest_key = self.greatest_key.take().and_then(|greatest| {
            let (least, _) = parts(&self.arena, self.rows.first()?);
            let (last, _) = parts(&self.arena, self.rows.last()?);
            (least > greatest.as_slice()).then(|| last.to_vec())
        });
        self.rows.clear();
        self.arena.clear();
        Ok(())
    }

    /// By key, rows of one key in the order they came.
    fn sort(&mut self) {
        let arena = &self.arena;
        let Some(first) = self.rows.first().map(|row| parts(arena, row).0) else {
            return;
        };
        let shared = self.rows.iter().fold(first.len(), |shared, row| {
            let key = parts(arena, row).0;
            first.iter().zip(key).take(shared).take_while(|(a, b)| a == b).count()
        });
        for row in &mut self.rows {
            let key = parts(arena, row).0;
            let mut eight = [0; 8];
            for (to, from) in eight.iter_mut().zip(key.iter().skip(shared)) {
                *to = *from;
            }
            row.sort = u64::from_be_bytes(eight);
        }
        self.rows.sort_unstable_by(|a, b| {
            a.sort
                .cmp(&b.sort)
                .then_with(|| parts(arena, a).0.cmp(parts(arena, b).0))
                .then_with(|| a.start.cmp(&b.start))
        });
    }
}

impl Drop for BulkLoad {
    fn drop(&mut self) {
        // Files that were taken in have moved; what is left was interrupted and is of no use.
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::debug!(directory = %self.directory.display(), error = %error, "bulk files left behind");
        }
    }
}

fn parts<'a>(arena: &'a [u8], row: &LoadedRow) -> (&'a [u8], &'a [u8]) {
    let start = row.start as usize;
    let middle = start + row.key_len as usize;
    let end = middle + row.value_len as usize;
    (
        arena.get(start..middle).unwrap_or_default(),
        arena.get(middle..end).unwrap_or_default(),
    )
}
