#!/usr/bin/env bash
# Trains what this folder holds, and leaves one archive of what came out. Made by `np bundle`.
#
#   run.sh [MINUTES] [--jobs N] [--threads N] [--jobs-per-gpu N] [--out FILE] [--limit MIB] [-- OPTIONS OF `np run`]
#
# It wants bash and gzip, no network, and for runs on a GPU the libraries of CUDA. It ends before MINUTES have passed: runs are stopped, and keep what they have done. The
# same command goes on from there; so does a later folder, once `np collect FILE` has brought the archive home. FILE, `results.archive` if none is said, is
# seen from this folder. Exit code 0: all is trained; 75: the time was over; 1: a run failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ ! -x np ] || [ np.gz -nt np ]; then
    command -v gzip >/dev/null || { printf 'error: there is no `gzip`\n  hint: unpack `np.gz` elsewhere, and put `np` here\n' >&2; exit 2; }
    gzip -dc np.gz >np.new && chmod +x np.new && mv np.new np || exit 1
fi

# Where CUDA's libraries usually are, those in Python's wheels last.
libraries=${LD_LIBRARY_PATH-}
wheels=$(python3 -c 'import site; print(*site.getsitepackages())' 2>/dev/null || true)
for folder in /usr/local/cuda/lib64 /usr/local/cuda/targets/*/lib /usr/local/nvidia/lib64 $(printf '%s/nvidia/*/lib ' $wheels); do
    if [ -d "$folder" ]; then libraries=${libraries:+$libraries:}$folder; fi
done
if [ -n "$libraries" ]; then export LD_LIBRARY_PATH=$libraries; fi

# A program for a GPU does not even start where a library of its is missing: the system says which.
if ! said=$(./np --version 2>&1); then
    printf 'error: `np` does not start here: %s\n' "$said" >&2
    printf '  hint: for runs on a GPU there must be its driver, CUDA 13 and cuDNN; name the folders of their libraries in `LD_LIBRARY_PATH`\n' >&2
    exit 2
fi

minutes=()
case ${1-} in
    [0-9]*) minutes=(--minutes "$1"); shift ;;
esac
exec ./np bundled ${minutes[@]+"${minutes[@]}"} "$@"
