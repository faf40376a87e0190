mod probes;

use super::*;
use crate::failure::FailureCause;
use crate::policy::Refusal;
use crate::resilience::adaptive::AdaptiveSettings;
use crate::resilience::rate_limit::RateLimitSettings;

fn settings() -> GateSettings {
    GateSettings {
        in_flight_max: 1,
        queue_max: 1,
        queue_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(60),
        ..GateSettings::default()
    }
}

fn gate_with(settings: GateSettings) -> Gate {
    let mut policy = GatePolicy::default();
    policy.breaker.open_jitter = 0.0;
    policy.breaker.ramp = Duration::ZERO;
    let gate = Gate::new("t".into(), settings);
    gate.follow(&policy);
    gate
}

fn gate() -> Gate {
    gate_with(settings())
}

fn of(caller: &str) -> Ask {
    Ask {
        caller: caller.into(),
        priority: Priority::Normal,
        tokens: 100,
        step: 7,
        is_fresh: true,
        has_alternative: false,
        remaining: Duration::from_secs(60),
        is_panic: false,
        awaits_probe: false,
    }
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn admit(gate: &Gate) -> Result<Ticket, Failure> {
    gate.admit(&of("me"), in_a_minute()).await
}

fn report(failure: Option<&Failure>) -> Report<'_> {
    Report {
        failure,
        ended_by_caller: false,
        first_token: None,
        total: Duration::from_millis(100),
        tokens: None,
    }
}

/// A call that fails like this, or works.
async fn call(gate: &Gate, cause: Option<FailureCause>) -> OutputVerdict {
    let failure = cause.map(|cause| Failure::new(cause, "x"));
    admit(gate).await.unwrap().settle(report(failure.as_ref()))
}

async fn call_with_hint(gate: &Gate, cause: FailureCause, hint: Option<Duration>) {
    let failure = Failure { retry_after: hint, ..Failure::new(cause, "x") };
    drop(admit(gate).await.unwrap().settle(report(Some(&failure))));
}

async fn refused(gate: &Gate) -> (FailureCause, Option<Duration>) {
    let failure = admit(gate).await.err().expect("refused");
    (failure.cause, failure.retry_after)
}

fn standing(gate: &Gate) -> (Option<Duration>, Option<Refusal>) {
    let standing = gate.standing(&"me".into(), 7);
    (standing.admits_in, standing.refusal)
}

const S: fn(u64) -> Duration = Duration::from_secs;

