//! Admission: how many runs are under way, who waits, and when none is taken in any more.
//!
//! Runs of one caller take turns with those of the others, and a caller may have a limit of its
//! own. What cannot begin in time is refused with the time to come again: an answer at once is
//! worth more than one after the caller's patience.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::resilience::fair_queue::{FairQueue, Joined, Priority};
use crate::resilience::pressure::Pressure;

/// Limits of the service as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// Most runs under way.
    pub runs_max: usize,
    /// Most runs of one caller under way; no limit of its own if absent.
    pub runs_per_caller_max: Option<usize>,
    /// Most runs that wait to begin.
    pub queue_max: usize,
    /// Longest wait to begin.
    pub queue_timeout: Duration,
}

/// Why a run was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// As many runs are under way, and waiting, as may be.
    Full,
    /// Memory is short.
    MemoryShort,
}

/// Lets runs in. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    settings: AdmissionSettings,
    memory: AtomicU8,
    state: Mutex<State>,
}

struct State {
    running: usize,
    callers: HashMap<Arc<str>, usize>,
    queue: FairQueue<Waiter>,
}

struct Waiter {
    caller: Arc<str>,
    answer: oneshot::Sender<Permit>,
}

/// Leave for one run; given back when dropped.
pub struct Permit {
    admission: Admission,
    caller: Option<Arc<str>>,
}

impl Admission {
    /// Nobody in yet.
    pub fn new(settings: AdmissionSettings) -> Self {
        let state = State {
            running: 0,
            callers: HashMap::new(),
            queue: FairQueue::new(settings.queue_max),
        };
        let memory = AtomicU8::new(0);
        Self(Arc::new(Inner { settings, memory, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a run in, waiting for its turn until `deadline` at most.
    ///
    /// # Errors
    /// See [`NotAdmitted`].
    pub async fn enter(
        &self,
        caller: &Arc<str>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Permit, NotAdmitted> {
        let memory = self.memory();
        if memory == Pressure::Refuse {
            return Err(NotAdmitted::MemoryShort);
        }
        let settings = &self.0.settings;
        let (id, answered) = {
            let mut state = self.state();
            let goes_first = |waiter: &Waiter| may_begin(&state.callers, &waiter.caller, settings);
            if state.has_room(caller, settings) && state.queue.peek(goes_first).is_none() {
                state.begin(caller, settings);
                drop(state);
                return Ok(self.permit(caller.clone()));
            }
            if memory == Pressure::Shed {
                return Err(NotAdmitted::MemoryShort);
            }
            let (answer, answered) = oneshot::channel();
            let waiter = Waiter { caller: caller.clone(), answer };
            match state.queue.join(caller, priority, waiter) {
                Joined::Waits(id) => (id, answered),
                // Its answer is dropped with it, which tells it.
                Joined::InsteadOf(id, _) => (id, answered),
                Joined::Full(_) => return Err(NotAdmitted::Full),
            }
        };
        // Others in the queue may have no room of their own, while this one has.
        self.serve_queue();
        let _seat = Seat { admission: self, caller, priority, id };
        let until = deadline.min(Instant::now() + settings.queue_timeout);
        match timeout_at(until, answered).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(NotAdmitted::Full),
        }
    }

    fn permit(&self, caller: Arc<str>) -> Permit {
        Permit { admission: self.clone(), caller: Some(caller) }
    }

    /// Lets those in whose turn has come.
    fn serve_queue(&self) {
        let settings = &self.0.settings;
        let mut begun = Vec::new();
        {
            let mut state = self.state();
            while state.running < settings.runs_max {
                let State { callers, queue, .. } = &mut *state;
                let next = |waiter: &Waiter| may_begin(callers, &waiter.caller, settings);
                let Some(waiter) = queue.pop(next) else { break };
                state.begin(&waiter.caller, settings);
                begun.push(waiter);
            }
        }
        for Waiter { caller, answer } in begun {
            // Who has gone meanwhile drops the permit, which lets the next one in.
            let _ = answer.send(self.permit(caller));
        }
    }

    /// Tells how much memory is in use, of how much.
    pub fn note_memory(&self, used: u64, limit: u64) {
        let pressure = Pressure::of_memory(used, limit);
        let before = self.0.memory.swap(pressure as u8, Ordering::Relaxed);
        if before != pressure as u8 {
            tracing::warn!(used, limit, pressure = pressure.name(), "memory pressure has changed");
        }
    }

    fn memory(&self) -> Pressure {
        match self.0.memory.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Shed,
            _ => Pressure::Refuse,
        }
    }

    /// How hard-pressed the service is.
    pub fn pressure(&self) -> Pressure {
        let running = self.state().running;
        self.memory().max(Pressure::of_runs(running, self.0.settings.runs_max))
    }

    /// Runs under way, and runs that wait.
    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.queue.len())
    }
}

impl State {
    fn has_room(&self, caller: &Arc<str>, settings: &AdmissionSettings) -> bool {
        self.running < settings.runs_max && may_begin(&self.callers, caller, settings)
    }

