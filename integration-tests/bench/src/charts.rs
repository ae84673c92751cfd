//! Results as SVG charts of medians.

use std::{fs, path::Path};

use plotters::{coord::ranged1d::SegmentValue, prelude::*};

use crate::{
    Failure,
    load::Workload,
    report::{grouped, middle, subjects},
    results::{Family, Row},
};

/// One chart per workload and link, with the subjects over all brokers. Returns how many there are.
pub(crate) fn draw_all(rows: &[Row], folder: &Path) -> Result<usize, Failure> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let mut drawn: Vec<&Row> = Vec::new();
    let is_same = |a: &Row, b: &Row| a.workload == b.workload && a.link_us.total_cmp(&b.link_us).is_eq();
    for row in rows {
        if drawn.iter().any(|other| is_same(other, row)) {
            continue;
        }
        drawn.push(row);
        let of_chart: Vec<_> = rows.iter().filter(|other| is_same(other, row)).collect();
        let (title, value) = figure(row.workload);
        let mut name = format!("{:?}", row.workload).to_lowercase();
        let mut caption = title.to_owned();
        if row.link_us > 0.0 {
            name += "-link";
            caption += &format!(", link of {} ms", row.link_us / 1000.0);
        }
        draw(&bars(&of_chart, value), &caption, &folder.join(name + ".svg"))?;
    }
    Ok(drawn.len())
}

/// The figure of a run.
type Value = fn(&Row) -> Option<f64>;

/// What the chart of a workload shows.
fn figure(workload: Workload) -> (&'static str, Value) {
    match workload {
        Workload::W1 => ("W1: 128 bytes, delivered per second", |row| row.per_second),
        Workload::W2 => ("W2: 4 KiB, delivered per second", |row| row.per_second),
        Workload::W3 => ("W3: 128 bytes to 100 clients at each server, deliveries per second", |row| row.per_second),
        Workload::W4 => ("W4: 128 bytes, 1,000 a second, median latency in µs", |row| Some(row.latency_us?.p50)),
        Workload::W5 => ("W5: room on another server, processor time of a bystander in µs per message", |row| {
            Some(row.cpu_us?.bystander)
        }),
        Workload::W6 => ("W6: fetches of 2 × 1,000 sockets per second", |row| row.per_second),
        Workload::W7 => ("W7: 2 × 50 clients acknowledge, acknowledgements per second", |row| row.per_second),
    }
}

struct Bar {
    label: String,
    family: Family,
    value: f64,
}

/// One per broker and subject.
fn bars(rows: &[&Row], value: Value) -> Vec<Bar> {
    let mut brokers = Vec::new();
    for row in rows {
        if !brokers.contains(&row.broker) {
            brokers.push(row.broker);
        }
    }
    let of_broker = |broker| {
        let rows: Vec<_> = rows.iter().copied().filter(|row| row.broker == broker).collect();
        subjects(&rows).into_iter().map(move |(name, runs)| Bar {
            label: format!("{broker:?}: {name}"),
            family: runs[0].family,
            value: middle(&runs, value),
        })
    };
    brokers.into_iter().flat_map(of_broker).filter(|bar| bar.value.is_finite()).collect()
}

/// Horizontal bars, the first one at the top.
fn draw(bars: &[Bar], caption: &str, path: &Path) -> Result<(), Failure> {
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let height = 90 + 24 * u32::try_from(bars.len())?;
    let root = SVGBackend::new(path, (900, height)).into_drawing_area();
    let failed = |error: DrawingAreaErrorKind<_>| Failure::from(format!("cannot draw {}: {error}", path.display()));
    root.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(270)
        .build_cartesian_2d(0.0..most * 1.15, (0..bars.len()).into_segmented())
        .map_err(failed)?;
    // The axis runs upwards.
    let bar_at = |row: usize| bars.iter().rev().nth(row);
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(bars.len() + 1)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|row| match row {
            SegmentValue::CenterOf(row) => bar_at(*row).map(|bar| bar.label.clone()).unwrap_or_default(),
            _ => String::new(),
        })
        .draw()
        .map_err(failed)?;
    let all = || bars.iter().rev().enumerate();
    chart
        .draw_series(all().map(|(row, bar)| {
            let corners = [(0.0, SegmentValue::Exact(row)), (bar.value, SegmentValue::Exact(row + 1))];
            let mut rectangle = Rectangle::new(corners, colour(bar.family).filled());
            rectangle.set_margin(4, 4, 0, 0);
            rectangle
        }))
        .map_err(failed)?;
    chart
        .draw_series(all().map(|(row, bar)| {
            let at = (bar.value, SegmentValue::CenterOf(row));
            EmptyElement::at(at) + Text::new(number(bar.value), (6, -6), ("sans-serif", 13))
        }))
        .map_err(failed)?;
    root.present().map_err(failed)
}

fn colour(family: Family) -> RGBColor {
    match family {
        Family::Trunkline => RGBColor(31, 119, 180),
        Family::NodeJs => RGBColor(90, 160, 70),
        Family::Socketioxide => RGBColor(214, 120, 40),
        Family::Bare => RGBColor(160, 160, 160),
    }
}

/// A number as text, with decimals only where they say something.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || value >= 100.0 { grouped(value) } else { format!("{value:.1}") }
}
