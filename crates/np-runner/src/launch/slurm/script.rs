//! The batch script of one array: which run each task trains, and what it does when Slurm wants the machine back.
//!
//! All that differs from one array to another stands in its first lines, quoted; the rest is [`BODY`]. Slurm keeps a copy of the script from the
//! moment that it is submitted.

use std::path::Path;

use np_record::PlannedRun;

use crate::error::{REQUEUE, REQUEUE_WITHOUT_GAIN};

/// What the script of an array is made of.
#[derive(Debug)]
pub(super) struct Script<'a> {
    /// Name of the plan.
    pub(super) plan: &'a str,
    /// The runs, with their places in the plan.
    pub(super) runs: Vec<(usize, &'a PlannedRun)>,
    /// The copy of this program.
    pub(super) program: &'a Path,
    /// Its SHA-256, in hex.
    pub(super) digest: &'a str,
    /// Where the records go.
    pub(super) store: &'a Path,
    /// The store with the copy of the plan.
    pub(super) plans: &'a Path,
    /// Folder of this plan's launches.
    pub(super) folder: &'a Path,
    /// Threads of a run, if not as many as its task has CPUs.
    pub(super) threads: Option<usize>,
    /// Further arguments of the worker.
    pub(super) arguments: Vec<String>,
}

/// What every task does. A trap of bash runs at once only while the shell waits for a job of its own, so the worker is one, and `wait` is
/// repeated for as long as traps cut it short.
const BODY: &str = r#"
run=${runs[SLURM_ARRAY_TASK_ID]}
task=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
stalls=$folder/stalls/$run
crash=$folder/crashes/$run
say() { printf 'np: %s\n' "$*"; }
# Writes its input to a file by way of a new one: whatever else has that name, a link say, is replaced and not followed.
note() {
    local new
    new=$(mktemp "$1.XXXXXXXXXX") || return
    cat >"$new" && chmod "$(printf %o $((0666 & ~$(umask))))" "$new" && mv -f "$new" "$1"
}
say "run $run as task $task on ${SLURMD_NODENAME:-this machine}, requeued ${SLURM_RESTART_COUNT:-0} times"

signals=0 requeue=no worker=
pass() {
    signals=$((signals + 1))
    if [ -n "$worker" ]; then kill -s "$1" "$worker" 2>/dev/null; fi
}
trap 'requeue=yes; pass USR2' USR2
trap 'pass TERM' TERM INT

# Others may write into a store: no program is run but the one that was submitted. What is checked is a copy that is this user's alone, and the copy is run.
private=
clean() { if [ -n "$private" ]; then rm -rf "$private"; fi; }
trap clean EXIT
for place in "${TMPDIR:-/tmp}" /tmp "$HOME"; do
    private=$(mktemp -d "$place/np.XXXXXXXXXX" 2>/dev/null) || continue
    copy=$private/np
    if cat "$program" >"$copy" && chmod 700 "$copy"; then
        found=$( (sha256sum || shasum -a 256) 2>/dev/null <"$copy")
        # A place from which nothing may be executed is passed over.
        if [ "${found%% *}" != "$digest" ] || [ -x "$copy" ]; then break; fi
    fi
    clean
    private=
done
if [ -z "$private" ]; then
    say "$program could not be copied to a folder of this task's own, from which it can be executed"
    printf 'the program could not be copied, task %s\n' "$task" | note "$crash"
    exit 126
fi
if [ "${found%% *}" != "$digest" ]; then
    say "$program is not the program that was submitted, its digest is ${found%% *}: the same np run submits it anew"
    printf 'the copy of the program was changed, task %s\n' "$task" | note "$crash"
    exit 126
fi

threads=${threads:-${SLURM_CPUS_PER_TASK:-1}}
for variable in "${environment[@]}"; do export "${variable//THREADS_OF_RUN/$threads}"; done
unset RUST_BACKTRACE RUST_LIB_BACKTRACE
"$copy" exec "$plan" "${places[SLURM_ARRAY_TASK_ID]}" --id "$run" --store "$store" --plans "$plans" --threads "$threads" \
    "${arguments[@]}" </dev/null &
worker=$!
# For a signal that came before there was a worker to pass it on to.
if [ "$signals" != 0 ]; then
    if [ "$requeue" = yes ]; then kill -s USR2 "$worker"; else kill -s TERM "$worker"; fi
