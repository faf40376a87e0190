//! Routes: ladders per domain, cause and override, and what is wrong with them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::document::{
    CauseRoute, DomainRoute, PolicyBody, RetryParameters, RoutingSection, RungEntry, RungMap,
};
use super::super::ladder::{Action, AfterCut, Ladder, Rung};
use super::super::routing::Routing;
use super::super::settings::{CachePolicy, Execution, Validation};
use super::report::{Report, suggestion};
use super::{DEFAULT_BODY, Known, braces, named, overrides, sections};
use crate::failure::{FailureCause, FailureDomain};

/// Rules of the default policy that answer what a policy leaves out begin with this.
pub(super) const INHERITED: &str = "default.";

/// What routes are compiled with.
pub(super) struct Context<'a> {
    pub(super) known: &'a Known<'a>,
    pub(super) execution: &'a Execution,
    pub(super) validation: &'a Validation,
    pub(super) cache: &'a CachePolicy,
    pub(super) body: &'a PolicyBody,
}

/// Rungs as written, checked but for what depends on the cause.
pub(super) struct Steps {
    /// The ladder but for the first waits of causes that have their own.
    general: Arc<Ladder>,
    /// First waits by cause of each rung, where they are not the policy's.
    bases: Vec<Option<BTreeMap<FailureCause, Duration>>>,
}

/// A rung; the waits of a retry are settled per cause.
struct Draft {
    rung: Rung,
    bases: Option<BTreeMap<FailureCause, Duration>>,
}

/// What a domain says: for the domain as a whole and for some of its causes.
#[derive(Default)]
pub(super) struct Domain {
    whole: Option<Steps>,
    causes: BTreeMap<FailureCause, Steps>,
}

pub(super) fn domain_route(
    routing: Option<&RoutingSection>,
    domain: FailureDomain,
) -> Option<&DomainRoute> {
    let routing = routing?;
    match domain {
        FailureDomain::Infrastructure => routing.infrastructure.as_ref(),
        FailureDomain::InputConstraint => routing.input_constraint.as_ref(),
        FailureDomain::OutputSemantic => routing.output_semantic.as_ref(),
        FailureDomain::PipelineLogic => routing.pipeline_logic.as_ref(),
    }
}

/// The routes of the default policy under the waits of a policy that says nothing of them, as
/// nearly every policy does; and these.
static INHERITED_ROUTES: LazyLock<(Execution, Vec<Domain>)> = LazyLock::new(|| {
    let body = PolicyBody::default();
    let context = Context {
        known: &Known::default(),
        execution: &sections::execution(&body, &mut Report::unheard()),
        validation: &Validation::default(),
        cache: &CachePolicy::default(),
        body: &body,
    };
    (context.execution.clone(), inherited(&context))
});

/// The routes of the default policy, which were checked when it was written.
fn inherited(context: &Context<'_>) -> Vec<Domain> {
    domains(context, DEFAULT_BODY.routing.as_ref(), INHERITED, "", &mut Report::unheard())
}

/// Whether the policy says nothing of what the inherited routes take from it.
fn waits_as_any(context: &Context<'_>) -> bool {
    let (execution, any) = (context.execution, &INHERITED_ROUTES.0);
    attempts_given(context).is_none()
        && execution.backoff == any.backoff
        && execution.backoff_bases == any.backoff_bases
}

fn attempts_given(context: &Context<'_>) -> Option<u32> {
    context.body.execution.as_ref()?.max_attempts
}

/// The whole routing: the document's own routes over those of the default policy.
pub(super) fn routing(context: &Context<'_>, report: &mut Report<'_>) -> Routing {
    let own = domains(context, context.body.routing.as_ref(), "", "/routing", report);
    let compiled;
    let default = if waits_as_any(context) {
        &INHERITED_ROUTES.1
    } else {
        compiled = inherited(context);
        &compiled
    };
    let retried = overrides::retried_causes(context, report);
    let overrides = overrides::overrides(context, report);
    Routing::of(
        |cause| {
            let at = cause.domain() as usize;
            let steps = own[at].of(cause).or_else(|| default[at].of(cause));
            let mut ladder = steps.map_or_else(
                || Arc::new(Ladder { rule: Arc::from("default"), rungs: Vec::new() }),
                |steps| steps.ladder(cause, context.execution),
            );
            let is_general = !own[at].causes.contains_key(&cause);
            if let Some(retried) = &retried
                && is_general
                && cause.domain() == FailureDomain::Infrastructure
                && !retried.contains(&cause)
            {
                let is_retry = |rung: &Rung| rung.action() == Action::RetryWithBackoff;
                if ladder.rungs.iter().any(is_retry) {
                    let ladder = Arc::make_mut(&mut ladder);
                    ladder.rungs.retain(|rung| !is_retry(rung));
                    ladder.rule = Arc::from("execution.infra_errors");
                }
            }
            ladder
        },
        overrides.into_iter(),
    )
}

