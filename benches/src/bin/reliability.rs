//! Writes `docs/reliability.md` from what the last runs of the steps of `ci.sh` have left in
//! `reliability` in the target directory. It measures nothing itself; a step that was not run says so.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// The steps that leave records, and what each shows.
const STEPS: [(&str, &str); 19] = [
    ("test", "unit, integration and documentation tests"),
    (
        "no-pool",
        "tests and scenarios with every cell allocated and freed",
    ),
    (
        "tiny",
        "tests and scenarios with batches, budgets, depths and magazines as small as they go",
    ),
    ("loom", "models with the usual bound on preemptions, 2"),
    ("loom-long", "models with at most 3 preemptions"),
    (
        "asan",
        "tests and scenarios under AddressSanitizer, without pooling",
    ),
    ("leaks", "scenarios under LeakSanitizer, without pooling"),
    ("tsan", "stress under ThreadSanitizer"),
    ("tsan-long", "stress under ThreadSanitizer, for longer"),
    ("miri", "the core's unit tests under Miri"),
    (
        "coverage",
        "which lines and branches tests and scenarios reach",
    ),
    (
        "chaos",
        "scenarios and stress with delays between the atomics",
    ),
    ("chaos-release", "the same with many seeds"),
    ("scenarios-release", "every scenario many times"),
    ("stress", "stress over producers, workers and streams"),
    ("soak", "stress for a long time"),
    (
        "faults",
        "all faults in one run, each of which must be caught",
    ),
    (
        "fuzz",
        "sequences, timers and layouts with inputs led by coverage",
    ),
    (
        "mutants",
        "small changes of the words and protocols, each seen by a test or explained in ci/mutants.md",
    ),
];

const HEAD: &str = "# Reliability

Written by `cargo run -p executor-benches --bin reliability` from what the last runs of the steps of `ci.sh` have left; do not
edit it. Every figure was measured; a step without a record did not run. The promises that are checked, with their
tests, are in [guarantees.md](guarantees.md).
";

const GAPS: &str = "
## Known gaps

- Loom treats `SeqCst` accesses as `AcqRel`, and explores no load buffering; the models add fences where the protocols rely on
  `SeqCst`. It explores the words, not the whole of the executors.
- ThreadSanitizer does not understand fences, and without `rust-src` not the standard library either.
- Pools hide a use after free from every tool: AddressSanitizer and LeakSanitizer run without them.
- The scenarios play one message with one interference. Two interferences at once are left to the sequences, which one thread
  plays, and to the stress program.
- The sequences let no `submit_wait` wait in line for room; the tests of waiting and the scenarios do.
- Mutants are made of the words, the pools and the registry, not of every file; they change no ordering.
- The chaos build delays the operations of the words that `sync.rs` gives out, not those of the pools' depots, the boards of
  the workers or the standard library's locks; its seeds fix the delays, not the order of events.
- A bound from runs without a violation says how rare one must be in runs like these, and nothing of others.
- Faults that the table of faults shows as not caught have no check yet that sees them.
- The check of `sleep_is_no_sleep` counts clock ticks: of two runs on a loaded machine it missed the fault in one.
- What a worker looks at before it sleeps is held by tests that order the events themselves; the models have one lane instead.
- A child process is tested where its parent's workers slept at the fork, not where a thread held a lock then.
";

/// The records of the last runs.
struct Records(PathBuf);

impl Records {
    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_str(&self.text(name)?).ok()
    }

    /// The names of the files of a folder, in order.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }
}

/// A number with commas.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn steps(records: &Records, page: &mut String) {
    *page +=
        "\n## Steps\n\n| step | what it shows | passed on | took |\n| --- | --- | --- | --- |\n";
    for (step, about) in STEPS {
        let line = match records.json(&format!("steps/{step}.json")) {
            Some(record) => format!(
                "{} | {} s",
                record["date"].as_str().unwrap_or_default(),
                record["seconds"]
            ),
            None => "did not run | ".into(),
        };
        let _ = writeln!(page, "| `{step}` | {about} | {line} |");
    }
}

