//! The trace of a run, step by step, for debugging.

use trunkline_core::{
    Answer, Heartbeat, Message,
    engine::{Gathered, Input, Output},
    model::{Delivery, SeqNo},
};

use crate::scenario::{Action, Micros, seconds};

/// Lines of a trace; none are written while it is off.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    is_on: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    pub(crate) fn off() -> Self {
        Self::default()
    }

    pub(crate) fn on() -> Self {
        Self { is_on: true, lines: Vec::new() }
    }

    pub(crate) fn action(&mut self, now: Micros, action: Action) {
        if self.is_on {
            self.lines.push(format!("{} {action:?}", seconds(now)));
        }
    }

    pub(crate) fn input(&mut self, now: Micros, node: usize, input: &Input) {
        if self.is_on {
            self.lines.push(format!("{}   n{node:02} <- {}", seconds(now), show_input(input)));
        }
    }

    pub(crate) fn outputs(&mut self, outputs: &[Output]) {
        if self.is_on {
            self.lines.extend(outputs.iter().map(|output| format!("{:14}-> {}", "", show_output(output))));
        }
    }
}

fn show_input(input: &Input) -> String {
    match input {
        Input::Delivery(Delivery::Message { from, seq_no, message, .. }) => {
            let from = from.as_ref().map_or("emitter", |from| from.as_str());
            format!("{from}: {}{}", show_message(message), show_stamp(*seq_no))
        }
        Input::Delivery(Delivery::Skipped { from, seq_no }) => {
            format!("{from}: a skipped message{}", show_stamp(*seq_no))
        }
        Input::Delivery(Delivery::Response { from, response }) => {
            let from = from.as_ref().map_or("a node without id", |from| from.as_str());
            format!("{from} answers {}: {}", response.request, show_answer(&response.answer))
        }
        Input::LocalAnswer { to, request, answer } => {
            let to = to.as_ref().map_or("own", |to| to.as_str());
            format!("own clients answer {to} {request}: {}", show_answer(answer))
        }
        Input::Request(request) => format!("ask {} {:?}", request.id, request.gather),
        input => format!("{input:?}"),
    }
}

fn show_stamp(seq_no: Option<SeqNo>) -> String {
    seq_no.map(|seq_no| format!(" #{} on {}", seq_no.number, seq_no.channel.0)).unwrap_or_default()
}

fn show_output(output: &Output) -> String {
    match output {
        Output::Publish(message) => format!("publish {}", show_message(message)),
        Output::Send(to, response) => format!("answer {to} {}: {}", response.request, show_answer(&response.answer)),
        Output::Serve { from, message, .. } => format!("serve {from}: {}", show_message(message)),
        Output::Finished(id, Ok(gathered)) => format!("{id} succeeds: {}", show_gathered(gathered)),
        Output::Finished(id, Err(error)) => format!("{id} fails: {error}"),
        output => format!("{output:?}"),
    }
}

fn show_message(message: &Message) -> String {
    match message {
        Message::Heartbeat(Heartbeat { initial, high_water_marks, .. }) => {
            let marks: Vec<_> = high_water_marks.iter().map(|seq_no| (seq_no.channel.0, seq_no.number)).collect();
            format!("{} {marks:?}", if *initial { "hello" } else { "heartbeat" })
        }
        message => {
            let name = format!("{message:?}");
            let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
            message.request().map(|request| format!("{name} {request}")).unwrap_or(name)
        }
    }
}

fn show_gathered(gathered: &Gathered) -> String {
    let Gathered { sockets, rooms, values, acks, answered_at: _, echo: _ } = gathered;
    let sockets: Vec<_> = sockets.iter().map(|socket| socket.id.as_str()).collect();
    format!("sockets {sockets:?}, rooms {rooms:?}, {} values, {acks:?}", values.len())
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Sockets(sockets) => format!("{} sockets", sockets.len()),
        answer => format!("{answer:?}"),
    }
}
