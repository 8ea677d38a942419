#!/usr/bin/env bash
# cargo.sh ...: cargo, with the libraries in C and C++ that need not be compiled with the crates: RocksDB in its quick way
# (rocksdb.sh), and OpenSSL, jemalloc and zstd of this system where they are new enough. That is most of the first build.
# MILLRACE_SYSTEM_LIBRARIES=no: those of the crates, linked in, as for what is shipped.
set -euo pipefail
of_system=${MILLRACE_SYSTEM_LIBRARIES:-yes}
is_there() { [ "$of_system" = yes ] && pkg-config --exists "$1" 2>/dev/null; }

case ${1-} in
build | check | clippy | test | bench | run | doc | rustc)
    ROCKSDB_LIB_DIR=$("$(dirname "${BASH_SOURCE[0]}")/rocksdb.sh")
    export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
    is_there 'libssl >= 3' && export OPENSSL_NO_VENDOR=1
    is_there 'libzstd >= 1.5' && export ZSTD_SYS_USE_PKG_CONFIG=1
    is_there 'jemalloc >= 5.3' && jemalloc=$(pkg-config --variable=libdir jemalloc)/libjemalloc_pic.a && [ -f "$jemalloc" ] &&
        export JEMALLOC_OVERRIDE=$jemalloc
    ;;
esac
exec cargo "$@"
