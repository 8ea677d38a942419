//! From a method and a path to what is asked for. Pure.
//!
//! A path is cut at its slashes before it is decoded, so that a name with `/` (`%2F`) can be addressed; an empty last
//! segment, from a trailing slash, does not count. What stands behind a `;` in a segment is a parameter, and is ignored.

use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // named after the endpoints of contract 1.3
pub enum Route {
    Root,
    Health,
    Metrics,
    ListConnectors,
    CreateConnector,
    GetConnector(String),
    DeleteConnector(String),
    GetConfig(String),
    PutConfig(String),
    PatchConfig(String),
    GetStatus(String),
    GetTasks(String),
    GetTaskStatus(String, String),
    RestartTask(String, String),
    RestartConnector(String),
    Pause(String),
    Resume(String),
    Stop(String),
    GetTopics(String),
    ResetTopics(String),
    GetOffsets(String),
    AlterOffsets(String),
    ResetOffsets(String),
    PublishTasks(String),
    Fence(String),
    ListPlugins,
    GetPluginConfig(String),
    Validate(String),
    ListLoggers,
    GetLogger(String),
    SetLogger(String),
    /// below the root of an extension
    Extension(Vec<String>),
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// a bad escape (400)
    BadPath,
    /// a segment without a character (400)
    EmptySegment,
    /// nothing there (404)
    NotFound,
    /// not with this method (405)
    MethodNotAllowed,
}

/// The decoded segments of a path.
pub fn segments(path: &str) -> Result<Vec<String>, NoRoute> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/')
        .map(|segment| {
            if segment.is_empty() {
                return Err(NoRoute::EmptySegment);
            }
            let segment = segment.split(';').next().unwrap_or_default();
            let escapes = segment.split('%').skip(1);
            for escape in escapes {
                if !escape
                    .as_bytes()
                    .iter()
                    .take(2)
                    .filter(|byte| byte.is_ascii_hexdigit())
                    .count()
                    .eq(&2)
                {
                    return Err(NoRoute::BadPath);
                }
            }
            match percent_decode_str(segment).decode_utf8() {
                Ok(decoded) => Ok(decoded.into_owned()),
                Err(_) => Err(NoRoute::BadPath),
            }
        })
        .collect()
}

/// The methods that a path has, for an answer to OPTIONS. Empty: it is no path of the worker's own.
pub fn methods(segments: &[String]) -> Vec<&'static str> {
    const IN_UPSTREAMS_ORDER: [&str; 5] = ["POST", "DELETE", "GET", "PUT", "PATCH"];
    let mut methods = Vec::new();
    for method in IN_UPSTREAMS_ORDER
        .into_iter()
        .filter(|method| is_route(method, segments))
    {
        if method == "GET" {
            methods.insert(0, "HEAD");
        }
        methods.push(method);
    }
    if !methods.is_empty() {
        let readable = methods
            .iter()
            .position(|method| *method == "GET")
            .map_or(0, |at| at + 1);
        methods.insert(readable, "OPTIONS");
    }
    methods
}

