//! What is left when something ends before its time: a caller goes away, an operator cancels a run,
//! a sibling halts it.
//!
//! Whatever is cancelled is cancelled by dropping it, so that nothing can hold it up. What it had
//! done until then is put here by the drop, to be told on its spans.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::attempt::Attempted;
use super::checks::{Candidate, Unusable};
use super::leave::Leave;
use super::reask::Reask;
use super::run::RunOutcome;
use super::step::{RunContext, StepContext};
use super::targets::Target;
use super::{Engine, RunRequest, attempt, finish};
use crate::exchange::Message;
use crate::journal::{AttemptRecord, Cancelled, RunRecord, RunState, StepReport};
use crate::store::memory::{RunHandle, cancel_if_running};

use std::sync::Arc;

/// Things that were dropped before their end. Takes a lock for those only.
#[derive(Debug)]
pub struct Abandoned<T>(Mutex<Vec<T>>);

impl<T> Default for Abandoned<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Abandoned<T> {
    /// Adds one.
    pub fn put(&self, one: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    /// Takes them all.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An attempt under way. Its record is outside of its future, and is left with the step when that
/// is dropped.
pub(super) struct Lane<'r, 'a> {
    pub(super) cx: &'r StepContext<'a>,
    pub(super) target: Arc<Target>,
    pub(super) record: &'r mut AttemptRecord,
    /// The target whose retry budget it has drawn on by itself.
    pub(super) payer: Option<Arc<Target>>,
    pub(super) is_over: bool,
    began: Instant,
}

impl<'r, 'a> Lane<'r, 'a> {
    pub(super) fn new(
        cx: &'r StepContext<'a>,
        target: Arc<Target>,
        record: &'r mut AttemptRecord,
    ) -> Self {
        Self { cx, target, record, payer: None, is_over: false, began: Instant::now() }
    }

    pub(super) async fn run(
        &mut self,
        messages: &[Message],
        asked: &Reask,
        leave: Leave,
        until: Instant,
    ) -> Result<Candidate, Box<Unusable>> {
        attempt::go(self.cx, &self.target, messages, asked, leave, until, self.record).await
    }

    /// The attempt has come to this.
    pub(super) fn end(&mut self, result: &Result<Candidate, Box<Unusable>>) {
        self.is_over = true;
        attempt::settle(&self.target, self.record, self.began, result);
    }

    /// Gives the attempt up for a faster one. What it used nobody has told; that its prompt was
    /// read is sure enough to count it.
    pub(super) fn give_up(&mut self, prompt_tokens: u64) {
        self.is_over = true;
        self.record.cancelled = Some(Cancelled::Outrun);
        self.record.duration = self.began.elapsed();
        if self.record.called {
            self.record.usage.input_tokens = prompt_tokens;
            self.record.cost_usd = self.target.price.cost(&self.record.usage);
            if !self.record.hedge {
                self.target.gate.took_longer_than(self.record.duration);
            }
        }
    }
}

impl Drop for Lane<'_, '_> {
    fn drop(&mut self) {
        if let Some(payer) = self.payer.take().filter(|_| !self.record.called) {
            payer.gate.put_back_retry(&self.cx.run.tenant);
        }
        if !self.is_over {
            self.record.cancelled = Some(Cancelled::WithItsRun);
            self.record.duration = self.began.elapsed();
            self.cx.abandoned.put(self.record.clone());
        }
    }
}

/// An attempt that has ended and is still judged, with the one beside it.
pub(super) struct Held<'r, 'a> {
    cx: &'r StepContext<'a>,
    pub(super) record: &'r mut AttemptRecord,
    beside: Option<Box<AttemptRecord>>,
    is_over: bool,
}

impl<'r, 'a> Held<'r, 'a> {
    pub(super) fn new(
        cx: &'r StepContext<'a>,
        record: &'r mut AttemptRecord,
        beside: Option<Box<AttemptRecord>>,
    ) -> Self {
        Self { cx, record, beside, is_over: false }
    }

    /// It is judged. Gives back the one beside it.
    pub(super) fn end(mut self) -> Option<Box<AttemptRecord>> {
        self.is_over = true;
        self.beside.take()
    }
}

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cx.abandoned.put(self.record.clone());
            self.beside.take().into_iter().for_each(|beside| self.cx.abandoned.put(*beside));
        }
    }
}

/// Makes one attempt, ending at `until` at the latest.
pub(super) async fn alone(
    cx: &StepContext<'_>,
    target: &Arc<Target>,
    messages: &[Message],
    asked: &Reask,
    (leave, number): (Leave, u32),
    until: Instant,
) -> Attempted {
    let mut record = attempt::begin(target, number, leave);
    let mut lane = Lane::new(cx, target.clone(), &mut record);
    let result = lane.run(messages, asked, leave, until).await;
    lane.end(&result);
    drop(lane);
    Attempted { record, result }
}

/// The record of a run under way.
pub(super) enum Source<'a> {
    /// Its call's own.
    Own(&'a mut RunRecord),
    /// One that others see.
    Kept(&'a RunHandle),
}

/// A run under way. Dropped before its end, it leaves the spans of what it has done.
pub(super) struct Underway<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a RunRequest,
    pub(super) run: &'a RunContext,
    pub(super) record: Source<'a>,
    pub(super) began: Instant,
    pub(super) is_over: bool,
}

impl Underway<'_> {
    /// Takes a step's report.
    pub(super) fn place(&mut self, index: usize, report: Arc<StepReport>) {
        match &mut self.record {
            Source::Own(record) => super::place(record, index, report),
            Source::Kept(handle) => handle.update(|record| super::place(record, index, report)),
        }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut record = match &self.record {
            Source::Own(record) => RunRecord::clone(record),
            Source::Kept(handle) => RunRecord::clone(&handle.record()),
        };
        finish(&mut record, cancelled());
        self.engine.export(self.request, self.run, &record, self.began);
    }
}

/// How a run ends that was cancelled.
pub(super) fn cancelled() -> RunOutcome {
    RunOutcome { output: None, failure: None, state: RunState::Cancelled }
}

/// Cancels a run when its carrier is dropped.
pub(super) struct CancelOnDrop<'a>(pub(super) &'a RunHandle);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        cancel_if_running(self.0);
    }
}
