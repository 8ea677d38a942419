//! From what a connector says about its tasks to what is written to the config topic. Pure.

use connect_api::{ConfigMap, ConnectError, ConnectorKind, ConnectorPlugin};

/// `tasks.max`, 1 where it is missing or wrong (validation has refused it before).
pub(crate) fn tasks_max(config: &ConfigMap) -> usize {
    text(config, "tasks.max")
        .and_then(|text| text.trim().parse().ok())
        .filter(|max| *max > 0)
        .unwrap_or(1)
}

fn text<'a>(config: &'a ConfigMap, name: &str) -> Option<&'a str> {
    config.get(name).and_then(Option::as_deref)
}

/// Refuses more tasks than `tasks.max`, unless `tasks.max.enforce` is false.
pub(crate) fn enforce_maximum(connector: &str, config: &ConfigMap, tasks: usize) -> Result<(), ConnectError> {
    let maximum = tasks_max(config);
    let enforced = !text(config, "tasks.max.enforce").is_some_and(|text| text.trim().eq_ignore_ascii_case("false"));
    if tasks > maximum && enforced {
        return Err(ConnectError::fatal(format!(
            "The connector {connector} has generated {tasks} tasks, which is greater than {maximum}, the maximum number of tasks it is configured to create. This behaviour should be considered a bug and is disallowed. If necessary, it can be permitted by reconfiguring the connector with 'tasks.max.enforce' set to false; however, this option will be removed in a future release of Kafka Connect."
        ))
        .with_java_class("org.apache.kafka.connect.runtime.TooManyTasksException"));
    }
    Ok(())
}

/// Adds what the framework adds to each task's configuration, and turns secrets back into references, so that none is
/// written to the config topic. `raw` is the connector's configuration as posted, `resolved` the same with references
/// to config providers resolved.
pub(crate) fn to_publish(
    plugin: &dyn ConnectorPlugin,
    raw: &ConfigMap,
    resolved: &ConfigMap,
    tasks: Vec<ConfigMap>,
) -> Vec<ConfigMap> {
    tasks
        .into_iter()
        .map(|mut task| {
            hide_resolved(raw, resolved, &mut task);
            if plugin.kind() == ConnectorKind::Sink {
                for name in ["topics", "topics.regex"] {
                    if let Some(value) = raw.get(name) {
                        task.insert(name.to_owned(), value.clone());
                    }
                }
            }
            task.insert("task.class".to_owned(), Some(plugin.task_class().to_owned()));
            task
        })
        .collect()
}

/// An option that the connector's configuration holds with a reference gets its text back, by its name (as a Java
/// worker does) or, where a connector renames it, by its value.
fn hide_resolved(raw: &ConfigMap, resolved: &ConfigMap, task: &mut ConfigMap) {
    let referring: Vec<(&String, &Option<String>, &Option<String>)> = raw
        .iter()
        .filter_map(|(name, text)| resolved.get(name).map(|value| (name, text, value)))
        .filter(|(_, text, value)| text != value)
        .collect();
    for (name, value) in task.iter_mut() {
        let reference = referring.iter().find(|(referring, ..)| *referring == name).or_else(|| {
            referring
                .iter()
                .find(|(_, _, secret)| **secret == *value && secret.as_ref().is_some_and(|text| !text.is_empty()))
        });
        if let Some((_, text, _)) = reference {
            *value = (*text).clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect()
    }

    #[test]
    fn secrets_become_references_again() {
        let raw = config(&[
            ("password", "${file:/s:p}"),
            ("user", "anna"),
            ("url", "jdbc:${file:/s:h}:1"),
        ]);
        let resolved = config(&[("password", "hunter2"), ("user", "anna"), ("url", "jdbc:db:1")]);
        let mut task = config(&[
            ("password", "hunter2"),
            ("user", "hunter2"),
            ("renamed", "jdbc:db:1"),
            ("n", "1"),
        ]);
        hide_resolved(&raw, &resolved, &mut task);
        let expected = config(&[
            ("password", "${file:/s:p}"),
            ("user", "${file:/s:p}"),
            ("renamed", "jdbc:${file:/s:h}:1"),
            ("n", "1"),
        ]);
        assert_eq!(task, expected);
    }

    #[test]
    fn too_many_tasks_are_refused_unless_allowed() {
        assert!(enforce_maximum("c", &config(&[("tasks.max", "2")]), 2).is_ok());
        let error = enforce_maximum("c", &config(&[("tasks.max", "2")]), 3).unwrap_err();
        assert!(
            error
                .message()
                .starts_with("The connector c has generated 3 tasks, which is greater than 2")
        );
        assert!(enforce_maximum("c", &config(&[("tasks.max", "2"), ("tasks.max.enforce", "false")]), 3).is_ok());
    }
}
