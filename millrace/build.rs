//! Link options of the command.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Relative relocations take 50 KB instead of 3.4 MB, all of which the loader reads, and keeps, at every start.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Of the C++ library that RocksDB needs only what is used, instead of a shared library with all of its tables.
    if let Some(folder) = folder_of_static_cxx() {
        println!("cargo:rustc-link-search=native={folder}");
    }
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
