//! The pages for people against the code: names that a user sees, routes, exit codes, metrics, links, and what was wrong once.
//!
//! The names are read from the sources, so that one that comes or goes is missed here. Options and classes are compared by
//! `millrace/tests/option_pages.rs`, documents by `feature-engine/tests/documents_page.rs`, metrics by `metrics.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use regex::Regex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::process::workspace;

const RUNBOOK: &str = "docs/RUNBOOK.md";

fn file(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern
        .captures_iter(text)
        .map(|captures| captures[1].to_owned())
        .collect()
}

/// What stands below a heading, up to the next one of its level or above.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let begin = page
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no {heading}"));
    let below = &page[begin + heading.len() + 2..];
    let level = heading.split(' ').next().unwrap().len();
    let next = Regex::new(&format!("(?m)^#{{1,{level}}} ")).unwrap();
    next.find(below).map_or(below, |next| &below[..next.start()])
}

/// The first cells of the tables of a section, if they are code.
fn listed(page: &str, heading: &str) -> BTreeSet<String> {
    found(r"(?m)^\| `([^`]+)` \|", section(page, heading))
}

/// Variants of an enum, as they stand in its source.
fn variants(path: &str, name: &str) -> BTreeSet<String> {
    let source = file(path);
    let body = source
        .split_once(&format!("pub enum {name} {{\n"))
        .unwrap_or_else(|| panic!("{path} has no enum {name}"));
    let body = body.1.split_once("\n}\n").unwrap().0;
    let variants = found(r"(?m)^    ([A-Z][A-Za-z]*)\b", body);
    assert!(variants.len() > 2, "{path}: {variants:?}");
    variants
}

