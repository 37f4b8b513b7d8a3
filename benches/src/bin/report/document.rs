//! Writes `docs/benchmarks.md` and its plots.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use crate::Done;
use crate::engine::Effort;
use crate::machine::Machine;
use crate::plots;
use crate::table::{markdown, number};

/// Where the plots are, below the documents.
const PLOTS: &str = "benchmarks";

/// Writes everything; it replaces what an earlier run wrote.
pub(crate) fn write(
    docs: &Path,
    machine: &Machine,
    effort: Effort,
    done: &[Done],
) -> Result<(), Box<dyn Error>> {
    let directory = docs.join(PLOTS);
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    let rows: Vec<_> = done.iter().flat_map(|done| done.rows.clone()).collect();
    let plots = plots::draw(&directory, &rows)?;
    let mut text = String::new();
    head(&mut text, machine, effort)?;
    goals(&mut text, done)?;
    absent(&mut text, done)?;
    text.push_str("\n## Plots\n");
    for plot in plots {
        write!(text, "\n### {}\n\n", plot.title)?;
        writeln!(text, "![{}]({PLOTS}/{})", plot.title, plot.file)?;
    }
    text.push_str("\n## Cases\n");
    for done in done {
        write!(text, "\n### {}. {}\n\n", done.case.number, done.case.title)?;
        text.push_str(&markdown(&done.rows));
    }
    std::fs::write(docs.join("benchmarks.md"), text)?;
    Ok(())
}

fn head(text: &mut String, machine: &Machine, effort: Effort) -> std::fmt::Result {
    let quick = if effort.quick { " -- --quick" } else { "" };
    write!(
        text,
        "# Benchmarks\n\n\
         The executors beside their peers: the same work in one program run, sample by sample in turn, two workers for\n\
         everybody, every completion checked. Figures are nanoseconds for each operation unless a unit is named; `of ours` is\n\
         the median divided by that of ours, so above 1 is slower than ours. Only these ratios mean anything on another machine.\n\
         No early timers and no calls: these goals are judged by the greatest of the samples, all others by the median.\n\
         `floor:` is the bare mechanism, what the work could cost at least. `ours` runs on its caller where `execute` does;\n\
         `ours:no-inline`, in cases 6, 8 and 14, is with that turned off.\n\n\
         Written by\n\n\
         ```sh\n\
         cargo run --release -p executor-benches --bin report{quick}\n\
         ```\n\n\
         | | |\n| --- | --- |\n\
         | processor | {}, {} cores |\n\
         | kernel | {} |\n\
         | commit | {} |\n\
         | date | {} |\n\
         | samples | {} of each subject, of about {} ms or one round that is longer; \
         of a `figure`, and in case 17: of one run, however long |\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.commit,
        machine.date,
        effort.samples,
        effort.target.as_millis(),
    )?;
    if effort.quick {
        text.push_str(
            "\nThis was a quick run: short samples, fewer sizes. A whole one says more.\n",
        );
    }
    Ok(())
}

fn goals(text: &mut String, done: &[Done]) -> std::fmt::Result {
    text.push_str("\n## Goals\n\n| case | goal | measured | |\n| --- | --- | ---: | --- |\n");
    for done in done {
        for part in &done.verdict.parts {
            let measured = part.measured.map_or_else(|| "not measured".into(), number);
            let met = if part.met { "met" } else { "**not met**" };
            writeln!(
                text,
                "| {} | {} | {measured} | {met} |",
                done.verdict.case, part.goal
            )?;
        }
    }
    Ok(())
}

/// Names who was not there; nobody is left out silently.
fn absent(text: &mut String, done: &[Done]) -> std::fmt::Result {
    let mut missing: Vec<_> = done
        .iter()
        .flat_map(|done| &done.rows)
        .filter_map(|row| Some((&row.case, &row.subject, row.absent.as_ref()?)))
        .collect();
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    text.push_str("\n## Absent\n\n| case | subject | why |\n| --- | --- | --- |\n");
    for (case, subject, why) in missing {
        writeln!(text, "| {case} | {subject} | {why} |")?;
    }
    Ok(())
}