/// What `method` on the path asks for; `extensions` are the first segments that belong to extensions.
pub fn route(method: &str, segments: &[String], extensions: &[&str]) -> Result<Route, NoRoute> {
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let own = |name: &str| name.to_owned();
    let found = match (method, path.as_slice()) {
        ("GET", []) => Route::Root,
        ("GET", ["health"]) => Route::Health,
        ("GET", ["metrics"]) => Route::Metrics,
        ("GET", ["connectors"]) => Route::ListConnectors,
        ("POST", ["connectors"]) => Route::CreateConnector,
        ("GET", ["connectors", name]) => Route::GetConnector(own(name)),
        ("DELETE", ["connectors", name]) => Route::DeleteConnector(own(name)),
        ("GET", ["connectors", name, "config"]) => Route::GetConfig(own(name)),
        ("PUT", ["connectors", name, "config"]) => Route::PutConfig(own(name)),
        ("PATCH", ["connectors", name, "config"]) => Route::PatchConfig(own(name)),
        ("GET", ["connectors", name, "status"]) => Route::GetStatus(own(name)),
        ("GET", ["connectors", name, "tasks"]) => Route::GetTasks(own(name)),
        ("GET", ["connectors", name, "tasks", task, "status"]) => Route::GetTaskStatus(own(name), own(task)),
        ("POST", ["connectors", name, "tasks", task, "restart"]) => Route::RestartTask(own(name), own(task)),
        ("POST", ["connectors", name, "restart"]) => Route::RestartConnector(own(name)),
        ("PUT", ["connectors", name, "pause"]) => Route::Pause(own(name)),
        ("PUT", ["connectors", name, "resume"]) => Route::Resume(own(name)),
        ("PUT", ["connectors", name, "stop"]) => Route::Stop(own(name)),
        ("GET", ["connectors", name, "topics"]) => Route::GetTopics(own(name)),
        ("PUT", ["connectors", name, "topics", "reset"]) => Route::ResetTopics(own(name)),
        ("GET", ["connectors", name, "offsets"]) => Route::GetOffsets(own(name)),
        ("PATCH", ["connectors", name, "offsets"]) => Route::AlterOffsets(own(name)),
        ("DELETE", ["connectors", name, "offsets"]) => Route::ResetOffsets(own(name)),
        ("POST", ["connectors", name, "tasks"]) => Route::PublishTasks(own(name)),
        ("PUT", ["connectors", name, "fence"]) => Route::Fence(own(name)),
        ("GET", ["connector-plugins"]) => Route::ListPlugins,
        ("GET", ["connector-plugins", plugin, "config"]) => Route::GetPluginConfig(own(plugin)),
        ("PUT", ["connector-plugins", plugin, "config", "validate"]) => Route::Validate(own(plugin)),
        ("GET", ["admin", "loggers"]) => Route::ListLoggers,
        ("GET", ["admin", "loggers", name]) => Route::GetLogger(own(name)),
        ("PUT", ["admin", "loggers", name]) => Route::SetLogger(own(name)),
        (_, [first, ..]) if extensions.contains(first) => Route::Extension(segments.to_vec()),
        ("HEAD", _) => return route("GET", segments, extensions),
        _ => {
            let elsewhere = ["GET", "POST", "PUT", "PATCH", "DELETE"]
                .into_iter()
                .filter(|other| *other != method)
                .any(|other| is_route(other, segments));
            return Err(if elsewhere {
                NoRoute::MethodNotAllowed
            } else {
                NoRoute::NotFound
            });
        }
    };
    Ok(found)
}

