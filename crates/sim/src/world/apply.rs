//! The state machine's side of a node: what production has an apply thread and a snapshot writer for.

use std::time::Duration;

use quorate::driver::DriverInput;
use quorate::machine::Machine;
use quorate::storage::StorageError;
use quorate_raft::NodeId;

use super::{Happening, SLOW, World};
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::ports::{Caller, Task};
use crate::replicated::{Replicated, content};
use crate::server::{Life, Process, Saving};

impl World {
    /// Begins the next task, if none is being carried out.
    pub(super) fn apply_later(&mut self, node: NodeId, life: Life) {
        let is_slow = self.servers[&node].slow_until > self.now();
        let longest = self.profile.node.apply + if is_slow { SLOW } else { Duration::ZERO };
        let server = self.server(node);
        let after = server.rng.span(Duration::ZERO, longest);
        let Some(process) = server.process_of(life) else {
            return;
        };
        if process.apply.begin() {
            self.schedule.after(after, Happening::Apply(node, life));
        }
    }

    /// Carries out a task, and reports what it came to.
    pub(super) fn apply(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let task = process
            .apply
            .take()
            .expect("an apply side that is busy has a task");
        self.check_task(node, &task)?;
        let now = self.now();
        let applier = &mut self.running(node).apply.applier;
        applier.machine_mut().machine_mut().tell_time(now);
        let applied = applier.process(task);
        let progress = applied.map_err(|error| Violation {
            invariant: Invariant::Assertion,
            detail: format!("{node} cannot apply: {error}"),
        })?;
        let machine = self.running(node).apply.applier.machine_mut();
        let content = content(machine);
        let has_sessions = !machine.table().is_empty();
        let machine = machine.machine_mut();
        let (states, state) = (machine.take_states(), machine.state());
        let executions = machine.take_executions();
        for (index, state) in states {
            self.safety.in_state(node, index, state)?;
        }
        for execution in executions {
            self.executions.ran(node, execution)?;
        }
        self.answer(node, life)?;
        // Sessions leave no mark in the registers' own hash.
        self.safety.holds(node, progress.applied, content)?;
        if let Some(id) = progress.restored {
            if id.index == progress.applied {
                self.safety.in_state(node, id.index, state)?;
            }
            if has_sessions {
                self.marks.reach(Mark::SessionsRestored);
            }
            if let Err(error) = self.running(node).snapshots.prune() {
                return self.stop_failed(node, &error);
            }
            self.give(node, life, DriverInput::Restored(id))?;
        }
        self.give(node, life, DriverInput::Applied(progress.applied))?;
        self.begin_save(node, life)?;
        self.apply_later(node, life);
        Ok(())
    }

    /// Writes a chunk of the snapshot being made, or ends it.
    pub(super) fn save(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let chunk_bytes = self.profile.node.chunk_bytes;
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        match process.write_chunk(chunk_bytes) {
            Ok(Saved::More) => {
                let after = self.disk_time(node);
                self.schedule.after(after, Happening::Save(node, life));
                Ok(())
            }
            Ok(Saved::GivenUp) => Ok(()),
            Ok(Saved::Whole(saving)) => self.finish_save(node, life, *saving),
            Err(error) => self.snapshot_failed(node, &error),
        }
    }

    fn begin_save(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let applier = &mut process.apply.applier;
        if process.apply.saving.is_some() || !applier.snapshot_due() {
            return Ok(());
        }
        let machine = applier.machine();
        let (state, content) = (machine.machine().state(), content(machine));
        let Some(meta) = applier.begin_snapshot() else {
            return Ok(());
        };
        match process.snapshots.create(&meta) {
            Ok(writer) => {
                process.apply.saving = Some(Saving {
                    meta: meta.clone(),
                    writer,
                })
            }
            // The very same snapshot is being received: one of the two is enough.
            Err(StorageError::Busy { .. }) => {
                applier.snapshot_ended();
                self.marks.reach(Mark::SnapshotBusy);
            }
            Err(error) => return self.snapshot_failed(node, &error),
        }
        self.safety.in_state(node, meta.id.index, state)?;
        self.safety.holds(node, meta.id.index, content)?;
        let after = self.disk_time(node);
        self.schedule.after(after, Happening::Save(node, life));
        Ok(())
    }

    fn finish_save(&mut self, node: NodeId, life: Life, saving: Saving) -> Result<(), Violation> {
        if let Err(error) = saving.writer.finish() {
            return self.snapshot_failed(node, &error);
        }
        let process = self.running(node);
        process.apply.applier.snapshot_ended();
        if let Err(error) = process.snapshots.prune() {
            return self.stop_failed(node, &error);
        }
        let id = saving.meta.id;
        self.note(|| format!("{node} saved snapshot {id}"));
        self.give(node, life, DriverInput::SnapshotSaved(saving.meta))
    }

    /// A node's disk has refused a snapshot.
    pub(super) fn snapshot_failed(&mut self, node: NodeId, error: &StorageError) -> Result<(), Violation> {
        self.mark_if_full(node, Mark::SnapshotFull);
        self.stop_failed(node, error)
    }

    /// Has the leader's machine propose what time calls for, when it is time by its clock.
    pub(super) fn upkeep(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let tick = self.profile.node.tick;
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let Some(passed) = process.upkeep_due(tick) else {
            return Ok(());
        };
        let outbox = process.outbox.clone();
        for command in process.apply.applier.machine_mut().upkeep(passed) {
            let command = Replicated::encode(command).expect("upkeep is about sessions, and has bytes");
            let proposer = Caller {
                request: self.clients.nobody_asks(node),
                outbox: outbox.clone(),
            };
            self.give(node, life, DriverInput::Propose { command, proposer })?;
        }
        Ok(())
    }

    /// What a task applies must be what was committed, in order.
    fn check_task(&mut self, node: NodeId, task: &Task) -> Result<(), Violation> {
        let mut entries = task.entries.iter().peekable();
        if let Some(meta) = &task.restore {
            while let Some(entry) = entries.next_if(|entry| entry.id.index <= meta.id.index) {
                self.safety.applying(node, entry)?;
            }
            self.safety.restoring(node, meta.id)?;
        }
        entries.try_for_each(|entry| self.safety.applying(node, entry))
    }

    /// The process of a node that is known to run.
    fn running(&mut self, node: NodeId) -> &mut Process {
        self.server(node)
            .process
            .as_mut()
            .expect("the caller has just seen it run")
    }
}

enum Saved {
    More,
    GivenUp,
    Whole(Box<Saving>),
}

impl Process {
    /// Writes the next chunk of the snapshot being made.
    fn write_chunk(&mut self, max_bytes: usize) -> Result<Saved, StorageError> {
        let Some(saving) = &mut self.apply.saving else {
            return Ok(Saved::GivenUp);
        };
        match self.apply.applier.snapshot_chunk(max_bytes) {
            Ok(Some(chunk)) => {
                saving.writer.write_chunk(&chunk)?;
                Ok(Saved::More)
            }
            Ok(None) => Ok(self
                .apply
                .saving
                .take()
                .map_or(Saved::GivenUp, |saving| Saved::Whole(Box::new(saving)))),
            Err(_) => {
                // The view was closed by a received snapshot.
                self.apply.saving = None;
                self.apply.applier.snapshot_ended();
                Ok(Saved::GivenUp)
            }
        }
    }
}
