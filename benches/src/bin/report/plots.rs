//! The plots of the document, as vector graphics.

use std::error::Error;
use std::path::Path;

use plotters::element::Circle;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement,
    RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::series::PointSeries;

use crate::row::Row;

/// A file and what it shows.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) file: String,
}

/// Width of every plot, in pixels.
const WIDTH: u32 = 900;
/// Height of a curve's plot.
const HEIGHT: u32 = 480;
/// Height of a bar and its gap.
const BAR: u32 = 16;
/// Room for the names beside the bars.
const NAMES: i32 = 330;

/// Colours that are told apart on white.
const COLOURS: [RGBColor; 14] = [
    RGBColor(200, 30, 45),
    RGBColor(30, 130, 60),
    RGBColor(20, 80, 180),
    RGBColor(220, 120, 0),
    RGBColor(120, 50, 150),
    RGBColor(0, 140, 150),
    RGBColor(150, 90, 40),
    RGBColor(220, 60, 150),
    RGBColor(90, 90, 90),
    RGBColor(110, 130, 0),
    RGBColor(70, 60, 200),
    RGBColor(160, 130, 70),
    RGBColor(0, 90, 90),
    RGBColor(130, 20, 80),
];

type Drawn = Result<(), Box<dyn Error>>;

/// Draws everything that the rows have data for.
pub(crate) fn draw(directory: &Path, rows: &[Row]) -> Result<Vec<Plot>, Box<dyn Error>> {
    let mut plots = Vec::new();
    let mut add = |title: &str, file: &str, drawn: bool| {
        if drawn {
            plots.push(Plot {
                title: title.into(),
                file: file.into(),
            });
        }
    };
    let title = "Best peer of each case, as a multiple of ours";
    add(
        title,
        "ratios.svg",
        ratios(directory, "ratios.svg", title, rows)?,
    );
    for curve in &CURVES {
        let drawn = curves(directory, curve, rows)?;
        add(curve.title, curve.file, drawn);
    }
    for (file, title, hot) in [
        (
            "latency.svg",
            "Waits at 50 % of the slowest's capacity, uniform keys (19)",
            "false",
        ),
        (
            "latency-hot.svg",
            "Waits at 50 % of the slowest's capacity, uniform keys, beside a hot stream (19)",
            "true",
        ),
    ] {
        let set = format!("load=50 keys=uniform hot={hot}");
        add(title, file, latency(directory, file, title, &set, rows)?);
    }
    Ok(plots)
}

/// One bar for each set of parameters in which ours and a peer have a time.
fn ratios(directory: &Path, file: &str, title: &str, rows: &[Row]) -> Result<bool, Box<dyn Error>> {
    let mut bars: Vec<(String, f64)> = Vec::new();
    for row in rows
        .iter()
        .filter(|row| row.is_ours() && row.ratio_to_ours == Some(1.0))
    {
        let same =
            |other: &&Row| other.case == row.case && other.params == row.params && other.is_peer();
        let peers = rows.iter().filter(same).filter(|other| other.ns.is_some());
        let best = peers.min_by(|one, other| {
            let key = |row: &Row| row.ratio_to_ours.unwrap_or(f64::MAX);
            key(one).total_cmp(&key(other))
        });
        if let Some((best, ratio)) = best.and_then(|best| Some((best, best.ratio_to_ours?))) {
            bars.push((
                format!("{} {} {}", &row.case[..2], best.subject, row.set()),
                ratio,
            ));
        }
    }
    if bars.is_empty() {
        return Ok(false);
    }
    let most = bars.iter().fold(10.0, |most: f64, bar| most.max(bar.1));
    let least = bars.iter().fold(1.0, |least: f64, bar| least.min(bar.1));
    let height = BAR * bars.len() as u32 + 90;
    let path = directory.join(file);
    let root = SVGBackend::new(&path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let rows_of_bars = 0.0..bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .margin_right(40)
        .set_left_and_bottom_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((least * 0.8..most * 1.2).log_scale(), rows_of_bars)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("times ours; left of 1 a peer is faster")
        .draw()?;
    let area = chart.plotting_area();
    for (index, (_, ratio)) in bars.iter().enumerate() {
        let base = (bars.len() - 1 - index) as f64;
        let colour = if *ratio < 1.0 { COLOURS[0] } else { COLOURS[1] };
        let (from, to) = (ratio.min(1.0), ratio.max(1.0));
        area.draw(&Rectangle::new(
            [(from, base + 0.15), (to, base + 0.85)],
            colour.filled(),
        ))?;
    }
    for (index, (name, ratio)) in bars.iter().enumerate() {
        let base = (bars.len() - 1 - index) as f64;
        let (_, y) = area.map_coordinate(&(1.0, base + 0.85));
        root.draw(&Text::new(
            format!("{name}  {ratio:.1}"),
            (8, y),
            ("sans-serif", 11).into_font(),
        ))?;
    }
    root.present()?;
    Ok(true)
}

/// Curves of one case over one parameter.
struct Curve {
    title: &'static str,
    file: &'static str,
    case: &'static str,
    parameter: &'static str,
    /// What else the parameters must have.
    also: &'static str,
}

const CURVES: [Curve; 8] = [
    Curve {
        title: "One stream, N submitted, then all awaited (7)",
        file: "submit-all.svg",
        case: "07",
        parameter: "messages",
        also: "",
    },
    Curve {
        title: "Streams of which each message is awaited in turn (8)",
        file: "streams.svg",
        case: "08",
        parameter: "streams",
        also: "workers=2",
    },
    Curve {
        title: "Tasks spawned, and all awaited (9)",
        file: "spawn.svg",
        case: "09",
        parameter: "tasks",
        also: "",
    },
    Curve {
        title: "Producers on one stream, submitting side (10)",
        file: "producers.svg",
        case: "10",
        parameter: "producers",
        also: "",
    },
    Curve {
        title: "Bursts (11)",
        file: "bursts.svg",
        case: "11",
        parameter: "burst",
        also: "",
    },
    Curve {
        title: "Budget of a stream: the throughput of two on one worker (12)",
        file: "budget.svg",
        case: "12",
        parameter: "budget",
        also: "figure=throughput",
    },
    Curve {
        title: "Budget of a stream: p99 of a second stream beside it, in us (12)",
        file: "budget-wait.svg",
        case: "12",
        parameter: "budget",
        also: "figure=p99-beside",
    },
    Curve {
        title: "Chain of tasks that submit their successor (15)",
        file: "chain.svg",
        case: "15",
        parameter: "chain",
        also: "",
    },
];

/// One line of a plot.
type Line = (String, Vec<(f64, f64)>);

fn curves(directory: &Path, curve: &Curve, rows: &[Row]) -> Result<bool, Box<dyn Error>> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows.iter().filter(|row| row.case.starts_with(curve.case)) {
        let set = row.set();
        if !curve.also.split_whitespace().all(|also| set.contains(also)) {
            continue;
        }
        let x = row
            .params
            .get(curve.parameter)
            .and_then(serde_json::Value::as_f64);
        if let Some(point) = x.zip(row.figure()) {
            point_of(&mut lines, &row.subject, point);
        }
    }
    if !lines.iter().any(|(_, points)| points.len() > 1) {
        return Ok(false);
    }
    let unit = if curve.file.contains("wait") {
        "us"
    } else {
        "ns for each"
    };
    plot(
        &directory.join(curve.file),
        curve.title,
        curve.parameter,
        unit,
        &lines,
    )?;
    Ok(true)
}

