#!/usr/bin/env bash
# Checks the workspace. `./ci.sh fast` is what runs on every change; `./ci.sh help` lists the steps.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec </dev/null

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# Each step builds once: to keep what the next build could reuse takes as much of the disk again.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
# A missing toolchain is reported by the step that wants it, never downloaded behind the caller's back.
export RUSTUP_AUTO_INSTALL=0

readonly HOST=x86_64-unknown-linux-gnu
readonly LIBRARIES=(-p executor-core -p executor-serial -p executor-parallel)
readonly SCENARIOS=(-p executor-scenarios)
readonly STRESS=(-p executor-benches --no-default-features --bin stress)
readonly FAST=(fmt lint test no-pool doc loom allocations bench-smoke report-smoke replay asan tsan miri)
readonly LONG=(loom-long tsan-long tiny chaos leaks coverage stress faults)
readonly RELEASE=(scenarios-release chaos-release soak fuzz mutants)
readonly FUZZ=(sequences timers layouts)
# Builds with other flags have directories of their own, so that no step throws away another's work.
readonly TARGET="${CARGO_TARGET_DIR:-$PWD/target}"
# What the steps leave for `docs/reliability.md`.
readonly RECORDS="$TARGET/reliability"

LOCKED=()
if [[ -f Cargo.lock ]]; then LOCKED=(--locked); fi

current=""
done_steps=()
not_run=()

skip() { # reason
    echo "    DID NOT RUN: $1"
    not_run+=("$current: $1")
}

has_nightly() {
    command -v rustup >/dev/null && rustup run nightly rustc --version >/dev/null 2>&1
}

has_component() { # name of a component of nightly
    local installed
    installed="$(rustup component list --toolchain nightly --installed 2>/dev/null || true)"
    [[ "$installed" == *"$1"* ]]
}

on_this_host() { # whether the sanitizers' target is the machine's own
    [[ "$(rustc -vV)" == *"host: $HOST"* ]]
}

step_fmt() {
    echo "    every file is formatted"
    cargo fmt --all -- --check
    cargo fmt --manifest-path fuzz/Cargo.toml -- --check
}

step_lint() {
    echo "    no warning from rustc or clippy, in any target; the lines that ci/faults change are there"
    cargo clippy --workspace --all-targets "${LOCKED[@]}" -- -D warnings
    # Without the fuzzer itself, which is C++ and needs nightly.
    cargo clippy --manifest-path fuzz/Cargo.toml --target-dir "$TARGET" --no-default-features --locked -- -D warnings
    cargo run -q -p executor-scenarios --bin faults "${LOCKED[@]}" -- --find
}

step_test() {
    echo "    unit, integration and documentation tests, the README's example among them"
    cargo test --workspace "${LOCKED[@]}"
}

step_no_pool() {
    echo "    the libraries' tests and the scenarios with every cell allocated and freed"
    CARGO_TARGET_DIR="$TARGET/no-pool" RUSTFLAGS="${RUSTFLAGS:-} --cfg executor_no_pool" \
        cargo test "${LIBRARIES[@]}" "${SCENARIOS[@]}" --lib --tests "${LOCKED[@]}"
}

step_tiny() {
    echo "    the libraries' tests and the scenarios with batches, budgets, depths and magazines as small as they go"
    CARGO_TARGET_DIR="$TARGET/tiny" RUSTFLAGS="${RUSTFLAGS:-} --cfg executor_tiny" \
        cargo test "${LIBRARIES[@]}" "${SCENARIOS[@]}" --lib --tests "${LOCKED[@]}"
}

run_chaos() { # seeds, stress seconds for each
    echo "    the scenarios and the stress program with delays between the atomics, with $1 seeds"
    local seed
    for seed in $(seq 1 "$1"); do
        echo "    EXECUTOR_CHAOS_SEED=$seed"
        EXECUTOR_CHAOS_SEED="$seed" CARGO_TARGET_DIR="$TARGET/chaos" RUSTFLAGS="${RUSTFLAGS:-} --cfg executor_chaos" \
            cargo test "${SCENARIOS[@]}" --tests "${LOCKED[@]}" -- --nocapture every_legal | tee -a "$RECORDS/$current.log"
        EXECUTOR_CHAOS_SEED="$seed" CARGO_TARGET_DIR="$TARGET/chaos" RUSTFLAGS="${RUSTFLAGS:-} --cfg executor_chaos" \
            cargo run "${STRESS[@]}" "${LOCKED[@]}" -- \
            --seconds "$2" --json "$RECORDS/$current-$seed.json"
    done
}

step_chaos() { run_chaos 1 "${STRESS_SECONDS:-30}"; }
step_chaos_release() { run_chaos "${CHAOS_SEEDS:-20}" "${STRESS_SECONDS:-60}"; }

