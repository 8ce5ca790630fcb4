#!/usr/bin/env bash
# Runs COMMAND where the CPU's caches look smaller (32 KiB, 256 KiB, 2 MiB) than they may be: what libraries read of them under /sys.
#   .ci/other-caches.sh COMMAND [ARGUMENT…]
# Ends with 69 where that cannot be done: it needs Linux, root, and mount namespaces.
set -euo pipefail
cpus=/sys/devices/system/cpu
[ "$(id -u)" = 0 ] && [ -d $cpus ] && unshare --mount true 2>/dev/null || exit 69
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for file in online possible present kernel_max; do
    if [ -r "$cpus/$file" ]; then cat "$cpus/$file" >"$tree/$file"; fi
done
# level, type, size, ways
for cache in "0 1 Data 32K 8" "1 1 Instruction 32K 8" "2 2 Unified 256K 8" "3 3 Unified 2M 16"; do
    read -r index level type size ways <<<"$cache"
    for cpu in $(seq 0 $(($(nproc --all) - 1))); do
        dir=$tree/cpu$cpu/cache/index$index
        mkdir -p "$dir"
        printf '%s\n' "$level" >"$dir/level"
        printf '%s\n' "$type" >"$dir/type"
        printf '%s\n' "$size" >"$dir/size"
        printf '%s\n' "$ways" >"$dir/ways_of_associativity"
        printf '64\n' >"$dir/coherency_line_size"
        printf '%s\n' "$cpu" >"$dir/shared_cpu_list"
    done
done
unshare --mount bash -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' _ "$tree" $cpus "$@"
