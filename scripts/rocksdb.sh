#!/usr/bin/env bash
# rocksdb.sh: builds librocksdb.a from the sources of the crate librocksdb-sys, where that was not done before, and prints the
# folder that it is in (ROCKSDB_LIB_DIR for the crate). The crate compiles 340 files that each read the same headers again, which
# takes most of the time; here the files of a folder are one translation unit. Definitions and includes are those of its build.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
libraries=${MILLRACE_LIBRARIES_DIR:-$HOME/.cache/millrace/libraries}

cargo fetch --locked --quiet
manifest_of() { # manifest_of CRATE: the folder of its sources
    cargo metadata --format-version 1 --locked --offline |
        grep -oE "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"/]*/Cargo.toml\"" | head -n 1 | cut -d '"' -f 4 | xargs dirname
}
crate=$(manifest_of librocksdb-sys)
lz4=$(manifest_of lz4-sys)/liblz4/lib
# clang, which reads the headers for Rust anyway, takes a fifth less time than gcc
compiler=$(command -v "${CXX:-clang++}" || command -v c++)
key=$({ basename "$crate"; "$compiler" --version; cat "$0"; } | sha256sum | cut -c 1-16)
library=$libraries/rocksdb-$key
if [ -f "$library/librocksdb.a" ]; then
    echo "$library"
    exit
fi

echo "compiling RocksDB ($(basename "$crate")), once" >&2
mkdir -p "$libraries"
staging=$(mktemp -d "$libraries/.rocksdb.XXXXXX")
trap 'rm -rf "$staging"' EXIT
flags=(-std=c++20 -O2 -w -fPIC -ffunction-sections -fdata-sections -include cstdint -DNDEBUG -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
    -DLZ4=1 -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT
    -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT -I"$crate/rocksdb/include" -I"$crate/rocksdb" -I"$crate" -I"$lz4")

# No more than this many files in a unit, so that no unit is much longer than the others.
largest=12
while read -r file; do
    [ "$file" = util/build_version.cc ] && continue
    folder=$(dirname "$file")
    echo "#include \"$crate/rocksdb/$file\"" >>"$staging/${folder//\//_}.list"
done <"$crate/rocksdb_lib_sources.txt"
for list in "$staging"/*.list; do
    split --lines $largest --numeric-suffixes --additional-suffix .cc "$list" "${list%.list}_"
done
echo "#include \"$crate/build_version.cc\"" >"$staging/build_version.cc"
export compiler
# the longest first
ls -S "$staging"/*.cc | xargs -P "$(nproc)" -I {} "$compiler" "${flags[@]}" -c {} -o {}.o
ar crs "$staging/librocksdb.a" "$staging"/*.o
mkdir -p "$library"
mv "$staging/librocksdb.a" "$library/librocksdb.a"
echo "$library"
