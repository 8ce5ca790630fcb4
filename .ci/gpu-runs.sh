#!/usr/bin/env bash
# Runs on a GPU, by an `np` that was built with the feature `cuda`: the same run twice has the same results, and so has one that was killed and went on, in every precision.
# And `np show` names the GPU. Embedded data and small models: some minutes.
#
# .ci/gpu-runs.sh NP
set -euo pipefail
np=$(realpath "${1:?the program np, built with the feature cuda}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

cat >gpu.yaml <<'YAML'
name: gpu
question: Does a run on a GPU give the same bits twice, and once it was killed?
data: {name: fashion-mnist, layout: rgb32, augment: crop_flip, validation: 0.1}
train: {batch_size: 48, device: cuda}
seeds: [41]
arms:
  mlp: {model: {mlp: {hidden: [256, 256]}}, train: {epochs: 100}, optimizer: {neuroplastic: {lr: 0.1}}}
  resnet: {model: {resnet18: {width: 16}}, train: {epochs: 10}, optimizer: {adamw: {lr: 0.001}}}
sweep: {train.precision: [fp32, tf32, bf16]}
YAML

# Id and results of every record in a store.
results() {
    local record
    for record in "$1"/runs/*.json; do
        printf '%s %s\n' "$(basename "$record" .json)" "$(grep -o '"result_sha256": *"[0-9a-f]*"' "$record")"
    done
}

"$np" run gpu.yaml --store one
"$np" run gpu.yaml --store two
[ "$(results one | wc -l)" = 6 ] || fail "expected six records, got: $(results one)"
diff <(results one) <(results two) || fail "the same runs have other results the second time"

# Killed with its worker as soon as an epoch is kept that was not before, six times; then to the end.
for i in 1 2 3 4 5 6; do
    touch mark
    "$np" run gpu.yaml --store killed --snapshot-every 1epoch 2>/dev/null >/dev/null &
    launcher=$!
    while kill -0 "$launcher" 2>/dev/null && [ -z "$(find killed/snapshots -name '*.snapshot' -newer mark 2>/dev/null)" ]; do sleep 0.05; done
    workers=$(ps -o pid= --ppid "$launcher" || true)
    # shellcheck disable=SC2086
    kill -9 $workers "$launcher" 2>/dev/null || true
    wait "$launcher" 2>/dev/null || true
    printf 'killed the %sth time, with %s records\n' "$i" "$(find killed/runs -name '*.json' 2>/dev/null | wc -l)"
done
"$np" run gpu.yaml --store killed
diff <(results one) <(results killed) || fail "runs that were killed and went on have other results"

"$np" show "$(basename "$(find one/runs -name '*.json' | head -n 1)" .json)" --store one | grep '^gpu ' || fail "the record names no GPU"
printf 'six runs: the same results twice, and once they were killed\n'