step_scenarios_release() {
    echo "    every scenario ${SCENARIO_ROUNDS:-40} times"
    SCENARIO_ROUNDS="${SCENARIO_ROUNDS:-40}" cargo test "${SCENARIOS[@]}" --tests "${LOCKED[@]}" -- --nocapture every_legal |
        tee -a "$RECORDS/$current.log"
}

step_leaks() {
    echo "    the scenarios under LeakSanitizer, without the pool, but for those that forget a completion"
    if ! on_this_host; then skip "LeakSanitizer is set up for $HOST alone"; return; fi
    if ! has_nightly; then skip "LeakSanitizer needs a nightly toolchain: rustup toolchain install nightly"; return; fi
    # Code that is not optimised copies a large message from frame to frame: this build needs over 2 MiB.
    SCENARIOS_WITHOUT=Forgotten RUST_MIN_STACK=$((4 << 20)) CARGO_TARGET_DIR="$TARGET/leaks" \
        RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=leak --cfg executor_no_pool" \
        cargo +nightly test --target "$HOST" "${SCENARIOS[@]}" --tests "${LOCKED[@]}"
}

llvm_tool() { # name: prints where that tool of nightly's LLVM is, if it is there
    local host major
    host="$(rustc +nightly --print sysroot)/lib/rustlib/$HOST/bin/llvm-$1"
    major="$(rustc +nightly -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')"
    if [[ -x "$host" ]]; then echo "$host"; else command -v "llvm-$1-$major"; fi
}

step_coverage() {
    echo "    which lines and branches of the core the libraries' tests and the scenarios reach; nothing fails for it"
    if ! on_this_host; then skip "coverage is set up for $HOST alone"; return; fi
    if ! has_nightly; then skip "coverage of branches needs a nightly toolchain: rustup toolchain install nightly"; return; fi
    local profdata cov
    if ! profdata="$(llvm_tool profdata)" || ! cov="$(llvm_tool cov)"; then
        skip "the tools of nightly's LLVM are not installed: rustup component add --toolchain nightly llvm-tools"
        return
    fi
    local folder="$TARGET/coverage"
    local build=(
        env CARGO_TARGET_DIR="$folder" LLVM_PROFILE_FILE="$folder/profiles/%p-%m.profraw"
        RUSTFLAGS="${RUSTFLAGS:-} -Cinstrument-coverage -Zcoverage-options=branch"
        cargo +nightly test --target "$HOST" "${LIBRARIES[@]}" "${SCENARIOS[@]}" --lib --tests "${LOCKED[@]}"
    )
    rm -rf "$folder/profiles"
    "${build[@]}"
    local objects=() object
    while IFS= read -r object; do
        objects+=(-object "$object")
    done < <("${build[@]}" --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
    # A process that is meant to abort leaves half a profile.
    "$profdata" merge -sparse -failure-mode=all "$folder/profiles" -o "$folder/merged.profdata"
    local of=("${objects[@]:1}" -instr-profile "$folder/merged.profdata"
        -ignore-filename-regex '/(registry|rustc|tests|scenarios)/|tests\.rs|/model(/|\.rs)')
    "$cov" export "${of[@]}" -summary-only >"$RECORDS/coverage.json"
    "$cov" report "${of[@]}" | sed -n '1p;$p'
}

step_stress() {
    echo "    the stress program with few and many producers, workers and streams"
    cargo run --release "${STRESS[@]}" "${LOCKED[@]}" -- \
        --matrix --seconds "${STRESS_SECONDS:-120}" --json "$RECORDS/stress.json"
}

step_soak() {
    echo "    the stress program for ${SOAK_SECONDS:-3600} seconds"
    cargo run --release "${STRESS[@]}" "${LOCKED[@]}" -- \
        --seconds "${SOAK_SECONDS:-3600}" --json "$RECORDS/soak.json"
}

run_fuzz() { # directory of the build, flags, seconds
    local target log="$RECORDS/$current.log"
    for target in "${FUZZ[@]}"; do
        echo "    $target, in $1" | tee -a "$log"
        # No leak checks: they come between two inputs, when threads of the first are on their way out and what the
        # C library keeps for them looks lost. Long inputs at once: short ones do little.
        ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}" RUSTFLAGS="${RUSTFLAGS:-} $2" \
            cargo +nightly fuzz run --target-dir "$TARGET/$1" "$target" -- \
            -max_total_time="$3" -max_len=300 -len_control=0 -timeout=60 >>"$log" 2>&1 || { tail -n 80 "$log"; return 1; }
        grep DONE "$log" | tail -n 1
    done
}

