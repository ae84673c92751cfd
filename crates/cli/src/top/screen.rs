//! [`Screen`]: the dashboard on a terminal.

use std::collections::VecDeque;

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Style, Stylize},
    text::Line,
    widgets::{Block, Paragraph, Row, Sparkline, Table, Wrap},
};

use super::sample::{COLUMNS, Sample};
use crate::output::Status;

/// The last sample, and the rates before it.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    sample: Option<Sample>,
    rates: VecDeque<u64>,
}

/// As many rates are kept.
const RATES: usize = 512;

impl Screen {
    pub(crate) fn update(&mut self, sample: Sample) {
        if self.rates.len() == RATES {
            self.rates.pop_front();
        }
        self.rates.push_back(sample.rate().round() as u64);
        self.sample = Some(sample);
    }

    pub(crate) fn draw(&self, frame: &mut Frame) {
        let summary = self.sample.as_ref().map(Sample::summary).unwrap_or_default();
        let lines = lines_of(&summary, usize::from(frame.area().width.saturating_sub(2)));
        let layout = Layout::vertical([
            Constraint::Length(lines + 2),
            Constraint::Length(6),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [head, chart, list, foot] = layout.areas(frame.area());
        frame.render_widget(Line::from(" q ends").dim(), foot);
        let Some(sample) = &self.sample else {
            return frame
                .render_widget(Paragraph::new("listening…").block(Block::bordered().title(" trunkline top ")), head);
        };
        let title = format!(" trunkline top: {} {} ", sample.backend, sample.namespace);
        let style = match sample.status() {
            Status::Ok => Style::new().green(),
            Status::Warning => Style::new().yellow(),
            _ => Style::new().red(),
        };
        let summary = Paragraph::new(summary).wrap(Wrap { trim: true });
        frame.render_widget(summary.block(Block::bordered().title(title).border_style(style)), head);
        let width = usize::from(chart.width.saturating_sub(2));
        let rates: Vec<_> = self.rates.iter().rev().take(width).rev().copied().collect();
        let most = rates.iter().max().copied().unwrap_or_default();
        let title = format!(" messages a second, at most {most} ");
        frame.render_widget(Sparkline::default().data(rates).block(Block::bordered().title(title)), chart);
        let width = usize::from(list.width.saturating_sub(2 + WIDTHS.iter().sum::<u16>() + WIDTHS.len() as u16));
        let rows = sample.rows();
        let longest = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or_default().max(COLUMNS[0].len());
        let shown = usize::from(list.height.saturating_sub(3));
        let title = match rows.len() {
            all if all > shown => format!(" nodes: {shown} of {all} "),
            _ => " nodes ".to_owned(),
        };
        let rows = rows.into_iter().map(|mut row| {
            let is_bad = row[MISSING] != "0" || row[ROUND_TRIP] == "NO ANSWER";
            row[0] = cut(&row[0], width);
            line_of(row).style(if is_bad { Style::new().red() } else { Style::new() })
        });
        let widths =
            std::iter::once(Constraint::Length(longest.min(width) as u16)).chain(WIDTHS.map(Constraint::Length));
        let table = Table::new(rows, widths).header(line_of(COLUMNS.map(str::to_owned)).bold());
        frame.render_widget(table.block(Block::bordered().title(title)), list);
    }
}

/// Widths of the columns behind the names, which have what is left: 8 characters on 80.
const WIDTHS: [u16; 9] = [9, 7, 6, 7, 7, 5, 5, 6, 9];

const MISSING: usize = 5;

const ROUND_TRIP: usize = 9;

/// Numbers stand below each other by their last digit.
fn line_of(cells: impl IntoIterator<Item = String>) -> Row<'static> {
    let cells = cells.into_iter().enumerate().map(|(column, cell)| {
        let line = Line::from(cell);
        if column < FIRST_NUMBER { line } else { line.right_aligned() }
    });
    Row::new(cells.collect::<Vec<_>>())
}

const FIRST_NUMBER: usize = 2;

/// A name that is too long shows that it is.
fn cut(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Number of lines that the words of a text fill.
fn lines_of(text: &str, width: usize) -> u16 {
    let (mut lines, mut used) = (1, 0);
    for word in text.split(' ').map(|word| word.chars().count()) {
        if used > 0 && used + 1 + word > width {
            (lines, used) = (lines + 1, 0);
        }
        used += word + usize::from(used > 0);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_lines_are_counted() {
        assert_eq!((cut("abc", 3).as_str(), cut("abcd", 3).as_str()), ("abc", "ab…"));
        assert_eq!((lines_of("", 10), lines_of("one two", 7), lines_of("one two", 6)), (1, 1, 2));
    }
}
