//! `tap`: the traffic of a cluster, decoded and live.

mod entry;
mod listener;
mod numbers;
mod presence;
mod tally;

use std::{io::IsTerminal, time::Duration};

use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use trunkline::{Backend, Room};

use self::{
    entry::Entry,
    presence::{Presence, SILENCE},
    tally::Tally,
};
pub(crate) use self::{
    listener::{Heard, Listener},
    numbers::Numbers,
};
use crate::{
    broker,
    echo::{Echo, quantile},
    options::{EntryType, TapOptions},
    output::{Failure, NOTHING_HEARD, Output, Status, counted, print},
};

pub(crate) async fn tap(options: TapOptions, output: &Output) -> Result<Status, Failure> {
    let backend = broker::connect_to_listen(&options.broker).await?;
    let (sender, mut heard) = mpsc::channel(1_000);
    for namespace in &options.namespace {
        let mut listener = Listener::join(&options.broker, &backend, namespace).await?;
        // A room that was named is heard from the first message on.
        listener.enter(options.room.iter().map(|room| Room::new(room.as_str()))).await?;
        tokio::spawn(listener.run(sender.clone()));
    }
    drop(sender);
    let (echoes, mut measured) = mpsc::channel(1);
    if options.latency {
        tokio::spawn(measure(options.broker.clone(), backend.clone(), echoes.clone()));
    }
    let mut view = View::new(&options, output.is_json, backend.transport.capabilities().numbered);
    view.begin(backend.name);
    let end = async {
        match options.duration {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    while !view.is_complete() {
        tokio::select! {
            next = heard.recv() => match next {
                Some(heard) => view.heard(&heard),
                None => return Err(Failure::critical("the connection to the broker has ended")),
            },
            Some(time) = measured.recv() => view.measured(time),
            _ = seconds.tick() => view.notice_silence(),
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // The listeners leave when nothing takes what they hear.
    heard.close();
    while heard.recv().await.is_some() {}
    broker::close(&backend).await;
    drop(echoes);
    Ok(view.end())
}

/// Sends a message of its own through the broker and back, once a second.
async fn measure(url: String, backend: Backend, times: mpsc::Sender<Option<Duration>>) -> Result<(), Failure> {
    let mut echo = Echo::open(&url, &backend).await?;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = seconds.tick() => (),
            () = times.closed() => break,
        }
        let time = echo.time().await?;
        if times.send(time).await.is_err() {
            break;
        }
    }
    echo.close().await;
    Ok(())
}

/// What is shown and counted.
struct View<'a> {
    options: &'a TapOptions,
    is_jsonl: bool,
    is_coloured: bool,
    /// Whether every node gets every number.
    is_numbered: bool,
    numbers: Numbers,
    presence: Presence,
    tally: Option<Tally>,
    messages: u64,
    gaps: u64,
    times: Vec<Duration>,
    began: Instant,
}

impl<'a> View<'a> {
    fn new(options: &'a TapOptions, is_json: bool, is_numbered: bool) -> Self {
        Self {
            options,
            is_jsonl: options.jsonl || is_json,
            is_coloured: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            is_numbered,
            numbers: Numbers::default(),
            presence: Presence::default(),
            tally: options.report.map(Tally::new),
            messages: 0,
            gaps: 0,
            times: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Says, beside the results, that the subscription is there: from now on everything is heard.
    fn begin(&self, backend: &str) {
        let namespaces = self.options.namespace.join(", ");
        eprintln!("listening on {backend} in {namespaces}; ^C ends");
    }

    fn is_complete(&self) -> bool {
        self.options.count.is_some_and(|count| self.messages >= count)
    }

    fn heard(&mut self, heard: &Heard) {
        if let Some((sender, missing)) = self.numbers.missing(&heard.namespace, &heard.delivery)
            && self.is_numbered
        {
            let note = format!("{} of this sender missing before the next one", counted(missing as usize, "message"));
            self.show(&Entry::note(EntryType::Gap, heard.namespace.as_str(), Some(sender.to_string()), note));
        }
        self.presence.heard(heard);
        if let Some(entry) = Entry::of(heard) {
            self.show(&entry);
        }
    }

    fn notice_silence(&mut self) {
        for (namespace, node) in self.presence.silent() {
            let note = format!("nothing heard for {SILENCE:?}: frozen, cut off, or killed");
            self.show(&Entry::note(EntryType::Silent, namespace.as_str(), Some(node.to_string()), note));
        }
    }

    fn is_unfiltered(&self) -> bool {
        let TapOptions { room, event, sender, kind, .. } = self.options;
        [room, event, sender].iter().all(|names| names.is_empty()) && kind.is_empty()
    }

    fn measured(&mut self, time: Option<Duration>) {
        let note = match time {
            Some(time) => format!("{time:.1?} through the broker and back"),
            None => "a message of its own did not come back in time".to_owned(),
        };
        self.times.extend(time);
        self.show(&Entry::note(EntryType::Latency, crate::echo::NAMESPACE, None, note));
    }

    fn show(&mut self, entry: &Entry) {
        if !entry.is_wanted(self.options) {
            return;
        }
        match entry.kind {
            EntryType::Gap => self.gaps += 1,
            EntryType::Silent | EntryType::Latency => (),
            _ => self.messages += 1,
        }
        let is_message = !matches!(entry.kind, EntryType::Silent | EntryType::Gap | EntryType::Latency);
        match &mut self.tally {
            Some(tally) if is_message => tally.add(entry),
            Some(_) => (),
            None if self.is_jsonl => print(format_args!("{}\n", entry.json(self.options.payload))),
            None => print(format_args!("{}\n", entry.text(self.options.payload, self.is_coloured))),
        }
    }

    /// Prints the report, and says whether messages were missing.
    fn end(mut self) -> Status {
        let status = if self.gaps > 0 { Status::Warning } else { Status::Ok };
        self.times.sort_unstable();
        let latency = quantile(&self.times, 0.5).zip(quantile(&self.times, 0.99));
        if let Some(tally) = &self.tally {
            if self.is_jsonl {
                let mut json = tally.json();
                json["gaps"] = json!(self.gaps);
                json["status"] = json!(status.word());
                json["latency"] =
                    json!(latency.map(|(p50, p99)| json!({ "p50": p50.as_secs_f64(), "p99": p99.as_secs_f64() })));
                print(format_args!("{json:#}\n"));
            } else {
                print(format_args!("{}\n", tally.text()));
            }
        }
        let latency = latency.map_or(String::new(), |(p50, p99)| format!("; latency {p50:.1?} (p50), {p99:.1?} (p99)"));
        let seconds = self.began.elapsed().as_secs_f64();
        let hint = if self.messages == 0 && self.is_unfiltered() { NOTHING_HEARD } else { "" };
        eprintln!(
            "{} in {seconds:.1} s, {}{latency}{hint}",
            counted(self.messages as usize, "message"),
            counted(self.gaps as usize, "gap")
        );
        status
    }
}
