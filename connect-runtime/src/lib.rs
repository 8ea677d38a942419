//! The worker: herder, storage topics, REST, source and sink loops, converters, transforms, errors.
