//! Link options of the command.

fn main() {
    // Relative relocations take 50 KB instead of 3.4 MB, all of which the loader reads, and keeps, at every start.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
