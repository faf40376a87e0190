//! The live view of a run: a line for what has happened, a spinner for what is happening.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::show;
use crate::api::pb;
use crate::api::pb::run_event::Event;
use crate::api::pb::stream_step_response::Event as StepEvent;

/// Shows events as they come.
pub(super) struct Live {
    bars: MultiProgress,
    steps: HashMap<String, ProgressBar>,
    terminal: bool,
    quiet: bool,
}

impl Live {
    /// A view on standard error; nothing when `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, steps: HashMap::new(), terminal, quiet }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let _ = self.bars.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    /// Takes an event.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Started(run) => {
                let policy = run.policy.clone().unwrap_or_default();
                self.line(&format!(
                    "run {} of {} under policy {} version {}",
                    run.run_id, run.pipeline, policy.name, policy.version
                ));
            }
            Event::StepStarted(progress) => self.step_started(progress),
            Event::ElementsKnown(progress) => {
                self.line(&format!("  {}: {} elements", progress.step, progress.elements_total));
                let style = ProgressStyle::with_template(
                    "  {spinner} {prefix} [{bar:24}] {pos}/{len} {elapsed}",
                )
                .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = self.bars.add(ProgressBar::new(progress.elements_total.into()));
                bar.set_style(style.progress_chars("=> "));
                bar.set_prefix(progress.step.clone());
                bar.enable_steady_tick(std::time::Duration::from_millis(120));
                self.steps.insert(progress.step.clone(), bar);
            }
            Event::AttemptFailed(ended) => {
                if let Some(attempt) = &ended.attempt {
                    let place = place(&ended.step, ended.element);
                    let how = if attempt.called { "" } else { " (not called)" };
                    self.line(&format!(
                        "  {place}: attempt {} on {}{how}: {}",
                        attempt.number,
                        attempt.target,
                        show::attempt(attempt)
                    ));
                }
            }
            Event::StepEnded(result) => self.step_ended(result),
            Event::Ended(_) => self.clear(),
        }
    }

    fn step_started(&mut self, progress: &pb::StepProgress) {
        if progress.element.is_some() {
            return; // The bar of its step shows it.
        }
        let style = ProgressStyle::with_template("  {spinner} {msg} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style);
        bar.set_message(format!("{} on {}", progress.step, progress.target));
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        self.steps.insert(progress.step.clone(), bar);
    }

    fn step_ended(&mut self, result: &pb::StepResult) {
        let place = place(&result.step, result.element);
        self.line(&format!("  {place}: {}", show::step(result)));
        if result.element.is_some() {
            if let Some(bar) = self.steps.get(&result.step) {
                bar.inc(1);
            }
        } else if let Some(bar) = self.steps.remove(&result.step) {
            bar.finish_and_clear();
        }
    }

    /// Takes the spinners away.
    pub(super) fn clear(&mut self) {
        for (_, bar) in self.steps.drain() {
            bar.finish_and_clear();
        }
    }
}

/// The text of a streamed step on standard error, as it comes.
#[derive(Default)]
pub(super) struct LiveText {
    text: String,
}

impl LiveText {
    /// Takes an event.
    pub(super) fn event(&mut self, event: &StepEvent) {
        match event {
            StepEvent::Started(started) => {
                let policy = started.policy.clone().unwrap_or_default();
                eprintln!(
                    "run {} under policy {} version {}",
                    started.run_id, policy.name, policy.version
                );
            }
            StepEvent::Delta(delta) => {
                self.text.push_str(&delta.text);
                eprint!("{}", printable(&delta.text));
                let _ = std::io::stderr().flush();
            }
            StepEvent::Restarted(why) => {
                self.end();
                self.text.clear();
                let (failure, decision) = (why.failure.as_ref(), why.decision.as_ref());
                eprintln!(
                    "  the text above is void: {} → {}",
                    failure.map(show::cause).unwrap_or_default(),
                    decision.map(|decision| show::action(decision.action())).unwrap_or_default()
                );
            }
            StepEvent::Continued(why) => {
                self.end();
                let (failure, decision) = (why.failure.as_ref(), why.decision.as_ref());
                eprintln!(
                    "  the text above is gone on with: {} → {}",
                    failure.map(show::cause).unwrap_or_default(),
                    decision.map(|decision| show::action(decision.action())).unwrap_or_default()
                );
            }
            StepEvent::Completed(_) => {}
        }
    }

    /// Ends the line of the text.
    pub(super) fn end(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            eprintln!();
        }
    }

    /// Whether this very output stands on the terminal already, so that printing it where it
    /// belongs would only show it twice.
    pub(super) fn was_seen(&self, output: &str) -> bool {
        self.text == output && std::io::stderr().is_terminal() && std::io::stdout().is_terminal()
    }
}

/// A model's text cannot move the cursor or change colours.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

fn place(step: &str, element: Option<u32>) -> String {
    match element {
        Some(index) => format!("{step}[{index}]"),
        None => step.to_owned(),
    }
}
