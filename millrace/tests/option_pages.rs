//! The pages of `docs/options` say what the code declares.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn option_pages_match_the_declarations() {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let root = Path::new(&package).parent().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["options", "--check", "docs/options"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