step_fuzz() {
    local seconds="${FUZZ_SECONDS:-300}"
    echo "    inputs led by coverage under AddressSanitizer, $seconds s for each target with the pool and without"
    if ! has_nightly; then skip "cargo-fuzz needs a nightly toolchain: rustup toolchain install nightly"; return; fi
    if ! cargo fuzz --version >/dev/null 2>&1; then
        skip "cargo-fuzz is not installed: cargo install cargo-fuzz"
        return
    fi
    run_fuzz fuzz "" "$seconds"
    run_fuzz fuzz-no-pool "--cfg executor_no_pool" "$seconds"
}

step_faults() {
    echo "    each fault of ci/faults, in a copy of the workspace, is caught by the check that it names"
    if ! has_nightly; then skip "some faults are caught by ThreadSanitizer: rustup toolchain install nightly"; return; fi
    cargo run -p executor-scenarios --bin faults "${LOCKED[@]}"
}

step_mutants() {
    echo "    each small change of the files of .cargo/mutants.toml is seen by a test, or explained in ci/mutants.md"
    if ! cargo mutants --version >/dev/null 2>&1; then
        skip "cargo-mutants is not installed: cargo install cargo-mutants"
        return
    fi
    # All libraries and the scenarios: what the core does for streams is seen by the tests of streams.
    local found=0
    rm -rf "$RECORDS/mutants"
    mkdir -p "$RECORDS/mutants"
    cargo mutants "${LIBRARIES[@]}" --test-package executor-core,executor-serial,executor-parallel,executor-scenarios \
        --output "$RECORDS/mutants" --colors never || found=$?
    # 2: some were not seen. 3: the tests of some ran too long, which is how most of these are seen.
    if ((found != 0 && found != 2 && found != 3)); then return "$found"; fi
    local mutant missed=0
    while IFS= read -r mutant; do
        # The same change elsewhere in its file is the same mutant, wherever its line is now.
        mutant="$(sed -E 's/:[0-9]+:[0-9]+: /: /' <<<"$mutant")"
        if ! grep -qF -- "$mutant" ci/mutants.md; then
            echo "    NOT SEEN: $mutant"
            missed=1
        fi
    done <"$RECORDS/mutants/mutants.out/missed.txt"
    return "$missed"
}

step_doc() {
    echo "    the documentation builds without a warning"
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --workspace --no-deps "${LOCKED[@]}"
}

run_loom() { # preemptions
    echo "    every interleaving of the words of the core and of the permits with at most $1 preemptions"
    # Optimised, or the models take hours; with debug assertions, or they check less; without LTO, which gains nothing here.
    # Loom says how many interleavings there were, and of each which threads it ran, which is left out.
    CARGO_TARGET_DIR="$TARGET/loom" RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" LOOM_MAX_PREEMPTIONS="$1" LOOM_LOG=info \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
        cargo test --release -p executor-core -p executor-parallel --lib "${LOCKED[@]}" model:: -- \
        --nocapture --test-threads=1 |
        sed -E '/^test /b; /rt::execution/d; /^$/d' >"$RECORDS/$current.log" || { cat "$RECORDS/$current.log"; return 1; }
    grep -E "^test |Completed in" "$RECORDS/$current.log"
}

step_loom() { run_loom "${LOOM_MAX_PREEMPTIONS:-2}"; }
step_loom_long() { run_loom 3; }

step_asan() {
    echo "    the libraries' tests and the scenarios under AddressSanitizer, without the pool, which would hide a use after free"
    if ! on_this_host; then skip "AddressSanitizer is set up for $HOST alone"; return; fi
    if ! has_nightly; then skip "AddressSanitizer needs a nightly toolchain: rustup toolchain install nightly"; return; fi
    # A leak checker runs at the end: it would find the completions that some scenarios forget.
    SCENARIOS_WITHOUT=Forgotten CARGO_TARGET_DIR="$TARGET/asan" \
        RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address --cfg executor_no_pool" \
        cargo +nightly test --target "$HOST" "${LIBRARIES[@]}" "${SCENARIOS[@]}" --lib --tests "${LOCKED[@]}"
}

run_tsan() { # seconds
    echo "    the stress program under ThreadSanitizer, for $1 seconds"
    if ! on_this_host; then skip "ThreadSanitizer is set up for $HOST alone"; return; fi
    if ! has_nightly; then skip "ThreadSanitizer needs a nightly toolchain: rustup toolchain install nightly"; return; fi
    local flags="-Zsanitizer=thread" options="second_deadlock_stack=1" std=()
    if has_component rust-src; then
        std=(-Zbuild-std)
    else
        echo "    std is not instrumented (no rust-src): with locks of our own, and the suppressions of ci/tsan.supp"
        flags+=" -Cunsafe-allow-abi-mismatch=sanitizer --cfg executor_tsan"
        options+=" suppressions=$PWD/ci/tsan.supp"
    fi
    CARGO_TARGET_DIR="$TARGET/tsan" RUSTFLAGS="${RUSTFLAGS:-} $flags" TSAN_OPTIONS="$options ${TSAN_OPTIONS:-}" \
        cargo +nightly run "${std[@]}" --target "$HOST" "${STRESS[@]}" "${LOCKED[@]}" -- \
        --seconds "$1" --json "$RECORDS/$current.json"
}

