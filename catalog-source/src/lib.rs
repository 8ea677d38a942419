//! Catalogs into compacted topics.
