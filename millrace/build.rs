//! Link options of the command, and what `millrace --version` says of its build: commit, profile and target.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Relative relocations take 50 KB instead of 3.4 MB, all of which the loader reads, and keeps, at every start.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // See kafka-client/src/librdkafka/leader_discovery.rs: a fault of librdkafka that ends the process.
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=rd_kafka_metadata_update_op");
    // Of the C++ library that RocksDB needs only what is used, instead of a shared library with all of its tables.
    if let Some(folder) = folder_of_static_cxx() {
        println!("cargo:rustc-link-search=native={folder}");
    }
    name_the_build();
}

/// A folder with nothing but `libstdc++.a`: searched before the folders of the system, it is what `-lstdc++` means. None
/// where the compiler comes without the archive: the shared library does as well.
fn folder_of_static_cxx() -> Option<String> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let found = Command::new(compiler)
        .arg("-print-file-name=libstdc++.a")
        .output()
        .ok()?;
    let archive = String::from_utf8(found.stdout).ok()?;
    let archive = Path::new(archive.trim());
    if !archive.is_absolute() {
        return None;
    }
    let folder = Path::new(&std::env::var_os("OUT_DIR")?).join("static-cxx");
    std::fs::create_dir_all(&folder).ok()?;
    std::fs::copy(archive, folder.join("libstdc++.a")).ok()?;
    Some(folder.display().to_string())
}

/// The commit, the profile and the target, for the version.
fn name_the_build() {
    println!("cargo:rerun-if-env-changed=MILLRACE_COMMIT");
    // An image is built from sources without their history.
    let commit = std::env::var("MILLRACE_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let commit = commit
        .or_else(of_checkout)
        .unwrap_or_else(|| "unknown commit".to_owned());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    println!(
        "cargo:rustc-env=MILLRACE_BUILD={commit}, {}, {}",
        profile().unwrap_or_else(|| variable("PROFILE")),
        variable("TARGET")
    );
}

/// The profile's name, which cargo tells only by where things are built: `PROFILE/build/PACKAGE/out`.
fn profile() -> Option<String> {
    let out = std::env::var_os("OUT_DIR")?;
    Some(Path::new(&out).ancestors().nth(3)?.file_name()?.to_str()?.to_owned())
}

/// The commit of the checkout that this is in.
fn of_checkout() -> Option<String> {
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        println!("cargo:rerun-if-changed={path}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
