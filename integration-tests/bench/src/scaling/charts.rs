//! The results as Markdown tables and SVG charts.

use std::{fmt::Write, fs, path::Path};

use plotters::prelude::*;

use super::figures::{Figure, Quantity};
use crate::{Failure, charts::number, results};

/// Prints one table per quantity, and draws the charts of what grows.
pub(crate) fn report(results: &Path, folder: &Path) -> Result<(), Failure> {
    let figures: Vec<Figure> = results::read(results)?;
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    for quantity in Quantity::ALL {
        let of_quantity: Vec<_> = figures.iter().filter(|figure| figure.quantity == quantity).collect();
        if of_quantity.is_empty() {
            continue;
        }
        println!("### {}\n", quantity.title());
        if let Some(name) = quantity.chart() {
            let file = Path::new(name).with_extension("svg");
            draw(quantity.title(), &of_quantity, &folder.join(&file))?;
            let place = Path::new(folder.file_name().unwrap_or_default()).join(file);
            println!("![{}]({})\n", quantity.title(), place.display());
        }
        println!("{}", table(quantity.of(), &of_quantity));
    }
    Ok(())
}

/// A line for each source, a column for each number of what is counted.
fn table(counted: &str, figures: &[&Figure]) -> String {
    let mut sizes: Vec<_> = figures.iter().map(|figure| figure.nodes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let columns: String = sizes.iter().map(|nodes| format!(" {nodes} |")).collect();
    let mut table = format!("| {counted} |{columns}\n|---|{}\n", "---:|".repeat(sizes.len()));
    for source in sources(figures) {
        let value = |nodes: &usize| figures.iter().find(|figure| figure.source == source && figure.nodes == *nodes);
        let cells = sizes.iter().map(|nodes| value(nodes).map_or("–".into(), |figure| precise(figure.value)));
        let cells: String = cells.map(|cell| format!(" {cell} |")).collect();
        let _ = writeln!(table, "| {source} |{cells}");
    }
    table
}

fn sources<'a>(figures: &[&'a Figure]) -> Vec<&'a str> {
    let mut sources = Vec::new();
    for figure in figures {
        if !sources.contains(&figure.source.as_str()) {
            sources.push(&figure.source);
        }
    }
    sources
}

fn precise(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 { format!("{value:.3}") } else { number(value) }
}

/// Both axes are logarithmic.
fn draw(caption: &str, figures: &[&Figure], path: &Path) -> Result<(), Failure> {
    let failed = |error: DrawingAreaErrorKind<_>| Failure::from(format!("cannot draw {}: {error}", path.display()));
    let values = || figures.iter().map(|figure| figure.value).filter(|value| *value > 0.0);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::MIN_POSITIVE, f64::max));
    let nodes = || figures.iter().map(|figure| figure.nodes as f64);
    let (fewest, largest) = (nodes().fold(f64::INFINITY, f64::min), nodes().fold(0.0, f64::max));
    let root = SVGBackend::new(path, (900, 440)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d((fewest * 0.9..largest * 1.1).log_scale().base(2.0), (least * 0.8..most * 1.25).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("nodes")
        .x_label_formatter(&|nodes| format!("{nodes:.0}"))
        .y_label_formatter(&|value| precise(*value))
        .draw()
        .map_err(failed)?;
    for (index, source) in sources(figures).into_iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let points: Vec<_> = figures
            .iter()
            .filter(|figure| figure.source == source && figure.value > 0.0)
            .map(|figure| (figure.nodes as f64, figure.value))
            .collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))
            .map_err(failed)?
            .label(source)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(failed)?;
    root.present().map_err(failed)
}
