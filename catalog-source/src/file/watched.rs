//! The file as it is watched: when it is whole, and read as it was at one moment.
//!
//! ```text
//!   look: stamp --as it was at the last look, or not written for an interval--> quiet --read, stamp again--> the same: whole
//! ```
//! A file that is written, truncated or replaced while somebody looks is not read, or what was read is thrown away. (Who writes
//! for longer than an interval at a time should write under another name and rename the file: that is one step.)

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Which file it is, its size, and when its content and its name were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long its content has been as it is, by the clock of this machine.
    fn age(&self, now: SystemTime) -> Duration {
        let seconds = u64::try_from(self.modified.0).unwrap_or_default();
        let nanos = u32::try_from(self.modified.1).unwrap_or_default();
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
        let age = modified.and_then(|modified| now.duration_since(modified).ok());
        age.unwrap_or_default() // it was written in the future
    }
}

/// Looks at a file again and again.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// as it was last read
    read: Option<Stamp>,
    /// as it was at the last look
    looked: Option<Stamp>,
}

impl Watched {
    /// A look: whether the file is to be read now.
    pub(super) fn is_due(&mut self, stamp: Stamp, now: SystemTime, interval: Duration) -> bool {
        let quiet = self.looked == Some(stamp) || stamp.age(now) >= interval;
        self.looked = Some(stamp);
        quiet && self.read != Some(stamp)
    }

    /// It was read, or there is nothing in it that could be.
    pub(super) fn was_read(&mut self, stamp: Stamp) {
        self.read = Some(stamp);
    }

    /// What came of reading it is lost: it is due again as it is.
    pub(super) fn read_again(&mut self) {
        self.read = None;
    }
}

/// The content of the file, if it is what `stamp` says, before and after.
///
/// # Errors
/// The operating system's.
pub(super) fn read_whole(path: &Path, stamp: Stamp) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = std::fs::File::open(path)?;
    if Stamp::new(&file.metadata()?) != stamp {
        return Ok(None);
    }
    let mut content = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or_default());
    file.read_to_end(&mut content)?;
    let whole = content.len() as u64 == stamp.size && Stamp::new(&file.metadata()?) == stamp;
    Ok(whole.then_some(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn stamp(size: u64, modified: i64) -> Stamp {
        Stamp {
            device: 1,
            inode: 1,
            size,
            modified: (modified, 0),
            changed: (modified, 0),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_file_is_read_when_it_is_quiet() {
        let mut watched = Watched::default();
        // long finished: at once, and once
        assert!(watched.is_due(stamp(1, 10), at(100), INTERVAL));
        watched.was_read(stamp(1, 10));
        assert!(!watched.is_due(stamp(1, 10), at(105), INTERVAL));
        // being written: not before it has been the same for a look
        assert!(!watched.is_due(stamp(2, 108), at(110), INTERVAL));
        assert!(!watched.is_due(stamp(3, 114), at(115), INTERVAL));
        assert!(watched.is_due(stamp(3, 114), at(119), INTERVAL));
        // nothing was read: it is due again
        assert!(watched.is_due(stamp(3, 114), at(124), INTERVAL));
        // from a machine whose clock is ahead
        assert!(!watched.is_due(stamp(4, 9999), at(130), INTERVAL));
        assert!(watched.is_due(stamp(4, 9999), at(135), INTERVAL));
    }

    #[test]
    fn what_changes_while_it_is_read_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let before = Stamp::of(&path).unwrap();
        assert_eq!(read_whole(&path, before).unwrap().as_deref(), Some(&b"one"[..]));
        std::fs::write(&path, "three").unwrap();
        assert_eq!(read_whole(&path, before).unwrap(), None);
        // another file of the same size under the same name
        let now = Stamp::of(&path).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "seven").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(read_whole(&path, now).unwrap(), None);
    }

    proptest! {
        /// However a writer goes on, what is read was the same at the look before, or for an interval.
        #[test]
        fn what_is_read_was_quiet(writes in proptest::collection::vec((0_u64..4, 0_u64..12), 1..20)) {
            let mut watched = Watched::default();
            let (mut now, mut size, mut modified) = (1000_u64, 0, 1000_u64);
            let mut last = None;
            for (written, wait) in writes {
                if written > 0 {
                    size += written;
                    modified = now;
                }
                let found = stamp(size, modified as i64);
                if watched.is_due(found, at(now), INTERVAL) {
                    prop_assert!(last == Some(found) || now - modified >= INTERVAL.as_secs());
                    watched.was_read(found);
                }
                last = Some(found);
                now += wait;
            }
        }
    }
}
