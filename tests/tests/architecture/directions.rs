//! The directions inside crates: of the rooms of a crate (the modules of its root) none uses another that uses it, over however
//! many others. Tests of a module may.

use super::rust_files;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each room uses, and one file where it does.
type Arrows = BTreeMap<String, BTreeMap<String, PathBuf>>;

#[test]
fn no_arrow_runs_back_up_inside_a_crate() {
    let mut circles = Vec::new();
    for name in CRATES {
        let arrows = arrows(&tests::process::workspace().join(name).join("src"));
        assert!(!arrows.is_empty(), "{name} has no rooms");
        circles.extend(circle(&arrows).map(|circle| format!("{name}: {circle}")));
    }
    assert!(circles.is_empty(), "{circles:#?}");
}

/// All but `inference-sink`, whose service, REST and metrics still use each other.
const CRATES: &[&str] = &[
    "catalog-source",
    "connect-api",
    "connect-runtime",
    "connectors",
    "dev-broker",
    "feature-engine",
    "formats",
    "kafka-client",
    "millrace",
    "model-engine",
    "objects",
    "state-store",
    "transforms",
];

#[test]
fn a_circle_is_seen_however_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let found = |text: &str| {
        write("a/deep.rs", text);
        circle(&arrows(directory.path()))
    };
    write("lib.rs", "mod a; mod b; mod c;\npub use c::{Far, near as Near};");
    write("a/mod.rs", "mod deep;");
    write("b.rs", "use crate::a::Thing;");
    write("c.rs", "use crate::b::Other;");
    for text in [
        "use crate::c::Far;",
        "use crate::{x, c::{Far, y}};",
        "use crate::{Far, x};",
        "fn f() { crate::Far::new() }",
        "use super::super::b::Other;",
        "use crate::{\n    x,\n    b::Other,\n};",
    ] {
        assert!(found(text).is_some(), "{text}");
    }
    for text in [
        "use crate::a::Thing;",
        "use super::b;",
        "use other::c::Far;",
        "// use crate::c::Far;",
        "#[cfg(test)]\nmod tests {\n    use crate::c::Far;\n}",
    ] {
        assert_eq!(found(text), None, "{text}");
    }
}

fn arrows(source: &Path) -> Arrows {
    let files = rust_files(source);
    let root = ["lib.rs", "main.rs"]
        .iter()
        .map(|name| source.join(name))
        .find(|path| path.exists())
        .unwrap();
    let rooms: BTreeSet<String> = files
        .iter()
        .filter_map(|file| place(source, file)?.first().cloned())
        .collect();
    let exported = exported(&code(&root));
    let mut arrows = Arrows::new();
    for file in &files {
        let Some(place) = place(source, file) else { continue };
        let from = arrows.entry(place[0].clone()).or_default();
        let text = code(file);
        // From the root of the crate, spelled out or as seen from this module.
        let up = "super::".repeat(place.len());
        let paths = ["crate::", up.as_str()].into_iter();
        for name in paths.flat_map(|start| first_names(&text, start)) {
            let to = if rooms.contains(&name) {
                Some(&name)
            } else {
                exported.get(&name)
            };
            if let Some(to) = to.filter(|to| **to != place[0]) {
                from.entry(to.clone()).or_insert_with(|| file.clone());
            }
        }
    }
    arrows
}

/// The path of a file's module, without the crate. None: the root, or tests.
fn place(source: &Path, file: &Path) -> Option<Vec<String>> {
    let below = file.strip_prefix(source).unwrap().with_extension("");
    let mut place: Vec<String> = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if place
        .iter()
        .any(|part| part == "tests" || part.ends_with("_tests") || part == "oracle")
        || place[0] == "bin"
    {
        return None;
    }
    if place.last().is_some_and(|last| last == "mod") {
        place.pop();
    }
    (!matches!(place[0].as_str(), "lib" | "main")).then_some(place)
}

/// A file without its comments and without the tests at its end.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let tests = text.match_indices("#[cfg(test)]").find(|(at, attribute)| {
        let behind = text[at + attribute.len()..].trim_start();
        behind.starts_with("mod ")
            && behind
                .split_once(['{', ';'])
                .is_some_and(|(name, _)| behind[name.len()..].starts_with('{'))
    });
    let text = tests.map_or(text.as_str(), |(at, _)| &text[..at]);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow `start`: of `start::{a::b, c}` they are `a` and `c`.
fn first_names(text: &str, start: &str) -> Vec<String> {
    let word = |text: &str| {
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        text[..end].to_owned()
    };
    let mut names = Vec::new();
    for (at, _) in text.match_indices(start) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let behind = &text[at + start.len()..];
        match behind.strip_prefix('{') {
            None => names.push(word(behind)),
            Some(list) => names.extend(list_items(list).iter().map(|item| word(item.trim()))),
        }
    }
    names
}

/// The items of a list of imports, up to the brace that closes it.
fn list_items(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[from..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// The names that the root of a crate re-exports, with the room of each.
fn exported(root: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for statement in root.split(';') {
        let Some((_, path)) = statement.split_once("use ") else {
            continue;
        };
        let Some((room, names)) = path.split_once("::") else {
            continue;
        };
        for name in names.split(['{', '}', ',']) {
            let name = name.rsplit([':', ' ']).next().unwrap_or_default().trim();
            if !name.is_empty() {
                exported.insert(name.to_owned(), room.trim().to_owned());
            }
        }
    }
    exported
}

/// One circle, with the files that close it.
fn circle(arrows: &Arrows) -> Option<String> {
    let mut finished = BTreeSet::new();
    for room in arrows.keys() {
        if let Some(found) = walk(arrows, room, &mut Vec::new(), &mut finished) {
            return Some(found);
        }
    }
    None
}

fn walk(arrows: &Arrows, room: &str, way: &mut Vec<String>, finished: &mut BTreeSet<String>) -> Option<String> {
    if let Some(from) = way.iter().position(|passed| passed == room) {
        way.push(room.to_owned());
        let steps = way[from..].windows(2).map(|step| {
            let file = &arrows[&step[0]][&step[1]];
            format!("{} -> {} ({})", step[0], step[1], file.display())
        });
        return Some(steps.collect::<Vec<_>>().join(", "));
    }
    if finished.contains(room) {
        return None;
    }
    way.push(room.to_owned());
    for to in arrows.get(room).into_iter().flat_map(BTreeMap::keys) {
        if let Some(found) = walk(arrows, to, way, finished) {
            return Some(found);
        }
    }
    way.pop();
    finished.insert(room.to_owned());
    None
}
