//! Levels of loggers, which can be changed while the worker runs (contract 1.10).
//!
//! A logger's name is a path of modules: `connect_runtime::herder`, or with dots. A level holds for the name and
//! everything below it. Changes are lost when the worker stops.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Name of the logger that holds for all others.
pub const ROOT: &str = "root";

/// A logger's level, as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggerLevel {
    /// upper-case name of the level
    pub level: &'static str,
    /// when it was changed, in milliseconds since the epoch; `None`: not since the start
    pub last_modified_ms: Option<i64>,
}

type Reload = Arc<dyn Fn(Targets) -> Result<(), String> + Send + Sync>;

/// The levels of a process. Clones share them.
#[derive(Clone)]
pub struct Loggers {
    levels: Arc<Mutex<BTreeMap<String, LoggerLevel>>>,
    reload: Reload,
}

impl Loggers {
    /// Levels that start with `root` at `level`; `reload` puts a filter into force.
    pub fn new(level: LevelFilter, reload: impl Fn(Targets) -> Result<(), String> + Send + Sync + 'static) -> Self {
        let root = LoggerLevel {
            level: level_name(level),
            last_modified_ms: None,
        };
        Self {
            levels: Arc::new(Mutex::new(BTreeMap::from([(ROOT.to_owned(), root)]))),
            reload: Arc::new(reload),
        }
    }

    /// Levels that are kept and shown but filter nothing, where the process has set up its own logging.
    pub fn detached() -> Self {
        Self::new(LevelFilter::INFO, |_| Ok(()))
    }

    /// All loggers with a level of their own, by name.
    pub fn all(&self) -> BTreeMap<String, LoggerLevel> {
        self.levels.lock().clone()
    }

    /// The level in force for `name`: its own, or that of the nearest logger above it; `None` for a name without
    /// either, which only an empty one is.
    pub fn level(&self, name: &str) -> Option<LoggerLevel> {
        self.levels.lock().get(name).cloned()
    }

    /// Sets the level of `name` and of those below it that have one. Answers the names whose level has changed.
    ///
    /// # Errors
    /// The level is unknown.
    pub fn set(&self, name: &str, level: &str) -> Result<Vec<String>, String> {
        let level = level_named(level).ok_or_else(|| format!("invalid log level '{level}'."))?;
        let mut levels = self.levels.lock();
        let now = crate::clock::now_ms();
        let mut names: Vec<String> = levels
            .keys()
            .filter(|known| name != ROOT && known.starts_with(name) && *known != ROOT)
            .cloned()
            .collect();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        names.retain(|name| levels.get(name).is_none_or(|held| held.level != level));
        names.sort();
        for name in &names {
            levels.insert(
                name.clone(),
                LoggerLevel {
                    level,
                    last_modified_ms: Some(now),
                },
            );
        }
        if !names.is_empty() {
            (self.reload)(filter(&levels))?;
        }
        Ok(names)
    }
}

fn filter(levels: &BTreeMap<String, LoggerLevel>) -> Targets {
    levels.iter().fold(Targets::new(), |targets, (name, level)| {
        let level = in_force(level.level);
        match name.as_str() {
            ROOT => targets.with_default(level),
            _ => targets.with_target(name.replace('.', "::"), level),
        }
    })
}

/// Names of levels, those of Java's that stand for another one here included: they are shown as they were set.
const LEVELS: [(&str, LevelFilter); 8] = [
    ("OFF", LevelFilter::OFF),
    ("FATAL", LevelFilter::ERROR),
    ("ERROR", LevelFilter::ERROR),
    ("WARN", LevelFilter::WARN),
    ("INFO", LevelFilter::INFO),
    ("DEBUG", LevelFilter::DEBUG),
    ("TRACE", LevelFilter::TRACE),
    ("ALL", LevelFilter::TRACE),
];

fn level_name(level: LevelFilter) -> &'static str {
    match level.into_level() {
        None => "OFF",
        Some(tracing::Level::ERROR) => "ERROR",
        Some(tracing::Level::WARN) => "WARN",
        Some(tracing::Level::INFO) => "INFO",
        Some(tracing::Level::DEBUG) => "DEBUG",
        Some(_) => "TRACE",
    }
}

/// Whether `text` names a level, in any case.
pub fn is_level(text: &str) -> bool {
    level_named(text).is_some()
}

fn level_named(text: &str) -> Option<&'static str> {
    let known = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map(|(name, _)| *name)
}

fn in_force(name: &str) -> LevelFilter {
    let known = LEVELS.iter().find(|(known, _)| *known == name);
    known.map_or(LevelFilter::INFO, |(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_holds_for_the_name_and_those_below_it_and_changes_once() {
        let loggers = Loggers::detached();
        assert_eq!(loggers.set("kit.a", "DEBUG").unwrap(), ["kit.a"]);
        assert_eq!(loggers.set("kit.ab", "WARN").unwrap(), ["kit.ab"]);
        assert_eq!(loggers.set("kit", "debug").unwrap(), ["kit", "kit.ab"]);
        let before = loggers.level("kit.a").unwrap();
        assert!(loggers.set("kit.a", "DEBUG").unwrap().is_empty());
        assert_eq!(loggers.level("kit.a").unwrap(), before);
        assert_eq!(loggers.set("kit", "LOUD").unwrap_err(), "invalid log level 'LOUD'.");
        assert_eq!(loggers.level(ROOT).unwrap().last_modified_ms, None);
        for level in ["FATAL", "ALL", "OFF"] {
            assert_eq!(loggers.set("kit.f", level).unwrap(), ["kit.f"]);
            assert_eq!(loggers.level("kit.f").unwrap().level, level, "shown as it was set");
        }
    }
}
