//! What `millrace --version` says of the build: commit, whether it had changes, profile and target.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=MILLRACE_COMMIT");
    // An image is built from sources without their history.
    let commit = std::env::var("MILLRACE_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let commit = commit
        .or_else(of_checkout)
        .unwrap_or_else(|| "unknown commit".to_owned());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    println!(
        "cargo::rustc-env=MILLRACE_BUILD={commit}, {}, {}",
        profile().unwrap_or_else(|| variable("PROFILE")),
        variable("TARGET")
    );
}

/// The profile's name, which cargo tells only by where things are built: `PROFILE/build/PACKAGE/out`.
fn profile() -> Option<String> {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR")?);
    Some(out.ancestors().nth(3)?.file_name()?.to_str()?.to_owned())
}

/// The commit of the checkout that this is in.
fn of_checkout() -> Option<String> {
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        println!("cargo::rerun-if-changed={path}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
