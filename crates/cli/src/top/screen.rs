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
        let layout =
            Layout::vertical([Constraint::Length(4), Constraint::Length(6), Constraint::Min(3), Constraint::Length(1)]);
        let [head, chart, list, foot] = layout.areas(frame.area());
        frame.render_widget(Line::from(" q ends").dim(), foot);
        let Some(sample) = &self.sample else {
            return frame
                .render_widget(Paragraph::new("listening…").block(Block::bordered().title(" trunkline top ")), head);
        };
        let title = format!(" trunkline top: {} {} ", sample.backend, sample.namespace);
        let style = if sample.status() == Status::Ok { Style::new().green() } else { Style::new().yellow() };
        let summary = Paragraph::new(sample.summary()).wrap(Wrap { trim: true });
        frame.render_widget(summary.block(Block::bordered().title(title).border_style(style)), head);
        let width = usize::from(chart.width.saturating_sub(2));
        let rates: Vec<_> = self.rates.iter().rev().take(width).rev().copied().collect();
        let most = rates.iter().max().copied().unwrap_or_default();
        let title = format!(" messages a second, at most {most} ");
        frame.render_widget(Sparkline::default().data(rates).block(Block::bordered().title(title)), chart);
        let rows = sample.rows().into_iter().map(|row| {
            let is_bad = row[5] != "0" || row[7] == "NO ANSWER";
            Row::new(row).style(if is_bad { Style::new().red() } else { Style::new() })
        });
        let widths = [18, 10, 8, 8, 10, 8, 8, 11].map(Constraint::Length);
        let table = Table::new(rows, widths).header(Row::new(COLUMNS).bold());
        frame.render_widget(table.block(Block::bordered().title(" nodes ")), list);
    }
}