/// What loom has explored: each model with its interleavings.
fn models(records: &Records, page: &mut String) {
    *page += "\n## Models\n";
    for (step, bound) in [
        ("loom", "2, unless LOOM_MAX_PREEMPTIONS said otherwise"),
        ("loom-long", "3"),
    ] {
        let Some(log) = records.text(&format!("{step}.log")) else {
            let _ = writeln!(page, "\n`{step}` did not run.");
            continue;
        };
        let (mut models, mut total) = (Vec::new(), 0);
        let mut explored = 0;
        for line in log.lines() {
            if let Some((_, rest)) = line.split_once("Completed in ") {
                let count = rest
                    .split_whitespace()
                    .next()
                    .and_then(|word| word.parse::<u64>().ok());
                explored += count.unwrap_or(0);
            }
            // Its name stands before what it says, and the verdict after it.
            if let Some(name) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.split(" ... ").next())
                && !name.starts_with("result")
            {
                models.push((name.to_owned(), 0_u64));
            }
            if let Some((_, last)) = models.last_mut() {
                *last += explored;
                total += explored;
                explored = 0;
            }
        }
        let _ = writeln!(
            page,
            "\n`{step}`: {} models, {} interleavings, with at most so many preemptions: {bound}.\n",
            models.len(),
            thousands(total)
        );
        *page += "| model | interleavings |\n| --- | --- |\n";
        for (name, count) in models {
            let _ = writeln!(page, "| `{name}` | {} |", thousands(count));
        }
    }
}

/// The stress runs, with what they rule out.
fn runs(records: &Records, page: &mut String) {
    *page += "\n## Stress\n\nWith no violation in N messages, fewer than 3/N of the messages of such runs are lost, doubled or \
              reordered, with a confidence of 95 %.\n\n| run | minutes | messages | violations | 3/N | longest wait for an outcome |\n\
              | --- | --- | --- | --- | --- | --- |\n";
    let names = records.names(".");
    let mut any = false;
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        let Some(figures) = records.json(name) else {
            continue;
        };
        let (Some(messages), Some(violations)) = (
            figures["messages"].as_u64(),
            figures["violations"].as_array(),
        ) else {
            continue;
        };
        any = true;
        let bound = if violations.is_empty() && messages > 0 {
            format!("{:.1e}", 3.0 / messages as f64)
        } else {
            "none".into()
        };
        let _ = writeln!(
            page,
            "| `{}` | {:.1} | {} | {} | {bound} | {:.1} ms |",
            name.trim_end_matches(".json"),
            figures["seconds"].as_f64().unwrap_or(0.0) / 60.0,
            thousands(messages),
            violations.len(),
            figures["wait_us"]["max"].as_f64().unwrap_or(0.0) / 1_000.0,
        );
    }
    if !any {
        *page += "| did not run | | | | | |\n";
    }
    let Some(stress) = records.json("stress.json") else {
        return;
    };
    let wait = |quantile: &str| stress["wait_us"][quantile].as_f64().unwrap_or(0.0);
    let _ = writeln!(
        page,
        "\n`stress` ran {} shapes of 1 to 16 producers, 1 to 8 workers and 1 to 100,000 streams. A producer waited for an outcome \
         {:.1} us (median), {:.0} us (99 %), {:.0} us (99.9 %), with more threads than the machine has processors.",
        stress["shapes"],
        wait("p50"),
        wait("p99"),
        wait("p999"),
    );
    if let Some(memory) = stress["resident_kib"].as_array()
        && let (Some(first), Some(last)) = (memory.first(), memory.last())
    {
        let _ = writeln!(
            page,
            "Resident memory was {first} KiB after the first of ten bursts of 200,000 messages, and {last} KiB after the last."
        );
    }
}