impl Domain {
    pub(super) fn of(&self, cause: FailureCause) -> Option<&Steps> {
        self.causes.get(&cause).or(self.whole.as_ref())
    }
}

impl Steps {
    fn new(rule: &str, drafts: Vec<Draft>) -> Self {
        let (rungs, bases) = drafts.into_iter().map(|draft| (draft.rung, draft.bases)).unzip();
        Self { general: Arc::new(Ladder { rule: Arc::from(rule), rungs }), bases }
    }

    /// The ladder for one cause, with its own first waits. Causes without share one.
    pub(super) fn ladder(&self, cause: FailureCause, execution: &Execution) -> Arc<Ladder> {
        let mut ladder = Arc::clone(&self.general);
        for (at, bases) in self.bases.iter().enumerate() {
            let bases = bases.as_ref().unwrap_or(&execution.backoff_bases);
            if let Rung::RetryWithBackoff { .. } = self.general.rungs[at]
                && let Some(base) = bases.get(&cause)
                && let Rung::RetryWithBackoff { backoff, .. } =
                    &mut Arc::make_mut(&mut ladder).rungs[at]
            {
                backoff.base = (*base).min(backoff.max);
            }
        }
        ladder
    }
}

/// Every domain of a routing section, in the order of [`FailureDomain::ALL`].
pub(super) fn domains(
    context: &Context<'_>,
    routing: Option<&RoutingSection>,
    prefix: &str,
    path: &str,
    report: &mut Report<'_>,
) -> Vec<Domain> {
    FailureDomain::ALL
        .iter()
        .map(|domain| {
            let Some(route) = domain_route(routing, *domain) else {
                return Domain::default();
            };
            let mut compiler = Routes { context, domain: *domain, cause: None, report };
            let rule = format!("{prefix}routing.{}", domain.key());
            compiler.domain(route, &rule, &format!("{path}/{}", domain.key()))
        })
        .collect()
}

/// Compiles the routes of one domain.
struct Routes<'a, 'r, 'd> {
    context: &'a Context<'a>,
    domain: FailureDomain,
    cause: Option<FailureCause>,
    report: &'r mut Report<'d>,
}

