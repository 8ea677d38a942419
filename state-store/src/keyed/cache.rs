//! The write-back cache of one partition: decoded values by key, in a slab, with a list of what is dirty.
//!
//! A slot is *clean* (the local copy has this version, or is known to have none), *dirty* (changed since the last barrier)
//! or *in flight* (encoded at a barrier that has not committed yet); it can be dirty and in flight at once, when the task
//! went on with it. Only clean slots are evicted, by the CLOCK rule, so a slot's number stays valid while a barrier is open.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::StateValue;
use crate::changelog::EntryVersion;

/// A slot's number in the slab.
pub(crate) type SlotId = u32;

/// Keys of up to so many bytes lie in their slot: finding one is then one look at memory, not two.
const KEY_BYTES: usize = 24;

/// One key, with what is known about it.
pub(crate) struct Slot<V> {
    hash: u64,
    pub(crate) key: SmallVec<[u8; KEY_BYTES]>,
    /// The decoded value; none: the key has no entry.
    pub(crate) value: Option<V>,
    /// What the time to live counts from.
    pub(crate) touched_ms: i64,
    /// What the local copy holds of the key.
    pub(crate) stored: Stored,
    /// Changed since the last barrier.
    pub(crate) dirty: bool,
    /// The newest barrier that has this key and has not committed; 0: none.
    pub(crate) in_flight: u64,
    bytes: usize,
    referenced: bool,
}

/// What the local copy (RocksDB) holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It has not been looked up.
    Unknown,
    /// No row.
    Absent,
    /// A row of that version, with the time under which the expiry index knows it.
    Row(EntryVersion, i64),
}

impl<V> Slot<V> {
    pub(crate) fn new(value: Option<V>, touched_ms: i64, stored: Stored) -> Slot<V> {
        Slot {
            hash: 0,
            key: SmallVec::new(),
            value,
            touched_ms,
            stored,
            dirty: false,
            in_flight: 0,
            bytes: 0,
            referenced: true,
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.dirty && self.in_flight == 0
    }
}

/// Bytes that a slot costs beside what its key and its value allocate.
fn slot_overhead<V>() -> usize {
    std::mem::size_of::<Slot<V>>() + 16
}

pub(crate) struct Cache<V> {
    table: HashTable<SlotId>,
    hasher: DefaultHashBuilder,
    slots: Vec<Option<Slot<V>>>,
    free: Vec<SlotId>,
    dirty: Vec<SlotId>,
    bytes: usize,
    /// Bytes of slots that are dirty or in flight.
    held_bytes: usize,
    hand: usize,
}

impl<V: StateValue> Cache<V> {
    pub(crate) fn new() -> Cache<V> {
        Cache {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            bytes: 0,
            held_bytes: 0,
            hand: 0,
        }
    }

    /// Bytes of all slots, as of the last time each was measured.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that cannot be evicted before a commit.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    pub(crate) fn find(&mut self, key: &[u8]) -> Option<SlotId> {
        let hash = self.hasher.hash_one(key);
        let slots = &mut self.slots;
        let id = *self.table.find(
            hash,
            |&id| matches!(slots.get(id as usize), Some(Some(slot)) if *slot.key == *key),
        )?;
        if let Some(Some(slot)) = slots.get_mut(id as usize) {
            slot.referenced = true;
        }
        Some(id)
    }

    pub(crate) fn get(&self, id: SlotId) -> Option<&Slot<V>> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot<V>> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// Adds a slot for a key that has none, after making room for it within `limit` bytes (as far as clean slots allow).
    pub(crate) fn insert(&mut self, key: &[u8], mut slot: Slot<V>, limit: usize) -> SlotId {
        slot.hash = self.hasher.hash_one(key);
        slot.key = SmallVec::from_slice(key);
        slot.bytes = measured(&slot);
        self.evict(limit.saturating_sub(slot.bytes));
        self.bytes += slot.bytes;
        let hash = slot.hash;
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id as usize) {
                    *place = Some(slot);
                }
                id
            }
            None => {
                self.slots.push(Some(slot));
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, id, |&id| {
            slots.get(id as usize).and_then(Option::as_ref).map_or(0, |s| s.hash)
        });
        id
    }

    pub(crate) fn mark_dirty(&mut self, id: SlotId) {
        let Some(Some(slot)) = self.slots.get_mut(id as usize) else {
            return;
        };
        if !slot.dirty {
            if slot.in_flight == 0 {
                self.held_bytes += slot.bytes;
            }
            slot.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Ends a generation: the dirty slots, now in flight under `sequence` and measured anew.
    pub(crate) fn take_dirty(&mut self, sequence: u64) -> Vec<SlotId> {
        let taken = std::mem::take(&mut self.dirty);
        for &id in &taken {
            let Some(Some(slot)) = self.slots.get_mut(id as usize) else {
                continue;
            };
            slot.dirty = false;
            slot.in_flight = sequence;
            let bytes = measured(slot);
            self.bytes = self.bytes + bytes - slot.bytes;
            self.held_bytes = self.held_bytes + bytes - slot.bytes;
            slot.bytes = bytes;
        }
        taken
    }

    /// A barrier with this slot has committed.
    pub(crate) fn landed(&mut self, id: SlotId, sequence: u64) {
        let Some(Some(slot)) = self.slots.get_mut(id as usize) else {
            return;
        };
        if slot.in_flight == sequence {
            slot.in_flight = 0;
            if !slot.dirty {
                self.held_bytes -= slot.bytes;
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.slots.clear();
        self.free.clear();
        self.dirty.clear();
        self.bytes = 0;
        self.held_bytes = 0;
        self.hand = 0;
    }

    /// Evicts clean slots until `limit` bytes are left or every slot has been passed twice (once to clear its mark).
    pub(crate) fn evict(&mut self, limit: usize) {
        if self.held_bytes >= self.bytes {
            return;
        }
        let mut passes = self.slots.len() * 2;
        while self.bytes > limit && passes > 0 {
            passes -= 1;
            self.hand = if self.hand + 1 >= self.slots.len() {
                0
            } else {
                self.hand + 1
            };
            let Some(place) = self.slots.get_mut(self.hand) else {
                return;
            };
            let Some(slot) = place else { continue };
            if !slot.is_clean() {
                continue;
            }
            if slot.referenced {
                slot.referenced = false;
                continue;
            }
            let (hash, bytes) = (slot.hash, slot.bytes);
            *place = None;
            let id = u32::try_from(self.hand).unwrap_or(u32::MAX);
            if let Ok(found) = self.table.find_entry(hash, |&other| other == id) {
                found.remove();
            }
            self.free.push(id);
            self.bytes -= bytes;
        }
    }
}

fn measured<V: StateValue>(slot: &Slot<V>) -> usize {
    let key = if slot.key.spilled() { slot.key.len() } else { 0 };
    slot_overhead::<V>() + key + slot.value.as_ref().map_or(0, StateValue::heap_bytes)
}
