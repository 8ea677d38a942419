//! What a connector author sees: schema, value, record, configuration, task traits, errors.
