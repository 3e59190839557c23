//! What a driver is connected to in the simulator: it collects, and the world carries out.

use std::cell::RefCell;
use std::rc::Rc;

use quorate::apply::{ApplyTask, Reading, Respond};
use quorate::driver::{Driver, Failure, InputOf, Ports};
use quorate::sessions;
use quorate_raft::{EntryId, Envelope, Event, ReadLog, SendSnapshot, Write};

use crate::clients::{RequestId, Word};
use crate::history::{Key, Value};
use crate::registers::Response;
use crate::safety::Step;

/// A query, and who asked it.
pub(crate) type Asked = Reading<Key, Caller>;
/// What the apply side is to do.
pub(crate) type Task = ApplyTask<Caller, Asked>;
/// What a simulated node's driver takes.
pub(crate) type Input = InputOf<Collected>;
/// A simulated node's driver.
pub(crate) type SimDriver = Driver<Collected>;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Responded(RequestId, Response),
    Read(RequestId, Option<Value>),
    Session(RequestId, Word),
    Failed(RequestId, Failure),
    Operator(RequestId, Result<(), Failure>),
}

/// Where a node leaves what it tells clients.
pub(crate) type Outbox = Rc<RefCell<Vec<Reply>>>;

/// Who asked, and where the answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) request: RequestId,
    pub(crate) outbox: Outbox,
}

/// Everything a driver handed over since it was taken last.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) step: Step,
    pub(crate) jobs: Vec<LogJob>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) log_reads: Vec<ReadLog>,
    pub(crate) snapshots: Vec<SendSnapshot>,
    pub(crate) outbox: Outbox,
}

/// What the log is to do, in order.
#[derive(Clone, Debug)]
pub(crate) enum LogJob {
    Write(Write),
    Compact(EntryId),
}

impl Collected {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            ..Self::default()
        }
    }

    /// Takes everything, and goes on collecting.
    pub(crate) fn take(&mut self) -> Self {
        let outbox = Rc::clone(&self.outbox);
        std::mem::replace(self, Self::new(outbox))
    }

    fn reply(&self, reply: Reply) {
        self.outbox.borrow_mut().push(reply);
    }
}

impl Ports for Collected {
    type Proposer = Caller;
    type Reader = Asked;
    type Operator = Caller;

    fn send(&mut self, envelope: Envelope) {
        self.step.sends.push(envelope);
    }

    fn write(&mut self, write: Write) {
        self.step.writes.push(write.clone());
        self.jobs.push(LogJob::Write(write));
    }

    fn apply(&mut self, task: Task) {
        self.tasks.push(task);
    }

    fn read_log(&mut self, request: ReadLog) {
        self.log_reads.push(request);
    }

    fn send_snapshot(&mut self, request: SendSnapshot) {
        self.snapshots.push(request);
    }

    fn compact(&mut self, upto: EntryId) {
        self.jobs.push(LogJob::Compact(upto));
    }

    fn observe(&mut self, event: &Event) {
        self.step.events.push(event.clone());
    }

    fn proposal_failed(&mut self, proposer: Caller, failure: Failure) {
        self.reply(Reply::Failed(proposer.request, failure));
    }

    fn read_failed(&mut self, reader: Asked, failure: Failure) {
        self.reply(Reply::Failed(reader.responder.request, failure));
    }

    fn operation_ended(&mut self, operator: Caller, result: Result<(), Failure>) {
        self.reply(Reply::Operator(operator.request, result));
    }
}

impl Respond<sessions::Reply<Response>> for Caller {
    fn respond(self, reply: sessions::Reply<Response>) {
        let request = self.request;
        self.outbox.borrow_mut().push(match reply {
            sessions::Reply::Applied(response) => Reply::Responded(request, response),
            sessions::Reply::Opened(id) => Reply::Session(request, Word::Opened(id)),
            sessions::Reply::Done => Reply::Session(request, Word::Done),
            sessions::Reply::Refused(refusal) => Reply::Session(request, Word::Refused(refusal)),
        });
    }
}

impl Respond<Option<Value>> for Caller {
    fn respond(self, value: Option<Value>) {
        let reply = Reply::Read(self.request, value);
        self.outbox.borrow_mut().push(reply);
    }
}