step_tsan() { run_tsan "${STRESS_SECONDS:-20}"; }
step_tsan_long() { run_tsan "${STRESS_SECONDS:-600}"; }

step_miri() {
    echo "    the core's unit tests under Miri, with small chunks and batches"
    if ! has_nightly; then skip "Miri needs a nightly toolchain: rustup toolchain install nightly"; return; fi
    # rust-src is asked for here because Miri would otherwise download it.
    if ! cargo +nightly miri --version >/dev/null 2>&1 || ! has_component rust-src; then
        skip "Miri is not installed: rustup component add --toolchain nightly miri rust-src"
        return
    fi
    CARGO_TARGET_DIR="$TARGET/miri" RUSTFLAGS="${RUSTFLAGS:-} --cfg executor_tiny" \
        MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}" \
        cargo +nightly miri test -p executor-core --lib "${LOCKED[@]}"
}

# Optimised, but without LTO, which takes minutes for each program and is for figures.
unmeasured() {
    CARGO_TARGET_DIR="$TARGET/unmeasured" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo "$@"
}

step_allocations() {
    echo "    no message allocates in steady state, and no memory is kept that should not be"
    unmeasured test --release -p executor-benches --no-default-features --test allocations --test memory "${LOCKED[@]}"
}

step_bench_smoke() {
    echo "    every bench runs once; nothing is measured"
    unmeasured bench -p executor-benches --no-default-features --bench '*' "${LOCKED[@]}" -- --test
}

step_report_smoke() {
    echo "    a few cases of the report with their peers, quickly; whether every completion arrives, not how fast"
    unmeasured run --release -p executor-benches --bin report "${LOCKED[@]}" -- --quick --only 1,3,5,11,21
}

step_replay() {
    echo "    the replay program on this repository"
    cargo run --release -p executor-examples --bin replay "${LOCKED[@]}"
}

report() {
    local status=$?
    echo
    if ((${#done_steps[@]})); then printf '    %s\n' "${done_steps[@]}"; fi
    if ((${#not_run[@]})); then
        echo "did not run:"
        printf '    %s\n' "${not_run[@]}"
    fi
    if ((status)); then
        echo "FAILED in ${current:-ci.sh} (status $status) after ${SECONDS} s"
    else
        echo "${#done_steps[@]} passed, ${#not_run[@]} did not run, in ${SECONDS} s"
    fi
}

record() { # seconds that the current step took
    printf '{"step": "%s", "seconds": %d, "date": "%s"}\n' "$current" "$1" "$(date -u +%F)" \
        >"$RECORDS/steps/$current.json"
}

run() { # steps...
    trap report EXIT
    local started skipped
    mkdir -p "$RECORDS/steps"
    for current in "$@"; do
        echo "==> $current"
        rm -f "$RECORDS/$current".* "$RECORDS/$current"-*.json "$RECORDS/steps/$current.json"
        started=$SECONDS
        skipped=${#not_run[@]}
        # A plain call: in a condition, `set -e` would not stop at a failure within the step.
        "step_${current//-/_}"
        if ((${#not_run[@]} == skipped)); then
            record $((SECONDS - started))
            done_steps+=("$(printf '%-17s %5d s' "$current" $((SECONDS - started)))")
        fi
    done
}

usage() {
    cat <<EOF
usage: ./ci.sh STEP...

  fast, test-all   what runs on every change: ${FAST[*]}
  long             the same checks for longer, and others: ${LONG[*]}
  release          before a release, for hours: ${RELEASE[*]}
  help             this text

Each step can be named alone. LOOM_MAX_PREEMPTIONS, STRESS_SECONDS, SOAK_SECONDS, FUZZ_SECONDS, SCENARIO_ROUNDS and
CHAOS_SEEDS bound them. What they find out lies in reliability in the target directory, from which docs/reliability.md
is written: cargo run -p executor-benches --bin reliability
EOF
}

if (($# == 0)); then usage >&2; exit 2; fi

steps=()
for name in "$@"; do
    case "$name" in
        fast | test-all) steps+=("${FAST[@]}") ;;
        long) steps+=("${LONG[@]}") ;;
        release) steps+=("${RELEASE[@]}") ;;
        help | -h | --help) usage; exit 0 ;;
        *)
            if [[ " ${FAST[*]} ${LONG[*]} ${RELEASE[*]} " != *" $name "* ]]; then
                echo "ci.sh: no step is called '$name'" >&2
                usage >&2
                exit 2
            fi
            steps+=("$name")
            ;;
    esac
done
run "${steps[@]}"
