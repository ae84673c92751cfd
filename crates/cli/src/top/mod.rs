//! `top`: nodes, rates, gaps, queues and round trips, now and again.

mod sample;
mod screen;

use std::{io::IsTerminal, time::Duration};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use self::{sample::Watch, screen::Screen};
use crate::{
    options::TopOptions,
    output::{Failure, Output, Status},
};

pub(crate) async fn top(options: TopOptions, output: &Output) -> Result<Status, Failure> {
    let is_once = options.once || output.is_json;
    if !is_once && !std::io::stdout().is_terminal() {
        return Err(Failure::usage("top needs a terminal; --once prints one sample and ends"));
    }
    let mut watch = Watch::start(&options).await?;
    if is_once {
        watch.listen(&options.listen).await;
        let sample = watch.next(options.interval).await;
        watch.end().await;
        output.result(sample.text(), &sample.json());
        return Ok(sample.status());
    }
    let shown = show(&mut watch, options.interval).await;
    watch.end().await;
    shown.map(|()| Status::Ok)
}

/// Draws samples until a key ends it.
async fn show(watch: &mut Watch, interval: Duration) -> Result<(), Failure> {
    let (pressed, mut keys) = mpsc::channel(16);
    std::thread::spawn(move || read_keys(&pressed));
    let mut terminal = ratatui::try_init().map_err(|error| Failure::critical(format!("no terminal: {error}")))?;
    let mut screen = Screen::default();
    let result = loop {
        if let Err(error) = terminal.draw(|frame| screen.draw(frame)) {
            break Err(Failure::critical(error.to_string()));
        }
        tokio::select! {
            sample = watch.next(interval) => screen.update(sample),
            key = keys.recv() => match key {
                Some(Key::Resize) => (),
                Some(Key::End) | None => break Ok(()),
            },
        }
    };
    ratatui::restore();
    result
}

enum Key {
    End,
    Resize,
}

/// Ends when nothing takes the keys any more, at the next one at the latest.
fn read_keys(keys: &mpsc::Sender<Key>) {
    while !keys.is_closed() {
        let key = match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if !is_interrupt && !matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    continue;
                }
                Key::End
            }
            Ok(Event::Resize(..)) => Key::Resize,
            Ok(_) => continue,
            Err(_) => Key::End,
        };
        if keys.blocking_send(key).is_err() {
            break;
        }
    }
}
