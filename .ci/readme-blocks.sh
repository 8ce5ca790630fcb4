#!/usr/bin/env bash
# Every ```rust block of README.md and of the pages under docs/, pasted as it stands into a crate of its own with the README's own [dependencies], is
# compiled and run. Blocks marked `rust,no_run` are compiled alone; `rust,ignore` and `rust,compile_fail` are left out.
#
# .ci/readme-blocks.sh [FOLDER]    builds in FOLDER, which is kept: target/readme where none is named.
#
# The crates share one folder of builds, and it is none of the workspace's: cargo resolves the features of candle's dependencies for the crate that it builds, and for
# one outside the workspace there are fewer, so that candle is another build there. The first time it is compiled once more, without optimisation
# (about three minutes on two cores); from then on a block takes seconds. Versions are those of Cargo.lock, so that nothing is fetched that the workspace has not.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
builds=${1:-$root/target/readme}
mkdir -p "$builds"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# The README's block of dependencies, with this checkout where it names one beside.
dependencies=$(awk '/^```toml$/ { inside = 1; text = ""; next }
    /^```$/ && inside { if (text ~ /^\[dependencies\]/) printf "%s", text; inside = 0 }
    inside { text = text $0 "\n" }' "$root/README.md")
[ -n "$dependencies" ] || fail "README.md has no \`\`\`toml block that begins with [dependencies]"
grep -q 'path = "' <<<"$dependencies" || fail "README.md's dependencies name no path"
dependencies=$(sed "s|path = \"[^\"]*/crates/|path = \"$root/crates/|" <<<"$dependencies")

# A file a block, its name made of the page's and of the line that it begins after; a block in a list is indented, and pasted without that.
pages=("$root/README.md")
if [ -d "$root/docs" ]; then
    while IFS= read -r page; do pages+=("$page"); done < <(find "$root/docs" -name '*.md' | sort)
fi
for page in "${pages[@]}"; do
    name=${page#"$root/"}
    awk -v out="$scratch/$(tr '/.' '__' <<<"$name")" '
        !inside && match($0, /^ *```/) {
            fence = substr($0, RSTART + RLENGTH)
            indent = RLENGTH - 3
            inside = 1
            file = ""
            if (fence ~ /^rust(,|$)/ && fence !~ /ignore|compile_fail/) {
                file = out "_" NR ".rs"
                printf "// %s\n", fence > file
            }
            next
        }
        inside && /^ *``` *$/ { inside = 0; if (file != "") close(file); next }
        inside && file != "" { print substr($0, indent + 1) > file }' "$page"
done

count=0
for block in "$scratch"/*.rs; do
    [ -e "$block" ] || fail "no page has a \`\`\`rust block"
    name=$(basename "$block" .rs)
    grep -q '^ *\(pub \)\?fn main()' "$block" || fail "$name is no program: give it a \`fn main\`, or mark it \`rust,ignore\`"
    crate="$scratch/$name"
    mkdir -p "$crate/src"
    # The mark is the first line of the file that this script wrote, and no part of what is pasted.
    tail -n +2 "$block" > "$crate/src/main.rs"
    cp "$root/Cargo.lock" "$crate/Cargo.lock"
    cat > "$crate/Cargo.toml" <<TOML
[package]
name = "pasted"
version = "0.0.0"
edition = "2024"

$dependencies
[profile.dev]
debug = false

[workspace]
TOML
    verb=run
    if head -1 "$block" | grep -q no_run; then verb=build; fi
    printf '%s: cargo %s\n' "$name" "$verb"
    # Without the network where everything has been fetched, as after a build of the workspace.
    (cd "$crate" && CARGO_TARGET_DIR="$builds" cargo "$verb" --quiet --offline) ||
        (cd "$crate" && CARGO_TARGET_DIR="$builds" cargo "$verb" --quiet) || fail "$name does not $verb as pasted"
    count=$((count + 1))
done
printf '%s block(s) compile as pasted\n' "$count"