    fn begin(&mut self, caller: &Arc<str>, settings: &AdmissionSettings) {
        self.running += 1;
        if settings.runs_per_caller_max.is_some() {
            *self.callers.entry(caller.clone()).or_default() += 1;
        }
    }

    fn end(&mut self, caller: &Arc<str>) {
        self.running = self.running.saturating_sub(1);
        if let Some(count) = self.callers.get_mut(caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.callers.remove(caller);
            }
        }
    }
}

fn may_begin(
    callers: &HashMap<Arc<str>, usize>,
    caller: &Arc<str>,
    settings: &AdmissionSettings,
) -> bool {
    let most = settings.runs_per_caller_max;
    most.is_none_or(|most| callers.get(caller).is_none_or(|count| *count < most))
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(caller) = self.caller.take() else { return };
        let mut state = self.admission.state();
        state.end(&caller);
        let somebody_waits = !state.queue.is_empty();
        drop(state);
        if somebody_waits {
            self.admission.serve_queue();
        }
    }
}

/// A place in the queue, left when dropped.
struct Seat<'a> {
    admission: &'a Admission,
    caller: &'a str,
    priority: Priority,
    id: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let left = self.admission.state().queue.leave(self.caller, self.priority, self.id);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: AdmissionSettings = AdmissionSettings {
        runs_max: 2,
        runs_per_caller_max: None,
        queue_max: 2,
        queue_timeout: Duration::from_secs(5),
    };

    async fn enter(admission: &Admission, caller: &str) -> Result<Permit, NotAdmitted> {
        let deadline = Instant::now() + Duration::from_secs(60);
        admission.enter(&caller.into(), Priority::Normal, deadline).await
    }

    #[tokio::test(start_paused = true)]
    async fn runs_wait_for_their_turn_and_not_for_ever() {
        let admission = Admission::new(SETTINGS);
        let first = enter(&admission, "a").await.unwrap();
        let _second = enter(&admission, "a").await.unwrap();
        let waits = admission.clone();
        let third = tokio::spawn(async move { enter(&waits, "a").await.map(drop) });
        tokio::task::yield_now().await;
        assert_eq!(admission.count(), (2, 1));
        drop(first);
        assert!(third.await.unwrap().is_ok());
        let _full = enter(&admission, "a").await.unwrap();
        let began = Instant::now();
        assert_eq!(enter(&admission, "a").await.err(), Some(NotAdmitted::Full));
        assert_eq!(began.elapsed(), SETTINGS.queue_timeout);
        assert_eq!(admission.count(), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_at_its_own_limit_does_not_hold_up_the_others() {
        let admission =
            Admission::new(AdmissionSettings { runs_per_caller_max: Some(1), ..SETTINGS });
        let noisy = enter(&admission, "noisy").await.unwrap();
        let waits = admission.clone();
        let waiting = tokio::spawn(async move { enter(&waits, "noisy").await.map(drop) });
        tokio::task::yield_now().await;
        let began = Instant::now();
        drop(enter(&admission, "quiet").await.unwrap());
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(noisy);
        assert!(waiting.await.unwrap().is_ok());
        assert_eq!(admission.count(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn short_memory_ends_waiting_first_and_then_all_new_runs() {
        let admission = Admission::new(SETTINGS);
        admission.note_memory(85, 100);
        assert_eq!(admission.pressure(), Pressure::Shed);
        let first = enter(&admission, "a").await.unwrap();
        let _second = enter(&admission, "a").await.unwrap();
        assert_eq!(enter(&admission, "a").await.err(), Some(NotAdmitted::MemoryShort));
        drop(first);
        admission.note_memory(95, 100);
        assert_eq!(enter(&admission, "a").await.err(), Some(NotAdmitted::MemoryShort));
        admission.note_memory(10, 100);
        assert!(enter(&admission, "a").await.is_ok());
    }
}
