#!/usr/bin/env bash
# What a machine with a CUDA device has to say: conformance of all golden files there, times of steps beside PyTorch's, whether a step waits; gradients of layers and models
# against the CPU's, and images per second beside PyTorch's.
#
#   .ci/gpu.sh pack FOLDER [GOLDEN]    here, without a device: builds the program, and puts it, this script and golden files into FOLDER
#   FOLDER/gpu.sh [times]              there: CUDA 13, Python with PyTorch, `xz`; no network, no cargo. Some minutes; a table last, all output in FOLDER/out.
#                                      `times`: no conformance, no gradients. `cargo xtask bench --device cuda --from FOLDER/out --keep` keeps the times for figure 10
#
# To pack, CUDA's compiler and headers must be in reach: `eval "$(../shared/gpu/cuda-toolchain.sh DIR)"` brings them, and stand-ins for its libraries to link against.
# CARGO_TARGET_DIR and NP_CARGO (options for cargo, such as a patch of candle-kernels that leaves out what takes long) are passed on. GOLDEN is a folder with
# more golden files than the repository carries.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" = pack ]; then
    folder=$(mkdir -p "${2:?usage: .ci/gpu.sh pack FOLDER [GOLDEN]}/golden" && cd "$2" && pwd)
    cd "$here/.."
    # shellcheck disable=SC2086 # several options each
    cargo ${NP_CARGO:-} rustc -p neuroplastic-core --features conform,cuda --example gpu -- ${NP_CUDA_LINK:-}
    # shellcheck disable=SC2086
    cargo ${NP_CARGO:-} rustc -p neuroplastic-models --features cuda,np-core/conform,np-core/cuda --example gpu_models -- ${NP_CUDA_LINK:-} -C link-arg=-lcudnn
    target=${CARGO_TARGET_DIR:-target}
    for program in gpu gpu_models; do
        strip -o "$folder/$program" "$target/debug/examples/$program"
        xz -3 -f "$folder/$program"
    done
    cp .ci/gpu.sh .ci/gpu.py crates/np-models/examples/resnet_step.py "$folder/"
    cp crates/np-core/tests/golden/*.safetensors "$folder/golden/"
    [ -z "${3:-}" ] || cp -r "$3"/. "$folder/golden/"
    git rev-parse HEAD >"$folder/commit"
    du -sh "$folder"
    exit
fi

cd "$here"
case ${1:-} in '' | times) ;; *) printf 'usage: gpu.sh [times]\n' >&2; exit 2 ;; esac
[ -f gpu.xz ] || { printf 'no program here\nhint: `.ci/gpu.sh pack FOLDER` makes a folder with one\n' >&2; exit 2; }
mkdir -p out
xz -dkf gpu.xz gpu_models.xz && chmod +x gpu gpu_models
# The toolkit's libraries, and those of PyTorch's wheels.
wheels=$(python3 -c "import glob,site;print(':'.join(p for s in site.getsitepackages() for p in glob.glob(s+'/nvidia/*/lib')))" 2>/dev/null || true)
export LD_LIBRARY_PATH=/usr/local/cuda/lib64:/usr/local/cuda/targets/x86_64-linux/lib:/usr/local/nvidia/lib64:$wheels:${LD_LIBRARY_PATH:-}
limit() { timeout --kill-after=5 "$@"; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >out/device.txt 2>&1 || true
models() { limit 90 ./gpu_models "$1" >"out/$1.jsonl" 2>"out/$1.err" || echo "$1: ended with $?" >>"out/$1.err"; }
if [ "${1:-}" != times ]; then
    # Side by side, for they wait for the host most of the time; before anything is timed.
    models layers &
    models models &
    limit 150 ./gpu conform golden >out/conform.txt 2>&1 || echo "conform: ended with $?" >>out/conform.txt
    wait
fi
models speed
models profile
limit 60 python3 gpu.py torch-models >out/torch-models.json 2>out/torch-models.err || echo "torch-models: ended with $?" >>out/torch-models.err
limit 120 ./gpu steps >out/steps.jsonl 2>out/steps.err || echo "steps: ended with $?" >>out/steps.err
limit 60 python3 gpu.py torch >out/torch.json 2>out/torch.err || echo "torch: ended with $?" >>out/torch.err

printf '\n%s, commit %s\n' "$(cat out/device.txt)" "$(cat commit 2>/dev/null || echo unknown)"
if [ "${1:-}" != times ]; then
    grep FAILED out/conform.txt | head -n 20 || true
    tail -n 1 out/conform.txt
fi
tail -n 3 out/*.err 2>/dev/null | grep -v '^$' || true
python3 gpu.py table out/steps.jsonl out/torch.json
python3 gpu.py models out/layers.jsonl out/models.jsonl out/speed.jsonl out/torch-models.json
python3 gpu.py profile out/profile.jsonl
# So that whoever asks for the exit code alone hears it, too.
if [ "${1:-}" != times ]; then
    grep -q ', 0 failed' out/conform.txt || failed=conform
    for part in layers:24 models:15; do
        [ "$(grep -c '"ok":true' "out/${part%:*}.jsonl")" = "${part#*:}" ] || failed="${failed:-} ${part%:*}"
    done
    [ -z "${failed:-}" ] || { printf 'FAILED: %s\n' "$failed" >&2; exit 1; }
fi