impl Routes<'_, '_, '_> {
    fn domain(&mut self, route: &DomainRoute, rule: &str, path: &str) -> Domain {
        let whole = self.steps(route.action.as_ref(), route.ladder.as_deref(), rule, path);
        let mut causes = BTreeMap::new();
        for (name, route) in route.causes.iter().flatten() {
            let path = format!("{path}/causes/{name}");
            let Some(cause) = self.cause(name, &path) else { continue };
            self.cause = Some(cause);
            let CauseRoute { action, ladder } = route;
            let rule = format!("{rule}.causes.{name}");
            match self.steps(action.as_ref(), ladder.as_deref(), &rule, &path) {
                Some(steps) => {
                    causes.insert(cause, steps);
                }
                None => self.report.error(
                    &path,
                    "the cause has no route",
                    Some("give it an `action` or a `ladder`".to_owned()),
                ),
            }
            self.cause = None;
        }
        Domain { whole, causes }
    }

    /// A cause of this domain.
    fn cause(&mut self, name: &str, path: &str) -> Option<FailureCause> {
        let own = FailureCause::ALL.iter().filter(|cause| cause.domain() == self.domain);
        match name.parse::<FailureCause>() {
            Ok(cause) if cause.domain() == self.domain => Some(cause),
            Ok(cause) => {
                let home = cause.domain().key();
                self.report.key_error(
                    path,
                    format!("`{name}` is a cause of {home}"),
                    Some(format!("move it to `routing.{home}.causes`")),
                );
                None
            }
            Err(error) => {
                let near = suggestion(name, own.map(|cause| cause.name()));
                self.report.key_error(path, error.to_string(), near);
                None
            }
        }
    }

    /// The rungs of a route; none if it says nothing.
    fn steps(
        &mut self,
        action: Option<&RungEntry>,
        ladder: Option<&[RungEntry]>,
        rule: &str,
        path: &str,
    ) -> Option<Steps> {
        let (entries, is_ladder) = match (action, ladder) {
            (None, None) => return None,
            (Some(one), None) => (std::slice::from_ref(one), false),
            (None, Some(all)) => (all, true),
            (Some(_), Some(all)) => {
                self.report.key_error(
                    &format!("{path}/action"),
                    "`action` and `ladder` are two ways to say the same",
                    Some("make it the first rung of the ladder".to_owned()),
                );
                (all, true)
            }
        };
        let place = |at: usize| {
            if is_ladder { format!("{path}/ladder/{at}") } else { format!("{path}/action") }
        };
        let mut rungs = Vec::with_capacity(entries.len());
        let mut ends_at: Option<&'static str> = None;
        for (at, entry) in entries.iter().enumerate() {
            let Some(draft) = self.rung(entry, &place(at)) else { continue };
            if let Some(before) = ends_at {
                self.report.warning(
                    &place(at),
                    format!("is never reached: `{before}` before it is always feasible"),
                    Some("remove it, or move it up".to_owned()),
                );
            } else if draft.rung.always_feasible() {
                ends_at = Some(draft.rung.action().name());
            }
            rungs.push(draft);
        }
        if is_ladder && entries.is_empty() {
            self.report.error(
                &format!("{path}/ladder"),
                "the ladder has no rung",
                Some("name at least one action".to_owned()),
            );
        } else if is_ladder && ends_at.is_none() && !rungs.is_empty() {
            self.report.warning(
                &format!("{path}/ladder"),
                "the ladder has no end: where no rung is feasible the step fails without an alert",
                Some(
                    "end it with `alert_and_degrade`, `reject_and_fix` or `alert_and_halt`"
                        .to_owned(),
                ),
            );
        }
        Some(Steps::new(rule, rungs))
    }

    fn rung(&mut self, entry: &RungEntry, path: &str) -> Option<Draft> {
        let of_name;
        let (map, path) = match entry {
            RungEntry::Name(name) => {
                of_name = named::by_name(*name);
                (&of_name, path.to_owned())
            }
            RungEntry::Full(map) => {
                let given = named::keys(map);
                let [action] = given.as_slice() else {
                    let message = if given.is_empty() {
                        "a rung names an action"
                    } else {
                        "a rung is one action"
                    };
                    self.report.error(path, message, Some("write one key".to_owned()));
                    return None;
                };
                (&**map, format!("{path}/{}", action.name()))
            }
        };
        let draft = self.draft(map, &path)?;
        self.check(&draft.rung, &path);
        Some(draft)
    }

    fn draft(&mut self, map: &RungMap, path: &str) -> Option<Draft> {
        let rung = if let Some(raw) = &map.retry_with_backoff {
            return Some(self.retry(raw, path));
        } else if let Some(raw) = &map.repair_output {
            Rung::RepairOutput { accept_lossy: raw.accept_lossy.unwrap_or(false) }
        } else if let Some(raw) = &map.reprompt_with_errors {
            Rung::RepromptWithErrors {
                attempts: raw.attempts.unwrap_or(1),
                after_cut: AfterCut {
                    raise_max_output_tokens: raw.raise_max_output_tokens,
                    continue_cut: raw.continue_cut.unwrap_or(false),
                },
            }
        } else if let Some(raw) = &map.fallback_to_target {
            let path = format!("{path}/targets");
            if raw.targets.as_ref().is_some_and(Vec::is_empty) {
                let message = "the list has no target";
                let advice = "leave it out to take the step's own list";
                self.report.error(&path, message, Some(advice.to_owned()));
            }
            let names = raw.targets.as_deref();
            let targets = sections::targets(names, &path, self.context.known, self.report);
            Rung::FallbackToTarget { targets, attempts: raw.attempts.unwrap_or(1) }
        } else if let Some(raw) = &map.fallback_to_cache {
            Rung::FallbackToCache { max_age: raw.max_age.map(|age| age.0) }
        } else if let Some(raw) = &map.fallback_to_template {
            let template = raw.template.clone().filter(|value| *value != Value::Null);
            braces::told(template.as_ref(), &format!("{path}/template"), self.report);
            Rung::FallbackToTemplate { template: template.map(Arc::new) }
        } else if let Some(raw) = &map.accept_partial {
            let defaults: Map<String, Value> = raw.defaults.clone().unwrap_or_default();
            Rung::AcceptPartial { defaults: Arc::new(defaults) }
        } else if map.alert_and_degrade.is_some() {
            Rung::AlertAndDegrade
        } else if let Some(raw) = &map.reject_and_fix {
            let message = raw.message.clone().map(Value::from);
            braces::told(message.as_ref(), &format!("{path}/message"), self.report);
            Rung::RejectAndFix { message: raw.message.as_deref().map(Arc::from) }
        } else {
            map.alert_and_halt.as_ref()?;
            Rung::AlertAndHalt
        };
        Some(Draft { rung, bases: None })
    }

    fn retry(&mut self, raw: &RetryParameters, path: &str) -> Draft {
        let execution = self.context.execution;
        let given = attempts_given(self.context);
        // With a single attempt there is no room for a retry; the check below says so.
        let attempts = raw.attempts.unwrap_or(given.map_or(2, |most| (most - 1).max(1)));
        let mut bases = None;
        let mut backoff = execution.backoff;
        if let Some(own) = &raw.backoff {
            let path = format!("{path}/backoff");
            backoff = sections::backoff(own, backoff, &path, self.report);
            // A first wait given for the rung holds for all its causes but those it names.
            let mut own_bases = match own.base {
                Some(_) => BTreeMap::new(),
                None => execution.backoff_bases.clone(),
            };
            if let Some(causes) = &own.causes {
                let path = format!("{path}/causes");
                own_bases.extend(sections::cause_bases(causes, &path, self.report));
            }
            bases = Some(own_bases);
        }
        let also_when_not_retryable = raw.also_when_not_retryable.unwrap_or(false);
        let rung = Rung::RetryWithBackoff { attempts, backoff, also_when_not_retryable };
        Draft { rung, bases }
    }

    /// What is wrong with a rung in its place.
    fn check(&mut self, rung: &Rung, path: &str) {
        let action = rung.action();
        if !action.suits(self.domain) {
            let message = format!(
                "`{action}` works on an output, and failures of {} have none",
                self.domain.key()
            );
            let advice = "it belongs under `output_semantic`".to_owned();
            self.report.error(path, message, Some(advice));
        }
        if let Some(why) = self.never_feasible(rung) {
            self.report.warning(path, format!("`{action}` is never feasible here: {why}"), None);
        }
        if let Rung::RepromptWithErrors { after_cut, .. } = rung
            && *after_cut != AfterCut::default()
            && self.cause.is_some_and(|cause| cause != FailureCause::TruncatedOutput)
        {
            let message = "only an answer that its token limit cut can be asked for in this way";
            let advice = "it belongs under the cause `truncated_output`".to_owned();
            self.report.warning(path, message, Some(advice));
        }
        if let Rung::RetryWithBackoff { attempts, .. } | Rung::RepromptWithErrors { attempts, .. } =
            rung
        {
            let most = self.context.execution.max_attempts;
            if most > 1 && *attempts >= most {
                let message = format!(
                    "{attempts} extra calls never fit: a step makes at most {most} calls, the \
                     first included"
                );
                self.report.warning(path, message, None);
            }
        }
    }

    fn never_feasible(&self, rung: &Rung) -> Option<&'static str> {
        match rung {
            Rung::RetryWithBackoff { also_when_not_retryable: false, .. }
                if !self.is_ever_retryable() =>
            {
                Some("a retry cannot cure these failures")
            }
            Rung::RetryWithBackoff { .. } | Rung::RepromptWithErrors { .. }
                if self.context.execution.max_attempts == 1 =>
            {
                Some("`execution.max_attempts` leaves no call after the first")
            }
            Rung::FallbackToCache { .. } if !self.context.cache.enabled => {
                Some("`cache.enabled` is false")
            }
            Rung::AcceptPartial { .. } if !self.context.validation.allow_partial_matches => {
                Some("`validation.allow_partial_matches` is false")
            }
            Rung::RetryWithBackoff { .. }
            | Rung::RepairOutput { .. }
            | Rung::RepromptWithErrors { .. }
            | Rung::FallbackToTarget { .. }
            | Rung::FallbackToCache { .. }
            | Rung::FallbackToTemplate { .. }
            | Rung::AcceptPartial { .. }
            | Rung::AlertAndDegrade
            | Rung::RejectAndFix { .. }
            | Rung::AlertAndHalt => None,
        }
    }

    fn is_ever_retryable(&self) -> bool {
        match self.cause {
            Some(cause) => cause.retryable(),
            None => FailureCause::ALL
                .iter()
                .any(|cause| cause.domain() == self.domain && cause.retryable()),
        }
    }
}
