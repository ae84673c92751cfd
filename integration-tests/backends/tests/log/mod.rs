//! What is logged in this process, for a test to look at.

// Each test uses what it needs.
#![allow(dead_code)]

use std::{
    fmt::{self, Write as _},
    mem,
    sync::{Arc, Mutex},
};

use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// What was logged at `info` and above.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Line>>>);

/// A line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) text: String,
}

impl Log {
    /// One that hears everything in this process.
    pub(crate) fn install() -> Self {
        let log = Self::default();
        tracing_subscriber::registry().with(log.clone()).init();
        log
    }

    /// What was logged since the last call.
    pub(crate) fn take(&self) -> Vec<Line> {
        mem::take(&mut *self.0.lock().unwrap())
    }

    /// Lines that contain a text, from the beginning on.
    pub(crate) fn containing(&self, text: &str) -> Vec<Line> {
        self.0.lock().unwrap().iter().filter(|line| line.text.contains(text)).cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return;
        }
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            let _ = write!(text, "{field}={value:?} ");
        });
        let line = Line { level: *metadata.level(), target: metadata.target().to_owned(), text };
        self.0.lock().unwrap().push(line);
    }
}