fi
code=127
while :; do
    seen=$signals
    wait "$worker"
    now=$?
    if [ "$now" != 127 ]; then code=$now; fi
    if [ "$signals" = "$seen" ]; then break; fi
done
clean

# Warned before the worker could listen, it dies of the signal.
if [ "$requeue" = yes ] && [ "$code" -gt 128 ] && [ "$code" != 130 ]; then code=$stalled; fi
again=no
if [ "$code" = "$gained" ]; then
    rm -f "$stalls"
    again=yes
elif [ "$code" = "$stalled" ]; then
    # A run that never gets through an epoch in its time would be requeued for ever.
    if { cat "$stalls" 2>/dev/null; printf '%s\n' "$task"; } | note "$stalls" && [ "$(wc -l <"$stalls")" -lt 5 ]; then
        again=yes
    else
        say "five times in a row no epoch was completed: not requeued; give it more time"
    fi
fi
if [ "$again" = yes ]; then
    say "requeued, to go on from its last snapshot"
    if scontrol requeue "$task"; then exit 0; fi
    say "could not be requeued: the same np run goes on"
fi
if [ "$code" != 0 ]; then
    say "ended with exit code $code"
    printf 'exit code %s, task %s\n' "$code" "$task" | note "$crash"
elif [ ! -e "$store/runs/$run.json" ]; then
    printf 'another process had the run, task %s\n' "$task" | note "$crash"
else
    rm -f "$stalls" "$crash"
fi
exit "$code"
"#;

impl Script<'_> {
    /// The script; `None` if a path cannot stand in it, for it is not UTF-8.
    pub(super) fn text(&self) -> Option<String> {
        let list = |words: Vec<String>| format!("({})", words.join(" "));
        let path = |path: &Path| path.to_str().map(quote);
        let environment = crate::launch::environment("THREADS_OF_RUN");
        let environment = environment.into_iter().map(|(name, value)| quote(&format!("{name}={value}"))).collect();
        let assignments = [
            ("plan", quote(self.plan)),
            ("runs", list(self.runs.iter().map(|(_, run)| quote(&run.id)).collect())),
            ("places", list(self.runs.iter().map(|(place, _)| place.to_string()).collect())),
            ("program", path(self.program)?),
            ("digest", quote(self.digest)),
            ("store", path(self.store)?),
            ("plans", path(self.plans)?),
            ("folder", path(self.folder)?),
            ("threads", self.threads.map_or_else(String::new, |threads| threads.to_string())),
            ("environment", list(environment)),
            ("arguments", list(self.arguments.iter().map(|word| quote(word)).collect())),
            ("gained", REQUEUE.to_string()),
            ("stalled", REQUEUE_WITHOUT_GAIN.to_string()),
        ];
        let head: String = assignments.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        Some(format!(
            "#!/usr/bin/env bash\n# Written by `np run --launcher slurm`: a task of this array trains one run.\n{head}{BODY}"
        ))
    }
}

/// A word as a shell reads it back, whatever is in it.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A path as the pattern of `sbatch --output` that stands for itself.
pub(super) fn pattern(path: &str) -> String {
    path.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn words_come_back_from_a_shell_as_they_were() {
        for word in ["plain", "with space", "it's", r#"a"b\c$d`e;f*"#, "two\nlines", "", "ä–"] {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(word))).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(pattern("/a/50%/b"), "/a/50%%/b");
    }

    #[test]
    fn a_script_holds_its_tasks_and_is_one_that_bash_can_read() {
        let run = |id: &str| PlannedRun {
            id: id.into(),
            arm: "a".into(),
            seed: 1,
            axes: Default::default(),
            config: serde_json::Value::Null,
            data_digest: String::new(),
        };
        let (first, second) = (run("aa"), run("bb"));
        let folder = Path::new("/some where/it's");
        let script = Script {
            plan: "tiny",
            runs: vec![(4, &first), (7, &second)],
            program: folder,
            digest: "0a1b",
            store: folder,
            plans: folder,
            folder,
            threads: Some(2),
            arguments: vec!["--caller".into(), "{\"command\":\"np run\"}".into()],
        };
        let text = script.text().unwrap();
        for line in
            ["runs=('aa' 'bb')", "places=(4 7)", r"store='/some where/it'\''s'", "threads=2", "gained=75", "stalled=76"]
        {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let checked = Command::new("bash").args(["-n", "-c", &text]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
