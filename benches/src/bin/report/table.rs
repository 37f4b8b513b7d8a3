//! A case's rows, for a terminal and for the document.

use crate::goal::Verdict;
use crate::row::Row;

/// The columns' titles.
const TITLES: [&str; 8] = [
    "subject",
    "parameters",
    "min",
    "median",
    "max",
    "of ours",
    "allocations",
    "bytes",
];

/// A figure with as many digits as it deserves.
pub(crate) fn number(figure: f64) -> String {
    let size = figure.abs();
    if size >= 1_000.0 {
        let whole = format!("{size:.0}");
        let mut grouped = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let sign = if figure < 0.0 { "-" } else { "" };
        format!("{sign}{grouped}")
    } else if size >= 100.0 || figure == 0.0 {
        format!("{figure:.0}")
    } else if size >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.2}")
    }
}

/// Allocations and bytes: small remainders are what starts the threads of a round.
fn count(figure: Option<f64>) -> String {
    match figure {
        None => String::new(),
        Some(figure) if figure < 0.001 => "0".into(),
        Some(figure) if figure < 1.0 => format!("{figure:.3}"),
        Some(figure) => number(figure),
    }
}

fn cells(row: &Row) -> [String; 8] {
    let blank = String::new;
    let (min, median, max) = match (row.ns, row.values, &row.absent) {
        (Some(ns), _, _) => (number(ns.min), number(ns.median), number(ns.max)),
        (None, Some(values), _) => {
            let unit = row.unit.unwrap_or_default();
            let median = format!("{} {unit}", number(values.median));
            (number(values.min), median, number(values.max))
        }
        (None, None, Some(why)) => (blank(), format!("absent: {why}"), blank()),
        (None, None, None) => (blank(), blank(), blank()),
    };
    [
        row.subject.clone(),
        row.set(),
        min,
        median,
        max,
        row.ratio_to_ours.map_or_else(blank, number),
        count(row.allocs),
        count(row.bytes),
    ]
}

/// For a terminal: columns of spaces.
pub(crate) fn plain(rows: &[Row], verdict: &Verdict) -> String {
    let lines: Vec<_> = std::iter::once(TITLES.map(str::to_owned))
        .chain(rows.iter().map(cells))
        .collect();
    // A sentence in a column of figures makes no other line longer.
    let width = |column: usize| {
        let cells = lines.iter().map(|line| &line[column]);
        let cells = cells.filter(|cell| !cell.starts_with("absent"));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..TITLES.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut printed = String::from("   ");
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            let cell = if column < 2 || cell.starts_with("absent") {
                format!(" {cell:<width$}")
            } else {
                format!(" {cell:>width$}")
            };
            printed.push_str(&cell);
        }
        text.push_str(printed.trim_end());
        text.push('\n');
    }
    for part in &verdict.parts {
        let measured = part.measured.map_or_else(|| "not measured".into(), number);
        let met = if part.met { "met" } else { "NOT MET" };
        text.push_str(&format!("    goal {}: {measured}, {met}\n", part.goal));
    }
    text
}

/// For the document: a Markdown table.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = format!("| {} |\n", TITLES.join(" | "));
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for row in rows {
        text.push_str(&format!("| {} |\n", cells(row).join(" | ")));
    }
    text
}
