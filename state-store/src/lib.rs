//! Stores in RocksDB: global and keyed, write-back cache, changelog, stream time, expiry, archive.