#[tokio::test(start_paused = true)]
async fn a_full_gate_queues_then_refuses() {
    let gate = gate();
    let ticket = admit(&gate).await.unwrap();
    let (second, third) = tokio::join!(admit(&gate), admit(&gate));
    assert_eq!(second.err().unwrap().detail, Some("queue_timeout"));
    assert_eq!(third.err().unwrap().detail, Some("queue_full"));
    drop(ticket);
    drop(admit(&gate).await.unwrap());
    let view = gate.view();
    assert_eq!((view.in_flight, view.queued, view.calls), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_free_goes_to_who_waits_and_back_if_nobody_does() {
    let gate = gate();
    let first = admit(&gate).await.unwrap();
    let waits = gate.clone();
    let waiting = tokio::spawn(async move { admit(&waits).await.map(drop) });
    tokio::task::yield_now().await;
    assert_eq!(gate.view().queued, 1);
    drop(first);
    assert!(waiting.await.unwrap().is_ok());
    // One who goes away in the moment of its turn leaves no place behind.
    let first = admit(&gate).await.unwrap();
    let waits = gate.clone();
    let waiting = tokio::spawn(async move { admit(&waits).await.map(drop) });
    tokio::task::yield_now().await;
    drop(first);
    waiting.abort();
    let _ = waiting.await;
    let view = gate.view();
    assert_eq!((view.in_flight, view.queued), (0, 0));
    drop(admit(&gate).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_hint_holds_back_every_caller_until_it_is_over() {
    let gate = gate();
    call_with_hint(&gate, FailureCause::RateLimited, Some(S(7))).await;
    assert_eq!(refused(&gate).await, (FailureCause::RateLimited, Some(S(7))));
    assert_eq!(standing(&gate), (Some(S(7)), Some(Refusal::CoolingDown)));
    tokio::time::advance(S(7)).await;
    assert!(admit(&gate).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_disables_until_enabled() {
    let gate = gate();
    drop(call(&gate, Some(FailureCause::Authentication)).await);
    assert_eq!(standing(&gate), (None, Some(Refusal::Disabled)));
    assert_eq!(refused(&gate).await.0, FailureCause::Authentication);
    gate.set_disabled(None);
    assert!(admit(&gate).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_shuts_until_its_reset_or_an_operator() {
    let gate = gate();
    call_with_hint(&gate, FailureCause::QuotaExhausted, Some(S(3_600))).await;
    assert_eq!(refused(&gate).await, (FailureCause::QuotaExhausted, Some(S(3_600))));
    tokio::time::advance(S(3_600)).await;
    call_with_hint(&gate, FailureCause::QuotaExhausted, None).await;
    tokio::time::advance(S(999_999)).await;
    assert_eq!(standing(&gate), (None, Some(Refusal::QuotaExhausted)));
    gate.set_disabled(None);
    assert!(admit(&gate).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn five_failures_open_the_breaker_and_probes_close_it() {
    let gate = gate();
    for _ in 0..5 {
        drop(call(&gate, Some(FailureCause::ServerError)).await);
    }
    assert_eq!(refused(&gate).await, (FailureCause::CircuitOpen, Some(S(5))));
    assert_eq!(standing(&gate), (Some(S(5)), Some(Refusal::BreakerOpen)));
    tokio::time::advance(S(5)).await;
    // A probe that is dropped gives its place back.
    drop(admit(&gate).await.unwrap());
    let probe = admit(&gate).await.unwrap();
    assert_eq!(refused(&gate).await, (FailureCause::CircuitOpen, None));
    drop(probe.settle(report(None)));
    drop(call(&gate, None).await);
    let view = gate.view();
    assert_eq!((view.breaker, view.calls), (BreakerState::Closed, 8));
    let told: Vec<_> = view.transitions.iter().map(|(_, one)| one.reason.to_string()).collect();
    assert_eq!(
        told,
        ["2 probes were successful", "its time open is over", "5 consecutive failures"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_sign_of_illness_does_not_open_it() {
    let gate = gate();
    let harmless = [
        FailureCause::InvalidRequest,
        FailureCause::ContentFiltered,
        FailureCause::MalformedJson,
        FailureCause::ModelNotFound,
        FailureCause::Conflict,
    ];
    for cause in harmless.iter().cycle().take(40) {
        drop(call(&gate, Some(*cause)).await);
    }
    // Neither do callers that go away or run out of time.
    let failure = Failure::new(FailureCause::RequestTimeout, "x");
    for _ in 0..40 {
        let ended_by_caller = Report { ended_by_caller: true, ..report(Some(&failure)) };
        drop(admit(&gate).await.unwrap().settle(ended_by_caller));
        drop(admit(&gate).await.unwrap());
    }
    assert_eq!((gate.view().breaker, standing(&gate).1), (BreakerState::Closed, None));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_sent_away_when_the_breaker_opens() {
    let gate = gate_with(GateSettings { queue_max: 10, ..settings() });
    for _ in 0..4 {
        drop(call(&gate, Some(FailureCause::Connect)).await);
    }
    let last = admit(&gate).await.unwrap();
    let waits = gate.clone();
    let waiting = tokio::spawn(async move { admit(&waits).await.err().unwrap().cause });
    tokio::task::yield_now().await;
    let failure = Failure::new(FailureCause::Connect, "x");
    drop(last.settle(report(Some(&failure))));
    let began = Instant::now();
    assert_eq!(waiting.await.unwrap(), FailureCause::CircuitOpen);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_operators_word_is_the_last() {
    let gate = gate();
    gate.command(Command::HoldOpen);
    tokio::time::advance(S(3_600)).await;
    assert_eq!(standing(&gate), (None, Some(Refusal::BreakerOpen)));
    gate.command(Command::MetricsOnly);
    for _ in 0..20 {
        drop(call(&gate, Some(FailureCause::ServerError)).await);
    }
    assert_eq!(gate.view().breaker, BreakerState::MetricsOnly);
    gate.command(Command::Release);
    assert_eq!(gate.view().breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn unusable_outputs_send_a_step_elsewhere_only_where_there_is_an_elsewhere() {
    let gate = gate();
    for _ in 0..5 {
        call(&gate, None).await.tell(false);
    }
    let elsewhere = Ask { has_alternative: true, ..of("me") };
    let failure = gate.admit(&elsewhere, in_a_minute()).await.err().unwrap();
    assert_eq!(failure.detail, Some("output_breaker_open"));
    assert_eq!(standing(&gate).1, Some(Refusal::OutputBreakerOpen));
    drop(admit(&gate).await.unwrap());
    let other_step = Ask { step: 8, ..elsewhere };
    drop(gate.admit(&other_step, in_a_minute()).await.unwrap());
    let view = gate.view();
    assert_eq!((view.outputs_open, view.breaker), (1, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn panic_passes_an_open_breaker_and_not_a_disabled_target() {
    let gate = gate();
    gate.command(Command::Trip);
    let panic = Ask { is_panic: true, ..of("me") };
    drop(gate.admit(&panic, in_a_minute()).await.unwrap());
    gate.set_disabled(Some(Disabled { reason: "x".into(), credential: false }));
    assert!(gate.admit(&panic, in_a_minute()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_makes_wait_or_refuses_what_would_wait_too_long() {
    let rate_limit = RateLimitSettings { requests_per_minute: Some(6), ..Default::default() };
    let gate = gate_with(GateSettings {
        rate_limit,
        in_flight_max: 100,
        queue_max: 10,
        queue_timeout: S(15),
        ..settings()
    });
    let began = Instant::now();
    drop(admit(&gate).await.unwrap());
    // The second waits its ten seconds; the third would wait twenty.
    let (second, third) = tokio::join!(admit(&gate), admit(&gate));
    assert!(second.is_ok());
    assert_eq!(third.err().unwrap().detail, Some("queue_timeout"));
    assert_eq!(began.elapsed(), S(15));
    let impatient = gate.admit(&of("me"), Instant::now() + S(1)).await.err().unwrap();
    assert_eq!(impatient.detail, Some("rate_limit_reached"));
    assert_eq!(impatient.retry_after, Some(S(5)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_learns_that_it_is_the_rate_now() {
    let rate_limit = RateLimitSettings { requests_per_minute: Some(60), ..Default::default() };
    let gate = gate_with(GateSettings { rate_limit, queue_max: 10, ..settings() });
    for _ in 0..9 {
        drop(admit(&gate).await.unwrap());
    }
    let last_of_the_burst = admit(&gate).await.unwrap();
    let waits = gate.clone();
    let waiting = tokio::spawn(async move { admit(&waits).await.map(drop) });
    tokio::task::yield_now().await;
    let began = Instant::now();
    drop(last_of_the_burst);
    assert!(waiting.await.unwrap().is_ok());
    assert!(began.elapsed() >= S(1) && began.elapsed() < S(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_noisy_caller_waits_behind_itself() {
    let gate = gate_with(GateSettings {
        in_flight_max: 2,
        in_flight_per_caller_max: Some(1),
        queue_max: 4,
        ..settings()
    });
    let mut noisy = Vec::new();
    for _ in 0..6 {
        let gate = gate.clone();
        noisy.push(tokio::spawn(async move {
            let ticket = gate.admit(&of("noisy"), in_a_minute()).await?;
            tokio::time::sleep(S(1)).await;
            drop(ticket);
            Ok::<(), Failure>(())
        }));
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    drop(gate.admit(&of("quiet"), in_a_minute()).await.unwrap());
    assert_eq!(began.elapsed(), Duration::ZERO, "its place is free");
    let (mut through, mut turned_away) = (0, 0);
    for call in noisy {
        match call.await.unwrap() {
            Ok(()) => through += 1,
            Err(failure) => {
                assert_eq!(failure.cause, FailureCause::BulkheadFull);
                turned_away += 1;
            }
        }
    }
    assert_eq!((through, turned_away), (5, 1));
    assert_eq!((gate.view().in_flight, gate.view().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_adaptive_limit_and_the_ramp_bound_what_is_in_flight() {
    let adaptive = AdaptiveSettings { min: 2, max: 100, slow_factor: 3.0 };
    let gate = gate_with(GateSettings {
        in_flight_max: 100,
        adaptive: Some(adaptive),
        queue_max: 0,
        ..settings()
    });
    assert_eq!(gate.view().in_flight_max, 10);
    let failure = Failure::new(FailureCause::Overloaded, "x");
    drop(admit(&gate).await.unwrap().settle(report(Some(&failure))));
    assert_eq!(gate.view().in_flight_max, 7);

    let gate = Gate::new("t".into(), GateSettings { in_flight_max: 100, ..settings() });
    gate.command(Command::Trip);
    gate.command(Command::Release);
    assert_eq!(gate.view().in_flight_max, 10);
    tokio::time::advance(S(5)).await;
    assert_eq!(gate.view().in_flight_max, 55);
    tokio::time::advance(S(5)).await;
    assert_eq!(gate.view().in_flight_max, 100);
}

#[tokio::test(start_paused = true)]
async fn budgets_fill_with_fresh_calls_and_follow_the_policy() {
    let gate = gate();
    let me: Arc<str> = "me".into();
    let left = |gate: &Gate| (0..100).filter(|_| gate.withdraw_retry(&me)).count();
    for _ in 0..10 {
        drop(call(&gate, None).await);
        drop(gate.admit(&Ask { is_fresh: false, ..of("me") }, in_a_minute()).await.unwrap());
    }
    assert_eq!(left(&gate), 8, "a floor of six, and a fifth of ten");
    assert!(!gate.standing(&me, 7).retry_budget && gate.standing(&me, 7).reprompt_budget);
    gate.put_back_retry(&me);
    assert_eq!(left(&gate), 1);
    let mut policy = GatePolicy::default();
    policy.retry_budget.floor_per_second = 1.0;
    gate.follow(&policy);
    assert_eq!(left(&gate), 30);
    assert_eq!((0..100).filter(|_| gate.withdraw_reprompt()).count(), 8);
}

#[tokio::test(start_paused = true)]
async fn the_usual_time_of_a_call_is_known_after_some() {
    let gate = gate();
    for _ in 0..5 {
        assert_eq!(gate.likely_duration(), None);
        drop(call(&gate, None).await);
    }
    tokio::time::advance(S(1)).await;
    let usual = gate.likely_duration().unwrap();
    assert!(usual >= Duration::from_millis(100) && usual < Duration::from_millis(120));
    // Who has less time goes elsewhere, if there is an elsewhere.
    let short = Ask { remaining: Duration::from_millis(50), ..of("me") };
    drop(gate.admit(&short, in_a_minute()).await.unwrap());
    let elsewhere = Ask { has_alternative: true, ..short };
    let failure = gate.admit(&elsewhere, in_a_minute()).await.err().unwrap();
    assert_eq!(failure.detail, Some("cannot_finish_in_time"));
}