fn snake_case(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[test]
fn the_runbook_has_every_state_and_reason() {
    let page = file(RUNBOOK);
    let upper = |names: BTreeSet<String>| names.iter().map(|name| snake_case(name).to_uppercase()).collect();
    let lower = |names: BTreeSet<String>| names.iter().map(|name| snake_case(name)).collect();
    let shed = found(
        r#"ShedReason::\w+ => "(\w+)""#,
        &file("inference-sink/src/metrics/mod.rs"),
    );
    assert_eq!(
        shed.len(),
        variants("inference-sink/src/metrics/mod.rs", "ShedReason").len()
    );
    let expected: [(&str, BTreeSet<String>); 7] = [
        (
            "### Connectors and tasks",
            upper(variants("connect-runtime/src/records/status_table.rs", "State")),
        ),
        (
            "### Models",
            upper(variants("inference-sink/src/models/runtime.rs", "LifeCycle")),
        ),
        (
            "### Why a model is detached",
            lower(variants("inference-sink/src/detach/mode.rs", "Reason")),
        ),
        ("### Why events are dropped", shed),
        (
            "### Why a record is no row",
            lower(variants("state-store/src/global/format/mod.rs", "RejectReason")),
        ),
        (
            "### Why a version does not serve",
            lower(variants("state-store/src/global/gate.rs", "Refusal")),
        ),
        (
            "### Why a copy is made anew",
            lower(variants("state-store/src/keyed/restore.rs", "RebuildReason")),
        ),
    ];
    for (heading, names) in expected {
        assert_eq!(listed(&page, heading), names, "{heading}");
    }
    let health = found(r#"body\(\s*"(\w+)""#, &file("connect-runtime/src/rest/mod.rs"));
    let told = found(r"(?m)^\| \d+ `(\w+)` \|", section(&page, "### Worker"));
    assert_eq!(told, health);
}

/// Method and path of the rows of a table of routes.
fn routes(page: &str, heading: &str) -> BTreeSet<String> {
    let row = Regex::new(r"(?m)^\| ([A-Z]+) \| `([^`]+)` \|").unwrap();
    let section = section(page, heading);
    row.captures_iter(section)
        .map(|row| format!("{} {}", &row[1], &row[2]))
        .collect()
}

#[test]
fn the_runbook_has_every_route() {
    let page = file(RUNBOOK);
    let source = file("connect-runtime/src/rest/route.rs");
    let arm = Regex::new(r#"\("([A-Z]+)", \[([^\]]*)\]\) => Route::"#).unwrap();
    let of_connect: BTreeSet<String> = arm
        .captures_iter(&source)
        .map(|arm| {
            let is_logger = arm[2].contains("\"loggers\"");
            let segments = arm[2].split(", ").filter(|segment| !segment.is_empty());
            let path: Vec<String> = segments
                .map(|segment| match segment.strip_prefix('"') {
                    Some(text) => text.trim_end_matches('"').to_owned(),
                    None if is_logger => "{logger}".to_owned(),
                    None => format!("{{{segment}}}"),
                })
                .collect();
            format!("{} /{}", &arm[1], path.join("/"))
        })
        .collect();
    assert!(
        of_connect.len() > 25,
        "the pattern is no longer that of the code: {of_connect:?}"
    );
    assert_eq!(routes(&page, "### Of Kafka Connect"), of_connect);

    // Those of the inference sink are matched in nested slices: every word of them stands in the section.
    let text = section(&page, "### Of the inference sink");
    let words = found(r"([a-z-]+)", text);
    let matched = Regex::new(r#"(?m)^ *(?:\[|\(?"[A-Z]+", \[|\("[A-Z]+"|if let \[).*$"#).unwrap();
    for path in ["inference-sink/src/rest/mod.rs", "inference-sink/src/rest/stores.rs"] {
        let source = file(path);
        let mut seen = 0;
        for line in matched.find_iter(&source) {
            for word in found(r#""([a-z-]+)""#, line.as_str()) {
                seen += 1;
                assert!(words.contains(&word), "{path}: {word} is in no route of {RUNBOOK}");
            }
        }
        assert!(seen >= 4, "{path}: the pattern is no longer that of the code");
    }
    let told = routes(&page, "### Of the inference sink");
    for action in ["pause", "resume", "evaluate"] {
        assert!(told.contains(&format!("POST /inference/models/{{tenant}}/{{name}}/{action}")));
    }
}

#[test]
fn the_runbook_has_every_exit_code() {
    let page = file(RUNBOOK);
    let mut codes = found(
        r"(?m)^const (?:RUN|START)_FAILED: u8 = (\d+);",
        &file("millrace/src/main.rs"),
    );
    assert_eq!(codes.len(), 2);
    codes.insert("0".to_owned());
    let told = found(r"(?m)^\| (\d+) \|", section(&page, "## Exit codes, logs, signals"));
    assert_eq!(told, codes);
}

/// What a page says of metrics is a metric.
#[test]
fn metrics_of_the_pages_are_there() {
    let sources =
        ["prometheus", "stores", "features"].map(|name| file(&format!("inference-sink/src/metrics/{name}.rs")));
    let sources = sources.concat();
    let mut seen = 0;
    for page in pages() {
        for name in found(
            r"millrace_inference_([a-z_]+)",
            &std::fs::read_to_string(&page).unwrap(),
        ) {
            seen += 1;
            assert!(
                sources.contains(&format!("\"{name}\"")),
                "{}: millrace_inference_{name}",
                page.display()
            );
        }
    }
    assert!(seen > 8, "{seen}");
}

/// Every page for people.
fn pages() -> Vec<PathBuf> {
    let root = workspace();
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let mut folders = vec![root.join("docs"), root.join("configs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .collect::<String>();
    kept.trim().replace(' ', "-")
}

fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = std::fs::read_to_string(page).unwrap();
    let headings = found(r"(?m)^#+ (.+)$", &text);
    headings.iter().any(|heading| anchor(heading) == wanted)
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in link.captures_iter(&text) {
            let target = &target[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
            let linked = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let is_there = linked.exists() && (wanted.is_empty() || has_anchor(&linked, wanted));
            if !is_there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = file("README.md");
    for page in pages() {
        let page = page.strip_prefix(workspace()).unwrap().display().to_string();
        let is_listed = ["docs/decisions/", "docs/options/", "configs/demo/"]
            .iter()
            .any(|folder| page.starts_with(folder));
        assert!(
            page == "README.md" || is_listed || readme.contains(&format!("({page}")),
            "README.md does not link {page}"
        );
    }
    for folder in ["docs/decisions/", "docs/options/", "configs/demo/models/"] {
        assert!(
            readme.contains(&format!("({folder}")),
            "README.md does not link {folder}"
        );
    }
}

#[test]
fn the_index_of_decisions_has_each_with_its_number_and_title() {
    let folder = workspace().join("docs/decisions");
    let index = file("docs/decisions/README.md");
    let date = Regex::new(r" \(\d{4}-\d\d-\d\d\)$").unwrap();
    let mut listed = found(r"(?m)^- (\[.+\]\(.+\))$", &index);
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Ok(number) = name.split('-').next().unwrap().parse::<u32>() else {
            continue;
        };
        let page = file(&format!("docs/decisions/{name}"));
        let title = date.replace(page.lines().next().unwrap().trim_start_matches("# "), "");
        assert!(
            title.starts_with(&format!("{number}. ")),
            "{name} begins with {title:?}"
        );
        assert!(
            listed.remove(&format!("[{title}]({name})")),
            "{title} is not in the index"
        );
    }
    assert!(listed.is_empty(), "{listed:?} are not there");
}

/// Statements that were wrong once, each against what it is about.
#[test]
fn figures_of_the_pages_are_those_of_the_files() {
    let data = file("configs/demo/data/README.md");
    let lines = |name: &str| {
        let packed = std::fs::File::open(workspace().join("configs/demo/data").join(name)).unwrap();
        std::io::read_to_string(flate2::read::GzDecoder::new(packed)).unwrap()
    };
    let grouped = |number: usize| {
        let digits = number.to_string();
        let head = digits.len() % 3;
        let mut groups: Vec<&str> = (head..digits.len()).step_by(3).map(|at| &digits[at..at + 3]).collect();
        if head > 0 {
            groups.insert(0, &digits[..head]);
        }
        groups.join(",")
    };
    let transactions = lines("transactions.csv.gz");
    let rows: Vec<&str> = transactions.lines().skip(1).collect();
    let households: BTreeSet<&str> = rows.iter().map(|row| row.split(',').next().unwrap()).collect();
    assert!(
        data.contains(&format!("every purchase of {} households", households.len())),
        "{}",
        households.len()
    );
    assert!(data.contains(&format!("| {} |", grouped(rows.len()))));
    assert!(data.contains(&format!(
        "| {} |",
        grouped(lines("products.csv.gz").lines().count() - 1)
    )));
    // The data's authors call it simulated.
    for path in [
        "README.md",
        "Makefile",
        "millrace/src/main.rs",
        "millrace/src/demo/mod.rs",
    ] {
        let text = file(path).replace('\n', " ");
        assert!(
            text.contains("simulated") && !text.contains("real retail") && !text.contains("real grocery"),
            "{path}"
        );
    }
}

/// What the pages ask of Java workers is what the worker's refusal asks.
#[test]
fn java_workers_are_asked_for_the_eager_protocol_everywhere() {
    for path in [
        "README.md",
        "docs/COMPATIBILITY.md",
        "docs/decisions/0020-group-membership.md",
        "docs/options/worker.md",
        "connect-runtime/src/config/worker.rs",
    ] {
        let text = file(path).replace('\n', " ");
        assert!(
            text.contains("eager") && text.contains("restarted") || text.contains("restart each"),
            "{path}"
        );
    }
}

/// Every option of the worker that some value of is refused is in the page that says what differs from a Java worker.
#[test]
fn what_a_worker_refuses_is_in_the_page_of_compatibility() {
    let refused = found(
        r#"refuse\(\s*"([a-z.]+)""#,
        &file("connect-runtime/src/config/worker.rs"),
    );
    assert!(
        refused.len() >= 9,
        "the pattern is no longer that of the code: {refused:?}"
    );
    let page = file("docs/COMPATIBILITY.md");
    let told = section(&page, "## What differs from a Java worker");
    for option in refused {
        assert!(told.contains(&format!("`{option}`")), "{option}");
    }
}

/// A check that could not be made is told from one that was passed.
#[test]
fn advisories_that_cannot_be_checked_are_no_success() {
    let empty = tempfile::tempdir().unwrap();
    // The commands of a script, and nothing that is called cargo-deny.
    for command in ["bash", "dirname"] {
        let place = Command::new("sh")
            .args(["-c", &format!("command -v {command}")])
            .output()
            .unwrap();
        let place = String::from_utf8(place.stdout).unwrap();
        std::os::unix::fs::symlink(place.trim(), empty.path().join(command)).unwrap();
    }
    let checked = Command::new("/usr/bin/env")
        .arg("bash")
        .arg(workspace().join("scripts/check-advisories.sh"))
        .env("PATH", empty.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("NOT CHECKED"), "{said}");
    assert_eq!(checked.status.code(), Some(75));
}
