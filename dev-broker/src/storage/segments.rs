//! The files of one partition: batches one after the other, as they are in memory, in segments
//! named by the offset of their first batch. Closed segments are deleted whole; compaction writes a
//! directory anew and swaps it in by renaming.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::batch::BatchHeader;
use crate::batch::StoredBatch;

const SUFFIX: &str = "log";

/// The files of one partition, open for appending.
#[derive(Debug)]
pub struct PartitionFiles {
    directory: PathBuf,
    segment_bytes: usize,
    /// Base offsets of all segments in order; the last is the one that is written.
    segments: Vec<i64>,
    active: Option<File>,
    active_bytes: usize,
}

impl PartitionFiles {
    /// Opens (or creates) the directory and reads the batches in it. What a crash has cut off at
    /// the end is removed.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(directory: PathBuf, segment_bytes: usize) -> Result<(PartitionFiles, Vec<StoredBatch>)> {
        finish_swap(&directory)?;
        fs::create_dir_all(&directory)?;
        let mut segments = list_segments(&directory)?;
        let mut batches = Vec::new();
        let mut active_bytes = 0;
        for (index, base_offset) in segments.iter().enumerate() {
            let path = segment_path(&directory, *base_offset);
            let bytes = Bytes::from(fs::read(&path)?);
            let whole = read_batches(&bytes, &mut batches);
            active_bytes = whole;
            if whole < bytes.len() {
                tracing::warn!(path = %path.display(), bytes = bytes.len() - whole, "end of a segment cut off");
                OpenOptions::new().write(true).open(&path)?.set_len(whole as u64)?;
                for later in segments.split_off(index + 1) {
                    fs::remove_file(segment_path(&directory, later))?;
                }
                break;
            }
        }
        let active = match segments.last() {
            Some(base) => Some(OpenOptions::new().append(true).open(segment_path(&directory, *base))?),
            None => None,
        };
        let files = PartitionFiles {
            directory,
            segment_bytes,
            segments,
            active,
            active_bytes,
        };
        Ok((files, batches))
    }

    /// Appends a batch, in a new segment if the current one is full.
    ///
    /// # Errors
    /// When the disk does not take it; what it took of it is cut off again.
    pub fn append(&mut self, batch: &StoredBatch) -> Result<()> {
        let size = batch.bytes.len();
        let is_full = self.active_bytes > 0 && self.active_bytes + size > self.segment_bytes;
        if self.active.is_none() || is_full {
            let base_offset = batch.header.base_offset;
            let path = segment_path(&self.directory, base_offset);
            self.active = Some(OpenOptions::new().create(true).append(true).open(path)?);
            self.active_bytes = 0;
            self.segments.push(base_offset);
        }
        let Some(active) = &mut self.active else {
            return Err(Error::from(ErrorKind::NotFound));
        };
        if let Err(error) = active.write_all(&batch.bytes) {
            active.set_len(self.active_bytes as u64)?;
            return Err(error);
        }
        self.active_bytes += size;
        Ok(())
    }

    /// Deletes the segments that end before `offset`.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn delete_before(&mut self, offset: i64) -> Result<()> {
        while let [first, second, ..] = self.segments.as_slice()
            && *second <= offset
        {
            fs::remove_file(segment_path(&self.directory, *first))?;
            self.segments.remove(0);
        }
        Ok(())
    }

    /// Puts `batches` in the place of everything.
    ///
    /// # Errors
    /// When the disk does not take them; the old files stay then.
    pub fn replace<'a>(&mut self, batches: impl Iterator<Item = &'a StoredBatch>) -> Result<()> {
        let (new, old) = (swap_path(&self.directory, "new"), swap_path(&self.directory, "old"));
        remove_if_there(&new)?;
        fs::create_dir_all(&new)?;
        let mut files = PartitionFiles {
            directory: new.clone(),
            segment_bytes: self.segment_bytes,
            segments: Vec::new(),
            active: None,
            active_bytes: 0,
        };
        for batch in batches {
            files.append(batch)?;
        }
        fs::rename(&self.directory, &old)?;
        fs::rename(&new, &self.directory)?;
        files.directory = self.directory.clone();
        *self = files;
        remove_if_there(&old)
    }
}

/// Brings a directory swap that a crash interrupted to its end: with the old directory away the new
/// one counts, else it was not complete.
fn finish_swap(directory: &Path) -> Result<()> {
    let (new, old) = (swap_path(directory, "new"), swap_path(directory, "old"));
    if old.exists() && !directory.exists() {
        fs::rename(&new, directory)?;
    }
    remove_if_there(&new)?;
    remove_if_there(&old)
}

fn swap_path(directory: &Path, suffix: &str) -> PathBuf {
    directory.with_extension(suffix)
}

fn remove_if_there(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn segment_path(directory: &Path, base_offset: i64) -> PathBuf {
    directory.join(format!("{base_offset:020}.{SUFFIX}"))
}

fn list_segments(directory: &Path) -> Result<Vec<i64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let base_offset = name.and_then(|name| name.parse::<i64>().ok());
        let is_segment = path.extension().is_some_and(|extension| extension == SUFFIX);
        segments.extend(base_offset.filter(|_| is_segment));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Reads whole, undamaged batches; says how many bytes they are.
fn read_batches(bytes: &Bytes, batches: &mut Vec<StoredBatch>) -> usize {
    let mut position = 0;
    while let Some(rest) = bytes.get(position..)
        && let Ok(header) = BatchHeader::read(rest)
        && header.verify_checksum(rest).is_ok()
    {
        let end = position + header.size_bytes;
        batches.push(StoredBatch {
            header,
            bytes: bytes.slice(position..end),
        });
        position = end;
    }
    position
}
