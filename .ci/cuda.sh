#!/usr/bin/env bash
# What is for CUDA devices, on a machine without one.
#
#   .ci/cuda.sh check   lints np, the libraries and the programs of `.ci/gpu.sh` with the feature `cuda`; wants nothing of CUDA
#   .ci/cuda.sh link    builds and links them too, and starts np and these programs where there is no GPU; wants `cc` and `nm`, nothing of CUDA
#   .ci/cuda.sh full    the same, with CUDA's own compiler for candle's kernels: `nvcc`, or what ../shared/gpu/cuda-toolchain.sh brings (from PyPI); skipped where
#                       there is neither
#
# `.ci/run` does `check`, or what NP_CI_CUDA says. Candle's own kernels are what a build takes longest for, twenty minutes of two cores, and none of them is needed to
# check types or to link: in `check` and `link` a stand-in for `nvcc` leaves empty files in their place. What was linked so does not train; it shows that every symbol of
# CUDA's libraries has a library, and what a program says on a machine without a GPU. Our kernels are compiled by NVRTC at run time; tests do that without a device.
#
# After `cargo xtask ci` has built what is below candle, `check` takes a minute of one core, and `link` some ten. NP_CARGO has options for cargo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
mode=${1:-check}
case $mode in check | link | full) ;; *) printf 'usage: cuda.sh [check | link | full]\n' >&2; exit 2 ;; esac

# The same place every time: build scripts run anew where CUDA is another.
work=${CARGO_TARGET_DIR:-$PWD/target}/cuda-stand-ins
rm -rf "$work"
mkdir -p "$work"

if [ "$mode" = full ]; then
    toolchain=../shared/gpu/cuda-toolchain.sh
    if ! command -v nvcc >/dev/null; then
        if [ ! -x "$toolchain" ] || ! brought=$("$toolchain" "${NP_CUDA_TOOLCHAIN:-$PWD/target/cuda-toolchain}"); then
            printf 'skipped: no `nvcc`, and none can be brought\n'
            exit 0
        fi
        eval "$brought"
    fi
else
    mkdir -p "$work/bin" "$work/include"
    # As much of a compiler as build scripts ask for: its version, architectures, and files where outputs are to be.
    cat >"$work/bin/nvcc" <<'NVCC'
#!/usr/bin/env bash
case " $* " in
*' --version '*) printf 'nvcc: NVIDIA (R) Cuda compiler driver\n(a stand-in)\n(it compiles nothing)\nCuda compilation tools, release 13.0, V13.0.0\n' ;;
*' --list-gpu-code '*) printf 'sm_90\n' ;;
*)
    folder=. out='' last=''
    while [ $# -gt 0 ]; do
        case $1 in
        -o) out=$2; shift ;;
        --output-directory) folder=$2; shift ;;
        *) last=$1 ;;
        esac
        shift
    done
    if [ -z "$out" ]; then name=${last##*/}; out=$folder/${name%.*}.ptx; fi
    case $out in
    *.a) printf '!<arch>\n' >"$out" ;;
    *) : >"$out" ;;
    esac
    ;;
esac
NVCC
    chmod +x "$work/bin/nvcc"
    # An architecture that no device has: a build with a real compiler in the same target then makes candle's kernels anew.
    export PATH=$work/bin:$PATH NVCC=$work/bin/nvcc CUDA_HOME=$work CUDA_PATH=$work CUDA_ROOT=$work CUDA_TOOLKIT_ROOT_DIR=$work CUDA_COMPUTE_CAP=999
fi

features=np-core/conform,np-core/cuda,np-models/cuda,np-runner/cuda
if [ "$mode" = check ]; then
    # shellcheck disable=SC2086 # several options
    cargo ${NP_CARGO:-} clippy --workspace --lib --bins --examples --features "$features" --locked -- -D warnings
    exit
fi

# Libraries to link against: names alone. Each symbol is looked up where a program starts.
mkdir -p "$work/lib64" "$work/link" "$work/folder"
libraries="cuda:1 cudart:13 cublas:13 cublasLt:13 curand:10 nvrtc:13 cudnn:9"
stand_in() { cc -shared -nostdlib -Wl,-soname,"lib${1%:*}.so.${1#*:}" -o "$2" "${@:3}"; }
for library in $libraries; do stand_in "$library" "$work/lib64/lib${library%:*}.so" -x c /dev/null; done

