#!/usr/bin/env bash
# A Slurm cluster of one node on the loopback interface, for as long as a command runs: `.ci/slurm.sh COMMAND [ARGUMENT…]`.
#
# The command finds the cluster by SLURM_CONF, and NP_SLURM_TEST says that it may be used for tests. Configuration, state and logs are in a
# temporary folder, which goes at the end (it stays, and is named, if NP_SLURM_KEEP is set). What was started is ended, by its process id; nothing
# of a Slurm that the machine may have is touched. Needs root, and installs Debian's packages where they are missing.
set -euo pipefail

[ $# -gt 0 ] || { printf 'usage: %s COMMAND [ARGUMENT…]\n' "$0" >&2; exit 2; }
refuse() { printf 'no cluster: %s\n' "$*" >&2; exit 1; }
# Exit code 69 where there can be no cluster at all; 1 where there should be one.
absent() { printf 'no cluster: %s\n' "$*" >&2; exit 69; }
[ "$(id -u)" = 0 ] || absent "slurmd and munged are started as root, and this is $(id -un)"

# Where Debian keeps daemons, which not every root's path has.
PATH=$PATH:/usr/sbin:/sbin
# One name at a time: of several, `command -v` is content with any.
missing=
for program in munged slurmctld slurmd sbatch; do command -v $program >/dev/null || missing=yes; done
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || absent "munge and Slurm are not installed, and there is no apt-get to do it"
    # The packages' services are not to start: this script has its own.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends munge slurmctld slurmd slurm-client >/dev/null; } ||
        absent "munge and Slurm cannot be installed"
fi

# Daemons listen where the host's name leads. Where that is not the loopback, a namespace has a name that does.
case "$(getent ahostsv4 "$(hostname)" | awk '{ print $1; exit }')" in
127.*) ;;
*)
    [ -z "${NP_SLURM_RENAMED:-}" ] || refuse "localhost is not the loopback"
    # shellcheck disable=SC2016
    NP_SLURM_RENAMED=1 exec unshare --uts bash -c 'hostname localhost && exec "$@"' bash "$0" "$@"
    ;;
esac

lab=$(mktemp -d "${TMPDIR:-/tmp}/np-slurm.XXXXXX")
# munge wants a folder for its socket that everyone may enter, in folders that nobody else may write to.
chmod 711 "$lab"
mkdir -m 755 "$lab/munge" "$lab/log"
mkdir -m 700 "$lab/key" "$lab/state" "$lab/spool"
started=() up=
end() {
    # Tasks first: what watches over them outlives slurmd otherwise. Then the daemons, the last one first; each has a few seconds.
    if [ -n "${up:-}" ]; then
        timeout 5 scancel --full --signal=KILL --user=root 2>/dev/null || true
        timeout 5 scancel --user=root 2>/dev/null || true
        for _ in {1..50}; do [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break; sleep 0.1; done
    fi
    local i pid left
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[i]}" 2>/dev/null || true
        for _ in {1..50}; do
            kill -0 "${started[i]}" 2>/dev/null || break
            sleep 0.1
        done
    done
    # Whoever still has this cluster's configuration in its environment is one of its own.
    left=$(grep -lzsFx "SLURM_CONF=$lab/slurm.conf" /proc/[0-9]*/environ | tr -dc '0-9\n' | grep -vxF "$$" || true)
    for pid in $left "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    if [ -n "${NP_SLURM_KEEP:-}" ]; then printf 'the cluster was in %s\n' "$lab" >&2; else rm -rf "$lab"; fi
}
trap end EXIT
trap 'exit 130' INT TERM

# Two ports that nobody listens at.
port=6817
taken() { (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
while taken $port || taken $((port + 1)); do port=$((port + 10)); done

host=$(hostname)
cores=$(nproc)
[ "$cores" -ge 2 ] || cores=2
# MaxArraySize is small, so that a sweep of a few runs is cut into several arrays. KillWait: what a task has between SIGTERM and SIGKILL.
cat >"$lab/slurm.conf" <<CONF
ClusterName=np
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$lab/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool
SlurmctldPidFile=$lab/state/slurmctld.pid
SlurmdPidFile=$lab/spool/slurmd.pid
SlurmctldLogFile=$lab/log/slurmctld
SlurmdLogFile=$lab/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
KillWait=10
MaxArraySize=4
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$lab/slurm.conf" NP_SLURM_TEST=1
unset SLURM_JOB_ID SLURM_JOBID

dd if=/dev/urandom of="$lab/key/munge.key" bs=1024 count=1 status=none
chmod 400 "$lab/key/munge.key"
start() {
    local log="$lab/log/$1.out"
    "$@" >"$log" 2>&1 </dev/null &
    started+=($!)
}
# Without --force, munge refuses a folder below a temporary one, which everyone may write to.
start munged --foreground --force --key-file="$lab/key/munge.key" --socket="$lab/munge/socket" --pid-file="$lab/munge/pid" \
    --log-file="$lab/log/munged" --seed-file="$lab/key/seed" --num-threads=2
for _ in {1..100}; do [ -S "$lab/munge/socket" ] && break; sleep 0.1; done
start slurmctld -D -c
start slurmd -D -N "$host"
for _ in {1..300}; do
    case "$(sinfo --noheader --format=%T 2>/dev/null || true)" in idle | mixed | allocated) up=yes && break ;; esac
    sleep 0.1
done
if [ -z "$up" ]; then
    tail -n 20 "$lab"/log/* >&2
    refuse "the node is not up after 30 s"
fi

"$@"