fn is_route(method: &str, segments: &[String]) -> bool {
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    matches!(
        (method, path.as_slice()),
        (
            "GET",
            [] | ["health" | "metrics" | "connectors" | "connector-plugins"] | ["admin", "loggers"]
        ) | ("GET", ["connectors", _] | ["admin", "loggers", _])
            | (
                "GET",
                ["connectors", _, "config" | "status" | "tasks" | "topics" | "offsets"]
            )
            | (
                "GET",
                ["connectors", _, "tasks", _, "status"] | ["connector-plugins", _, "config"]
            )
            | (
                "POST",
                ["connectors"] | ["connectors", _, "restart" | "tasks"] | ["connectors", _, "tasks", _, "restart"]
            )
            | (
                "PUT",
                ["connectors", _, "config" | "pause" | "resume" | "stop" | "fence"]
                    | ["connectors", _, "topics", "reset"]
            )
            | (
                "PUT",
                ["connector-plugins", _, "config", "validate"] | ["admin", "loggers", _]
            )
            | ("PATCH", ["connectors", _, "config" | "offsets"])
            | ("DELETE", ["connectors", _] | ["connectors", _, "offsets"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &str, path: &str) -> Result<Route, NoRoute> {
        route(method, &segments(path)?, &["inference"])
    }

    #[test]
    fn trailing_slashes_and_escaped_names_are_understood() {
        assert_eq!(routed("GET", "/connectors/"), Ok(Route::ListConnectors));
        assert_eq!(routed("GET", "/admin/loggers/"), Ok(Route::ListLoggers));
        assert_eq!(routed("GET", "/"), Ok(Route::Root));
        assert_eq!(
            routed("PUT", "/connectors/a%2Fb%20-%3E%25/pause"),
            Ok(Route::Pause("a/b ->%".to_owned()))
        );
        assert_eq!(routed("GET", "//connectors"), Err(NoRoute::EmptySegment));
        assert_eq!(routed("GET", "/connectors//"), Err(NoRoute::EmptySegment));
        assert_eq!(
            routed("GET", "/connectors/a;b=c"),
            Ok(Route::GetConnector("a".to_owned()))
        );
        assert_eq!(
            routed("GET", "/connectors/a%3Bb"),
            Ok(Route::GetConnector("a;b".to_owned()))
        );
        assert_eq!(routed("GET", "/connectors/%zz"), Err(NoRoute::BadPath));
        assert_eq!(routed("GET", "/connectors/%f"), Err(NoRoute::BadPath));
        assert_eq!(routed("GET", "/connectors/%ff"), Err(NoRoute::BadPath));
    }

    #[test]
    fn unknown_paths_and_methods_differ() {
        assert_eq!(routed("GET", "/nothing"), Err(NoRoute::NotFound));
        assert_eq!(routed("DELETE", "/connectors"), Err(NoRoute::MethodNotAllowed));
        assert_eq!(routed("GET", "/connectors/a/pause"), Err(NoRoute::MethodNotAllowed));
        assert_eq!(
            routed("PUT", "/inference/tenants/x"),
            Ok(Route::Extension(vec![
                "inference".to_owned(),
                "tenants".to_owned(),
                "x".to_owned()
            ]))
        );
    }

    #[test]
    fn a_path_says_which_methods_it_has() {
        let methods = |path: &str| methods(&segments(path).unwrap()).join(",");
        assert_eq!(methods("/connectors"), "HEAD,POST,GET,OPTIONS");
        assert_eq!(methods("/connectors/a/config"), "HEAD,GET,OPTIONS,PUT,PATCH");
        assert_eq!(methods("/connectors/a/pause"), "OPTIONS,PUT");
        assert_eq!(methods("/nothing"), "");
    }

    #[test]
    fn every_route_is_known_to_the_check_for_other_methods() {
        for (method, path) in [
            ("GET", "/health"),
            ("POST", "/connectors"),
            ("GET", "/connectors/a"),
            ("DELETE", "/connectors/a"),
            ("GET", "/connectors/a/config"),
            ("PUT", "/connectors/a/config"),
            ("PATCH", "/connectors/a/config"),
            ("GET", "/connectors/a/status"),
            ("GET", "/connectors/a/tasks"),
            ("GET", "/connectors/a/tasks/0/status"),
            ("POST", "/connectors/a/tasks/0/restart"),
            ("POST", "/connectors/a/restart"),
            ("PUT", "/connectors/a/stop"),
            ("GET", "/connectors/a/topics"),
            ("PUT", "/connectors/a/topics/reset"),
            ("GET", "/connectors/a/offsets"),
            ("PATCH", "/connectors/a/offsets"),
            ("DELETE", "/connectors/a/offsets"),
            ("POST", "/connectors/a/tasks"),
            ("PUT", "/connectors/a/fence"),
            ("GET", "/connector-plugins"),
            ("GET", "/connector-plugins/p/config"),
            ("PUT", "/connector-plugins/p/config/validate"),
            ("GET", "/admin/loggers"),
            ("PUT", "/admin/loggers/l"),
        ] {
            assert!(routed(method, path).is_ok(), "{method} {path}");
            assert!(is_route(method, &segments(path).unwrap()), "{method} {path}");
        }
    }
}
