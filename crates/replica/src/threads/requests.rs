//! Who waits for what in a running node: the far ends are futures in [`crate::Replica`].

use tokio::sync::oneshot;

use crate::apply::{Reading, Respond};
use crate::driver::{DriverInput, Failure};
use crate::machine::Machine;

/// Waits for what applying a command gives back.
pub(crate) struct Proposer<M: Machine>(pub(crate) oneshot::Sender<Result<M::Response, Failure>>);

/// Waits for the answer to a query, or has the query back.
pub(crate) struct Asker<M: Machine>(oneshot::Sender<Result<M::Answer, Refused<M::Query>>>);

/// A query that was not answered.
pub(crate) struct Refused<Q> {
    pub(crate) query: Q,
    pub(crate) failure: Failure,
}

/// Waits for the end of a transfer of leadership.
pub(crate) struct Operator(pub(crate) oneshot::Sender<Result<(), Failure>>);

pub(crate) type Reader<M> = Reading<<M as Machine>::Query, Asker<M>>;
pub(crate) type Request<M> = DriverInput<Proposer<M>, Reader<M>, Operator>;

pub(crate) type Answered<M> = Result<<M as Machine>::Answer, Refused<<M as Machine>::Query>>;

// Whoever waited may have given up meanwhile: an answer that nobody takes is dropped.

impl<M: Machine> Proposer<M> {
    pub(crate) fn fail(self, failure: Failure) {
        let _ = self.0.send(Err(failure));
    }
}

impl<M: Machine> Respond<M::Response> for Proposer<M> {
    fn respond(self, response: M::Response) {
        let _ = self.0.send(Ok(response));
    }
}

impl<M: Machine> Asker<M> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Answered<M>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

impl<M: Machine> Respond<M::Answer> for Asker<M> {
    fn respond(self, answer: M::Answer) {
        let _ = self.0.send(Ok(answer));
    }
}

pub(crate) fn refuse<M: Machine>(reader: Reader<M>, failure: Failure) {
    let Reading { query, responder } = reader;
    let _ = responder.0.send(Err(Refused { query, failure }));
}

impl Operator {
    pub(crate) fn end(self, result: Result<(), Failure>) {
        let _ = self.0.send(result);
    }
}
