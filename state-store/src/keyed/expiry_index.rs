//! The expiry index: which rows to look at when. A log of pages, so that a new row costs a few bytes of one and no key of its
//! own.
//!
//! ```text
//! key      keyspace(4) time of the first place(8) page(8)
//! value    place*      place = time(8) length(4) changelog key, by time
//! ```
//! A row says itself which place is its own (`Row::indexed_ms`); a place that is no row's any more is dropped when it comes
//! due, with its page once nothing else is in it. Nothing is looked up to add a place or to give one up.

use bytes::{Buf, Bytes};
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};

use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;
use crate::ttl::{from_ordered_bytes, ordered_bytes};

/// Places of one page, at most.
const PAGE_PLACES: usize = 64;

/// The write side of one partition's index.
pub(super) struct ExpiryIndex {
    /// No place is before this time: what was deleted there need not be passed again and again.
    floor_ms: i64,
    /// Tells pages that begin at the same time apart, those of an earlier opening too.
    next_page: u64,
    /// Places for the next write.
    adding: Vec<(i64, Bytes)>,
}

impl ExpiryIndex {
    pub(super) fn new() -> ExpiryIndex {
        ExpiryIndex {
            floor_ms: i64::MIN,
            next_page: uuid::Uuid::new_v4().as_u64_pair().0,
            adding: Vec::new(),
        }
    }

    /// Nothing comes due before.
    pub(super) fn floor_ms(&self) -> i64 {
        self.floor_ms
    }

    /// All places are at this time or later, but those that wait to be written.
    pub(super) fn rise_to(&mut self, floor_ms: i64) {
        self.floor_ms = floor_ms;
    }

    /// Adds a place with the next [`write`](Self::write).
    pub(super) fn add(&mut self, time_ms: i64, changelog_key: Bytes) {
        self.adding.push((time_ms, changelog_key));
    }

    /// Writes what was added.
    pub(super) fn write(
        &mut self,
        db: &Database,
        keyspace: Keyspace,
        batch: &mut WriteBatch,
    ) -> Result<(), StateError> {
        if self.adding.is_empty() {
            return Ok(());
        }
        let family = db.family(Family::Expiry)?;
        self.adding.sort_unstable_by_key(|(time_ms, _)| *time_ms);
        let mut value = Vec::new();
        for places in self.adding.chunks(PAGE_PLACES) {
            let Some((first_ms, _)) = places.first() else { continue };
            self.floor_ms = self.floor_ms.min(*first_ms);
            value.clear();
            for (time_ms, changelog_key) in places {
                place_onto(*time_ms, changelog_key, &mut value);
            }
            batch.put_cf(family, page_key(keyspace, *first_ms, self.next_page), &value);
            self.next_page = self.next_page.wrapping_add(1);
        }
        self.adding.clear();
        Ok(())
    }

    /// The pages from the floor on, in the order of their first places.
    pub(super) fn pages<'a>(
        &self,
        db: &'a Database,
        keyspace: Keyspace,
    ) -> Result<impl Iterator<Item = Result<Page, StateError>> + 'a, StateError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keyspace.end());
        let start = page_key(keyspace, self.floor_ms, 0);
        let items = db.rocksdb().iterator_cf_opt(
            db.family(Family::Expiry)?,
            options,
            IteratorMode::From(&start, Direction::Forward),
        );
        Ok(items.map(|item| {
            let (key, value) = item.map_err(StateError::database("reading the expiry index"))?;
            Ok(Page::new(key, value.into()))
        }))
    }
}

/// One page, as it was read.
pub(super) struct Page {
    key: Box<[u8]>,
    /// by time: time, changelog key, whether it stays
    places: Vec<(i64, Bytes, bool)>,
}

impl Page {
    fn new(key: Box<[u8]>, mut value: Bytes) -> Page {
        let mut places = Vec::with_capacity(PAGE_PLACES);
        while value.len() >= 12 {
            let mut time = [0; 8];
            value.copy_to_slice(&mut time);
            let length = value.get_u32() as usize;
            if length > value.len() {
                break;
            }
            places.push((from_ordered_bytes(time), value.split_to(length), true));
        }
        Page { key, places }
    }

    /// The times of the places, in ascending order.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> {
        self.places.iter().map(|(time_ms, ..)| *time_ms)
    }

    /// The changelog key of a place.
    pub(super) fn changelog_key(&self, number: usize) -> Option<&Bytes> {
        self.places.get(number).map(|(_, key, _)| key)
    }

    /// The time of its first place that stays.
    pub(super) fn first_ms(&self) -> Option<i64> {
        self.places
            .iter()
            .find(|(.., stays)| *stays)
            .map(|(time_ms, ..)| *time_ms)
    }

    /// A place is no row's any more.
    pub(super) fn drop_place(&mut self, number: usize) {
        if let Some((.., stays)) = self.places.get_mut(number) {
            *stays = false;
        }
    }

    /// If places were dropped: deletes the page, and adds those that stay anew.
    pub(super) fn write_back(
        self,
        index: &mut ExpiryIndex,
        db: &Database,
        batch: &mut WriteBatch,
    ) -> Result<(), StateError> {
        if self.places.iter().all(|(.., stays)| *stays) && !self.places.is_empty() {
            return Ok(());
        }
        batch.delete_cf(db.family(Family::Expiry)?, &self.key);
        for (time_ms, key, stays) in self.places {
            if stays {
                index.add(time_ms, key);
            }
        }
        Ok(())
    }
}

fn page_key(keyspace: Keyspace, first_ms: i64, page: u64) -> [u8; 20] {
    let mut key = [0; 20];
    let parts = [&keyspace.prefix()[..], &ordered_bytes(first_ms), &page.to_be_bytes()];
    for (to, from) in key.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    key
}

fn place_onto(time_ms: i64, changelog_key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&ordered_bytes(time_ms));
    out.extend_from_slice(&u32::try_from(changelog_key.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(changelog_key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn places_come_back_in_the_order_of_their_times(
            places in prop::collection::vec((any::<i64>(), prop::collection::vec(any::<u8>(), 0..20)), 1..300),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let db = Database::open(directory.path(), crate::database::MemoryBudget::default()).unwrap();
            let keyspace = Keyspace(7);
            let mut index = ExpiryIndex::new();
            for (time_ms, key) in &places {
                index.add(*time_ms, Bytes::copy_from_slice(key));
            }
            let mut batch = WriteBatch::default();
            index.write(&db, keyspace, &mut batch).unwrap();
            db.write(batch).unwrap();
            let pages: Vec<Page> = index.pages(&db, keyspace).unwrap().collect::<Result<_, _>>().unwrap();
            let mut found: Vec<(i64, Vec<u8>)> =
                pages.iter().flat_map(|page| &page.places).map(|(time_ms, key, _)| (*time_ms, key.to_vec())).collect();
            prop_assert!(found.is_sorted_by_key(|(time_ms, _)| *time_ms));
            let mut expected = places;
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_a_page(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Page::new(Box::default(), bytes.into());
        }
    }
}