fn point_of(lines: &mut Vec<Line>, subject: &str, point: (f64, f64)) {
    match lines.iter_mut().find(|(name, _)| name == subject) {
        Some((_, points)) => points.push(point),
        None => lines.push((subject.to_owned(), vec![point])),
    }
}

/// Waits over the share of messages that wait longer.
fn latency(
    directory: &Path,
    file: &str,
    title: &str,
    set: &str,
    rows: &[Row],
) -> Result<bool, Box<dyn Error>> {
    let quantiles = [
        ("p50", 2.0),
        ("p90", 10.0),
        ("p99", 100.0),
        ("p99.9", 1_000.0),
    ];
    let mut lines: Vec<Line> = Vec::new();
    for row in rows.iter().filter(|row| row.case.starts_with("19")) {
        let own = row.set();
        let fits = set
            .split_whitespace()
            .all(|param| own.split(' ').any(|own| own == param));
        let quantile = quantiles.iter().find(|(name, _)| {
            row.params.get("figure").and_then(|figure| figure.as_str()) == Some(name)
        });
        if let Some((&(_, x), y)) = quantile.zip(row.value).filter(|_| fits) {
            point_of(&mut lines, &row.subject, (x, y));
        }
    }
    if lines.is_empty() {
        return Ok(false);
    }
    let axis = "one in so many waits longer: 2 is p50, 1000 is p99.9";
    plot(&directory.join(file), title, axis, "us", &lines)?;
    Ok(true)
}

/// Draws lines with both axes logarithmic.
fn plot(path: &Path, title: &str, x_axis: &str, y_axis: &str, lines: &[Line]) -> Drawn {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let bounds = |of: fn((f64, f64)) -> f64| {
        let least = points().map(of).fold(f64::MAX, f64::min).max(0.1);
        let most = points().map(of).fold(1.0, f64::max);
        (least * 0.8)..(most * 1.3)
    };
    let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .margin_right(230)
        .set_left_and_bottom_label_area_size(45)
        .build_cartesian_2d(
            bounds(|point| point.0).log_scale(),
            bounds(|point| point.1).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc(x_axis)
        .y_desc(y_axis)
        .light_line_style(WHITE)
        .draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()].stroke_width(if name.starts_with("ours") {
            3
        } else {
            1
        });
        chart.draw_series(LineSeries::new(points.iter().copied(), colour))?;
        chart.draw_series(PointSeries::<_, _, Circle<_, _>, _>::new(
            points.iter().copied(),
            3,
            colour,
        ))?;
        // The legend stands beside the plot, where it hides nothing.
        let y = 50 + 18 * index as i32;
        let x = WIDTH as i32 - 225;
        root.draw(&PathElement::new([(x, y + 6), (x + 18, y + 6)], colour))?;
        root.draw(&Text::new(
            name.clone(),
            (x + 24, y),
            ("sans-serif", 12).into_font().color(&BLACK),
        ))?;
    }
    root.present()?;
    Ok(())
}