fn scenarios(records: &Records, page: &mut String) {
    *page += "\n## Scenarios\n\n";
    let mut any = false;
    for step in ["scenarios-release", "chaos", "chaos-release"] {
        let Some(log) = records.text(&format!("{step}.log")) else {
            continue;
        };
        for line in log.lines() {
            if let Some((scenarios, times)) = line.split_once(" scenarios, ") {
                any = true;
                let passed = if log.contains("FAILED") {
                    "with failures"
                } else {
                    "all passed"
                };
                let _ = writeln!(page, "- `{step}`: {scenarios} scenarios, {times}: {passed}");
            }
        }
    }
    if !any {
        *page += "Did not run by themselves; the steps `test`, `no-pool`, `tiny`, `asan` and `leaks` play them too.\n";
    }
}

/// How much of each file with unsafe code the tests reach.
fn coverage(records: &Records, root: &Path, page: &mut String) {
    *page += "\n## Coverage of the files with unsafe code\n\n";
    let Some(report) = records.json("coverage.json") else {
        *page += "`coverage` did not run.\n";
        return;
    };
    *page += "By the libraries' tests and the scenarios; code for one kind of build, and what only aborts, counts as missed.\n\n\
        | file | lines | reached | branches | both ways |\n| --- | ---: | ---: | ---: | ---: |\n";
    let mut all = [[0; 2]; 2];
    let files = report["data"][0]["files"].as_array();
    for file in files.into_iter().flatten() {
        let path = file["filename"].as_str().unwrap_or_default();
        let Some((_, name)) = path.rsplit_once("executor-core/src/") else {
            continue;
        };
        let source = fs::read_to_string(root.join("executor-core/src").join(name));
        if !source.is_ok_and(|source| source.contains("unsafe {")) {
            continue;
        }
        let summary = ["lines", "branches"].map(|what| {
            let of = &file["summary"][what];
            ["count", "covered"].map(|name| of[name].as_u64().unwrap_or_default())
        });
        for (all, of) in all
            .as_flattened_mut()
            .iter_mut()
            .zip(summary.as_flattened())
        {
            *all += of;
        }
        covered(&format!("`{name}`"), summary, page);
    }
    covered("all", all, page);
}

/// A row of how many lines and branches there are, and how many of them were reached.
fn covered(name: &str, summary: [[u64; 2]; 2], page: &mut String) {
    let [lines, branches] = summary.map(|[count, covered]| {
        let percent = covered as f64 / count.max(1) as f64 * 100.0;
        let percent = if count == 0 {
            "-".into()
        } else {
            format!("{percent:.1} %")
        };
        format!("{} | {percent}", thousands(count))
    });
    let _ = writeln!(page, "| {name} | {lines} | {branches} |");
}

/// What became of each fault that is still in `folder`; records of others are left from before.
fn faults(records: &Records, folder: &Path, page: &mut String) {
    *page += "\n## Faults\n\n";
    let names = records.names("faults");
    let faults: Vec<_> = names
        .iter()
        .filter(|name| folder.join(name).with_extension("fault").exists())
        .filter_map(|name| records.json(&format!("faults/{name}")))
        .collect();
    if faults.is_empty() {
        *page += "`faults` did not run.\n";
        return;
    }
    let caught = faults
        .iter()
        .filter(|fault| fault["caught"] == true)
        .count();
    let _ = writeln!(
        page,
        "{caught} of {} faults were caught when they were put into the code, each by the check that it names.\n",
        faults.len()
    );
    *page += "| fault | what it does | tier | caught |\n| --- | --- | --- | --- |\n";
    for fault in faults {
        let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        let verdict = if fault["caught"] == true { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {verdict} |",
            text("fault"),
            text("about"),
            text("tier")
        );
    }
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let records = Records(target.join("reliability"));
    let mut page = String::from(HEAD);
    steps(&records, &mut page);
    models(&records, &mut page);
    scenarios(&records, &mut page);
    runs(&records, &mut page);
    coverage(&records, &root, &mut page);
    faults(&records, &root.join("ci/faults"), &mut page);
    page += GAPS;
    match fs::write(root.join("docs/reliability.md"), page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reliability: docs/reliability.md cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}