# Options for the linker that are no options of cargo's: those would build every crate anew. What does not use CUDA is linked as always.
cat >"$work/link/cc" <<CC
#!/usr/bin/env bash
case "\$*" in
*libcudarc-*)
    exec $(command -v cc) "\$@" -L"$work/lib64" -Wl,--unresolved-symbols=ignore-all -Wl,--no-as-needed -lcuda -lcudart -lcublas -lcublasLt -lcurand -lnvrtc -lcudnn ;;
*) exec $(command -v cc) "\$@" ;;
esac
CC
chmod +x "$work/link/cc"
# With what a bundle's program wants besides, and the features of the whole workspace, so that what the tests have built below candle is not built again.
# shellcheck disable=SC2086 # several options
PATH=$work/link:$PATH LIBRARY_PATH=$work/lib64${LIBRARY_PATH:+:$LIBRARY_PATH} cargo ${NP_CARGO:-} build --workspace --bin np --example gpu --example gpu_models \
    --features "$features,np-runner/hub" --locked
target=${CARGO_TARGET_DIR:-$PWD/target}/debug
cp "$target/np" "$target/examples/gpu" "$target/examples/gpu_models" "$work/folder/"

# A machine with a driver and no GPU: every function that a program names is there, and says that there is no device (100). Those of the system's libraries have versions.
nm -D --undefined-only "$work"/folder/{np,gpu,gpu_models} | sed -n 's/^ *U \([A-Za-z0-9_]*\)$/\1/p' | sort -u >"$work/symbols"
[ "$(grep -c '^cudnn' "$work/symbols")" -gt 10 ] || fail "np names no functions of cuDNN"
{
    printf 'int cuGetErrorName(int e, const char **text) { (void)e; *text = "CUDA_ERROR_NO_DEVICE"; return 0; }\n'
    printf 'int cuGetErrorString(int e, const char **text) { (void)e; *text = "no CUDA-capable device is detected"; return 0; }\n'
    printf 'const char *cudnnGetErrorString(int e) { (void)e; return "CUDNN_STATUS_NOT_INITIALIZED"; }\n'
    printf 'const char *nvrtcGetErrorString(int e) { (void)e; return "NVRTC_ERROR_INTERNAL_ERROR"; }\n'
    grep -v -x -E 'cuGetErrorName|cuGetErrorString|cudnnGetErrorString|nvrtcGetErrorString' "$work/symbols" | sed 's/.*/int &(void) { return 100; }/'
} >"$work/none.c"
mkdir "$work/machine"
for library in $libraries; do stand_in "$library" "$work/machine/lib${library%:*}.so.${library#*:}" -x c /dev/null; done
stand_in cuda:1 "$work/machine/libcuda.so.1" -w "$work/none.c"
export LD_LIBRARY_PATH=$work/machine

cd "$work/folder"
./np --help | grep -q '^Usage: np' || fail "np does not start"
cat >gpu.yaml <<'YAML'
name: gpu
question: What does np say where there is no GPU?
data: {name: mnist}
train: {epochs: 1, device: cuda}
model: {mlp: {hidden: [16]}}
optimizer: {sgd: {lr: 0.1}}
seeds: [1]
arms: {sgd: {}}
YAML
./np plan gpu.yaml --store store >/dev/null || fail "np plans no run for a GPU where there is none"
if said=$(./np run gpu.yaml --store store 2>&1); then fail "np trained without a GPU: $said"; fi
printf '%s\n' "$said"
grep -q 'no GPU is in reach' <<<"$said" || fail "np does not say that there is no GPU"
grep -q 'hint: ' <<<"$said" || fail "np says nothing of what to do"
for program in gpu gpu_models; do
    if said=$(./$program steps 2>&1); then fail "$program ran without a GPU"; fi
    grep -qi 'device' <<<"$said" || fail "$program says: $said"
done
printf 'np and the programs for a GPU are linked, and start where there is none\n'
