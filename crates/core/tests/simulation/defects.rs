//! Defects of the engine, to prove that the checks notice broken promises.

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

/// Adds a defect to the engines of a run, by changing what goes in and comes out.
#[derive(Debug, Default)]
pub(crate) struct DefectInjector {
    fault: Option<Defect>,
    delayed: Option<Output>,
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Serves some messages twice.
    ServesTwice,
    /// Serves some messages after the next one.
    ServesLate,
    /// Does not notice gaps.
    IgnoresSequenceNumbers,
    /// Reports larger gaps than there are.
    ReportsTooManyGaps,
    /// Ends requests before their deadline.
    EndsRequestsEarly,
    /// Asks to be woken too late.
    AsksToWakeLate,
    /// Acts before its deadline.
    ActsEarly,
    /// Takes silence for an answer.
    TakesSilenceForAnswers,
    /// Ignores some answers.
    IgnoresAnswers,
    /// Returns answers that no peer sent.
    InventsAnswers,
    /// Keeps cancelled requests.
    KeepsRequests,
    /// Ends requests twice.
    EndsRequestsTwice,
    /// Takes what arrived for everything.
    HidesMissingNodes,
    /// Ignores leave announcements.
    IgnoresLeaves,
    /// Detects silent nodes too early.
    DetectsSilenceEarly,
    /// Never detects silent nodes, because it takes its connection for lost.
    NeverDetectsSilence,
    /// Sends no heartbeats.
    SendsNoHeartbeats,
    /// Ignores the messages of one peer.
    IgnoresOnePeer,
}

impl DefectInjector {
    pub(crate) fn of(fault: Option<Defect>) -> Self {
        Self { fault, ..Self::default() }
    }

    fn every(&mut self, often: u64) -> bool {
        self.count += 1;
        self.count.is_multiple_of(often)
    }

    /// Returns the input that the engine gets instead, and its local time.
    pub(crate) fn input(&mut self, local: Micros, input: Input) -> Option<(Micros, Input)> {
        let Some(fault) = self.fault else { return Some((local, input)) };
        match (fault, input) {
            (Defect::IgnoresSequenceNumbers, Input::Delivery(Delivery::Message { from, offset, message, .. })) => {
                let message = match message {
                    Message::Heartbeat(mut heartbeat) => {
                        heartbeat.high_water_marks.clear();
                        Message::Heartbeat(heartbeat)
                    }
                    message => message,
                };
                Some((local, Input::Delivery(Delivery::Message { from, seq_no: None, offset, message })))
            }
            (Defect::ReportsTooManyGaps, Input::Delivery(Delivery::Message { from, mut seq_no, offset, message })) => {
                let shift = self.count;
                seq_no.iter_mut().for_each(|seq_no| seq_no.number += shift);
                self.count += u64::from(seq_no.is_some());
                Some((local, Input::Delivery(Delivery::Message { from, seq_no, offset, message })))
            }
            (Defect::EndsRequestsEarly, Input::Request(mut request)) => {
                request.deadline -= Duration::from_millis(5);
                Some((local, Input::Request(request)))
            }
            (Defect::IgnoresOnePeer, Input::Delivery(Delivery::Message { from: Some(from), .. }))
                if names::index(&from) == Some(0) =>
            {
                None
            }
            (Defect::IgnoresAnswers, Input::Delivery(Delivery::Response { .. })) if self.every(7) => None,
            (Defect::InventsAnswers, Input::Delivery(Delivery::Response { from, mut response })) => {
                if let Answer::ServerSideEmit(value) = &mut response.answer {
                    *value = Payload::event("n63", &()).ok();
                }
                Some((local, Input::Delivery(Delivery::Response { from, response })))
            }
            (Defect::KeepsRequests, Input::Cancel(_)) => None,
            (Defect::IgnoresLeaves, Input::Delivery(Delivery::Message { message: Message::Leaving, .. })) => None,
            (Defect::DetectsSilenceEarly, Input::Tick) => Some((local + 4 * SECOND, Input::Tick)),
            (_, input) => Some((local, input)),
        }
    }

    /// Collects the outputs of the engine, changed by the defect.
    pub(crate) fn outputs(&mut self, engine: &mut Engine, outputs: &mut Vec<Output>) {
        while let Some(output) = engine.poll_output() {
            match self.fault {
                None => outputs.push(output),
                Some(fault) => self.output(fault, engine, output, outputs),
            }
        }
    }

    fn output(&mut self, fault: Defect, engine: &mut Engine, output: Output, outputs: &mut Vec<Output>) {
        match (fault, output) {
            (Defect::ServesTwice, Output::Serve { from, message, offset }) if self.every(5) => {
                for _ in 0..2 {
                    let (from, message, offset) = (from.clone(), message.clone(), offset.clone());
                    outputs.push(Output::Serve { from, message, offset });
                }
            }
            (Defect::ServesLate, output @ Output::Serve { .. }) => match self.delayed.take() {
                Some(delayed) => outputs.extend([output, delayed]),
                None => self.delayed = Some(output),
            },
            (Defect::TakesSilenceForAnswers, Output::Publish(message)) => {
                if let Message::ServerSideEmit { request: Some(request), .. } = &message {
                    guess_answers(engine, request);
                }
                outputs.push(Output::Publish(message));
            }
            (Defect::EndsRequestsTwice, Output::Finished(id, result)) => {
                outputs.extend([Output::Finished(id.clone(), result.clone()), Output::Finished(id, result)]);
            }
            (Defect::HidesMissingNodes, Output::Finished(id, Err(error))) => {
                let received = error.clone().into_incomplete().map(|incomplete| incomplete.received);
                outputs.push(Output::Finished(id, received.ok_or(error)));
            }
            (Defect::SendsNoHeartbeats, Output::Publish(Message::Heartbeat(_))) => {}
            (Defect::NeverDetectsSilence, output @ Output::Publish(Message::Heartbeat(_))) => {
                engine.handle(Instant::now(), Input::Delivery(Delivery::Lost(String::new())));
                outputs.push(output);
            }
            (_, output) => outputs.push(output),
        }
    }

    /// The time at which the engine is woken.
    pub(crate) fn wake(&self, wake: Micros) -> Micros {
        if self.fault == Some(Defect::AsksToWakeLate) { wake + SECOND } else { wake }
    }

    /// The local time that an engine is told when it is ticked before its deadline.
    pub(crate) fn early_tick(&self, local: Micros) -> Micros {
        if self.fault == Some(Defect::ActsEarly) { local + 3 * SECOND } else { local }
    }
}

/// Answers in the name of every node that the request waits for.
fn guess_answers(engine: &mut Engine, request: &RequestId) {
    let nodes: Vec<_> = engine.members().cloned().collect();
    for node in nodes {
        let response = Response { request: request.clone(), answer: Answer::ServerSideEmit(None) };
        let answer = Delivery::Response { from: Some(node), response };
        engine.handle(Instant::now(), Input::Delivery(answer));
    }
}
