//! Engines that break their promises, to prove that the checks notice.

use std::time::{Duration, Instant};

use trunkline_core::{
    Answer, Message, Payload, RequestId, Response,
    engine::{Engine, Input, Output},
    model::Delivery,
};

use crate::{
    names,
    scenario::{Micros, SECOND},
};

/// What is wrong with the engines of a run.
#[derive(Debug, Default)]
pub(crate) struct Tamper {
    fault: Option<Fault>,
    held: Option<Output>,
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Serves some messages twice.
    ServesTwice,
    /// Serves some messages after the next one.
    ServesLate,
    /// Does not notice holes.
    IgnoresNumbers,
    /// Reports more holes than there are.
    SeesHoles,
    /// Gives requests up before their deadline.
    GivesUp,
    /// Asks to be woken too late.
    Oversleeps,
    /// Does something before its deadline.
    ActsEarly,
    /// Takes silence for an answer.
    GuessesAnswers,
    /// Does not take answers in.
    IgnoresAnswers,
    /// Returns answers that were not given.
    InventsAnswers,
    /// Keeps requests whose caller is gone.
    KeepsRequests,
    /// Ends requests twice.
    EndsTwice,
    /// Does not hear goodbyes.
    IgnoresLeaves,
    /// Gives nodes up too early.
    Impatient,
    /// Gives nobody up, because it believes its connection to be away.
    Patient,
    /// Sends no heartbeats.
    Mute,
    /// Does not hear what one of its peers says.
    IgnoresOne,
}

impl Tamper {
    pub(crate) fn of(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    fn every(&mut self, often: u64) -> bool {
        self.count += 1;
        self.count.is_multiple_of(often)
    }

    /// What the engine gets to see, and when it believes that it is.
    pub(crate) fn input(&mut self, local: Micros, input: Input) -> Option<(Micros, Input)> {
        let Some(fault) = self.fault else { return Some((local, input)) };
        match (fault, input) {
            (Fault::IgnoresNumbers, Input::Delivery(Delivery::Message { from, offset, message, .. })) => {
                let message = match message {
                    Message::Heartbeat(mut heartbeat) => {
                        heartbeat.high_water_marks.clear();
                        Message::Heartbeat(heartbeat)
                    }
                    message => message,
                };
                Some((local, Input::Delivery(Delivery::Message { from, seq_no: None, offset, message })))
            }
            (Fault::SeesHoles, Input::Delivery(Delivery::Message { from, mut seq_no, offset, message })) => {
                let shift = self.count;
                seq_no.iter_mut().for_each(|seq_no| seq_no.number += shift);
                self.count += u64::from(seq_no.is_some());
                Some((local, Input::Delivery(Delivery::Message { from, seq_no, offset, message })))
            }
            (Fault::GivesUp, Input::Request(mut request)) => {
                request.deadline -= Duration::from_millis(5);
                Some((local, Input::Request(request)))
            }
            (Fault::IgnoresOne, Input::Delivery(Delivery::Message { from: Some(from), .. }))
                if names::index(&from) == Some(0) =>
            {
                None
            }
            (Fault::IgnoresAnswers, Input::Delivery(Delivery::Response { .. })) if self.every(7) => None,
            (Fault::InventsAnswers, Input::Delivery(Delivery::Response { from, mut response })) => {
                if let Answer::ServerSideEmit(value) = &mut response.answer {
                    *value = Payload::event("n63", &()).ok();
                }
                Some((local, Input::Delivery(Delivery::Response { from, response })))
            }
            (Fault::KeepsRequests, Input::Cancel(_)) => None,
            (Fault::IgnoresLeaves, Input::Delivery(Delivery::Message { message: Message::Leaving, .. })) => None,
            (Fault::Impatient, Input::Tick) => Some((local + 8 * SECOND, Input::Tick)),
            (_, input) => Some((local, input)),
        }
    }

    /// What comes out of the engine, and what is made of it.
    pub(crate) fn outputs(&mut self, engine: &mut Engine, outputs: &mut Vec<Output>) {
        while let Some(output) = engine.poll_output() {
            match self.fault {
                None => outputs.push(output),
                Some(fault) => self.output(fault, engine, output, outputs),
            }
        }
    }

    fn output(&mut self, fault: Fault, engine: &mut Engine, output: Output, outputs: &mut Vec<Output>) {
        match (fault, output) {
            (Fault::ServesTwice, Output::Serve { from, message, offset }) if self.every(5) => {
                for _ in 0..2 {
                    let (from, message, offset) = (from.clone(), message.clone(), offset.clone());
                    outputs.push(Output::Serve { from, message, offset });
                }
            }
            (Fault::ServesLate, output @ Output::Serve { .. }) => match self.held.take() {
                Some(held) => outputs.extend([output, held]),
                None => self.held = Some(output),
            },
            (Fault::GuessesAnswers, Output::Publish(message)) => {
                if let Message::ServerSideEmit { request: Some(request), .. } = &message {
                    guess_answers(engine, request);
                }
                outputs.push(Output::Publish(message));
            }
            (Fault::EndsTwice, Output::Finished(id, result)) => {
                outputs.extend([Output::Finished(id.clone(), result.clone()), Output::Finished(id, result)]);
            }
            (Fault::Mute, Output::Publish(Message::Heartbeat(_))) => {}
            (Fault::Patient, output @ Output::Publish(Message::Heartbeat(_))) => {
                engine.handle(Instant::now(), Input::Delivery(Delivery::Lost(String::new())));
                outputs.push(output);
            }
            (_, output) => outputs.push(output),
        }
    }

    /// When the engine is woken.
    pub(crate) fn wake(&self, wake: Micros) -> Micros {
        if self.fault == Some(Fault::Oversleeps) { wake + SECOND } else { wake }
    }

    /// When an engine that is ticked too early believes that it is.
    pub(crate) fn early_tick(&self, local: Micros) -> Micros {
        if self.fault == Some(Fault::ActsEarly) { local + 3 * SECOND } else { local }
    }
}

/// Answers in the name of every node that is waited for.
fn guess_answers(engine: &mut Engine, request: &RequestId) {
    let nodes: Vec<_> = engine.members().cloned().collect();
    for node in nodes {
        let response = Response { request: request.clone(), answer: Answer::ServerSideEmit(None) };
        let answer = Delivery::Response { from: Some(node), response };
        engine.handle(Instant::now(), Input::Delivery(answer));
    }
}
